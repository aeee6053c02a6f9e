import dataclasses

import pytest
import torch

from messi_lib.consistency.interchange import (
    from_diffusers,
    load_openai,
    save_pipeline,
    to_diffusers,
)
from messi_lib.consistency.sampling import sample_multistep
from messi_lib.profiles import ConsistencyConfig

from .reference import close, fixture, network
from .toys import tiny_denoiser

NETWORK_FIELDS = (
    "image_size", "model_channels", "channel_mult", "num_res_blocks", "attention_resolutions",
    "num_head_channels", "use_scale_shift_norm", "resblock_updown",
)  # fmt: skip
NETWORKS = {
    "scale_shift": dict(use_scale_shift_norm=True, resblock_updown=True),
    "plain": dict(use_scale_shift_norm=False, resblock_updown=True),
    "convolutions": dict(use_scale_shift_norm=True, resblock_updown=False),
    "everywhere": dict(attention_resolutions=(1, 2, 4), num_res_blocks=2),
}


def denoiser_of(name: str, **changes):
    settings = dict(
        image_size=16, patch=1, gate=False, model_channels=32, channel_mult=(1, 1, 2),
        num_head_channels=16, attention_resolutions=(2, 4),
    )  # fmt: skip
    return tiny_denoiser(3, **(settings | NETWORKS[name] | changes)).eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_in_diffusers_gives_the_same_output_and_comes_back(name):
    pytest.importorskip("diffusers")
    denoiser = denoiser_of(name)
    model, scheduler = to_diffusers(denoiser)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([-300.0, 700.0])
    with torch.no_grad():
        ours = denoiser.unet(x, t)
        close(model(x, t).sample, ours)
        back = from_diffusers(model, scheduler)
        assert torch.equal(back.unet(x, t), ours)
    for name in (*NETWORK_FIELDS, "dropout", "sigma_min", "sigma_max", "sigma_data"):
        assert getattr(back.config, name) == getattr(denoiser.config, name), name


def test_the_pipeline_of_diffusers_draws_the_same_images(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    denoiser = denoiser_of("scale_shift")
    save_pipeline(denoiser, tmp_path)
    with pytest.raises(ValueError, match="choose a new folder"):
        save_pipeline(denoiser, tmp_path)
    loaded = diffusers.ConsistencyModelPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    z = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    theirs = loaded(2, num_inference_steps=1, latents=z, output_type="pt").images
    ours = sample_multistep(denoiser, 2, [80.0], torch.Generator().manual_seed(5))
    torch.testing.assert_close(theirs, (ours + 1) / 2, atol=1e-4, rtol=0)


def test_checkpoints_of_the_public_code_load(tmp_path):
    entry = fixture()["configs"]["tiny"]
    torch.save(entry["state_dict"], tmp_path / "tiny.pt")
    kwargs = entry["kwargs"]
    config = ConsistencyConfig(**{name: kwargs[name] for name in NETWORK_FIELDS})
    denoiser = load_openai(tmp_path / "tiny.pt", config)
    with torch.no_grad():
        close(denoiser.unet(entry["x"], entry["t"]), entry["out"])
    state = network("tiny")[0].state_dict()
    torch.save({**state, "more": torch.zeros(1)}, tmp_path / "more.pt")
    with pytest.raises(ValueError, match="not in both.*more"):
        load_openai(tmp_path / "more.pt", config)
    with pytest.raises(ValueError, match="other shapes|not in both"):
        load_openai(tmp_path / "tiny.pt", dataclasses.replace(config, model_channels=64))
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        load_openai(tmp_path / "text.pt", config)
    with pytest.raises(FileNotFoundError, match="none.pt is missing"):
        load_openai(tmp_path / "none.pt", config)


def test_what_diffusers_cannot_express_is_refused():
    diffusers = pytest.importorskip("diffusers")
    with pytest.raises(ValueError, match="patch=2, gate=True"):
        to_diffusers(tiny_denoiser())
    model, _ = to_diffusers(denoiser_of("plain"))
    model.register_to_config(num_class_embeds=10)
    with pytest.raises(ValueError, match="num_class_embeds=10"):
        from_diffusers(model)
    other = diffusers.UNet2DModel(
        sample_size=16, block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), attention_head_dim=8,
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), add_attention=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="built otherwise"):
        from_diffusers(other)


def test_generators_for_holes_stay_here():
    for more in ({"condition_channels": 4}, {"condition_channels": 4, "channels": 4}):
        with pytest.raises(ValueError, match="draws into holes"):
            to_diffusers(tiny_denoiser(patch=1, gate=False, **more))
