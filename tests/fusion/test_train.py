import dataclasses

import pytest
import torch
from torch import nn

from messi_lib.consistency.denoiser import build_denoiser
from messi_lib.fusion.conditioned import ConditionedDenoiser
from messi_lib.fusion.study import held_out_losses, paired_bootstrap
from messi_lib.fusion.train import blank, context_latents, fusion_loss, train_fusion
from messi_lib.profiles import ConsistencyConfig, FusionConfig, SegmentationConfig, preset
from messi_lib.runs import Run
from messi_lib.segmentation.model import PersonSegmenter
from tests.consistency.toys import tiny_denoiser

CONFIG = preset(FusionConfig, "smoke", inner_dim=16, level=1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def photos(n=6, size=16):
    images = torch.rand(n, 3, size, size, generator=generator(1)) * 2 - 1
    hole = torch.zeros(n, 1, size, size, dtype=torch.bool)
    hole[:, :, size // 4 : 3 * size // 4, size // 3 : 2 * size // 3] = True
    return images, hole


def segmenter() -> PersonSegmenter:
    torch.manual_seed(0)
    return PersonSegmenter(preset(SegmentationConfig, "smoke"))


def conditioned(latent_channels, seed=0) -> ConditionedDenoiser:
    denoiser = tiny_denoiser()
    torch.manual_seed(seed)
    return ConditionedDenoiser(denoiser, latent_channels, inner_dim=16)


# --- the condition ------------------------------------------------------------------------------


def test_blanked_photos_keep_their_surroundings_and_lose_the_person():
    images, hole = photos()
    seen = blank(images, hole)
    kept = ~hole.expand_as(images)
    assert torch.equal(seen[kept], images[kept])
    for image, region, result in zip(images, hole[:, 0], seen):
        for channel, out in zip(image, result):
            mean = channel[~region].mean().expand(int(region.sum()))
            torch.testing.assert_close(out[region], mean)
    everything = torch.ones_like(hole)
    assert torch.equal(blank(images, everything), torch.zeros_like(images))
    with pytest.raises(ValueError, match="hole must be bool"):
        blank(images, hole.float())
    with pytest.raises(ValueError, match="hole must be bool"):
        blank(images, hole[:1])


@pytest.mark.parametrize("inside", ["noise", "nan", "huge"])
def test_latents_do_not_depend_on_the_pixels_inside_the_hole(inside):
    images, hole = photos()
    other = torch.randn(images.shape, generator=generator(5))
    if inside != "noise":
        other = torch.full_like(images, float("nan") if inside == "nan" else 1e6)
    changed = torch.where(hole, other, images)
    model = segmenter()
    latents = context_latents(model, images, hole, 1)
    assert torch.equal(context_latents(model, changed, hole, 1), latents)
    outside = torch.where(hole, images, -images)
    assert not torch.equal(context_latents(model, outside, hole, 1), latents)


def test_latents_are_the_encoders_maps_whatever_the_batch_and_the_mode():
    images, hole = photos()
    model = segmenter().train()
    channels, sides = model.encoder.channels, (16, 8, 4, 2)
    for level in range(4):
        latents = context_latents(model, images, hole, level)
        assert latents.shape == (6, channels[level], sides[level], sides[level])
        assert latents.dtype == torch.float32 and not latents.requires_grad
        pieces = context_latents(model, images, hole, level, batch=4)
        torch.testing.assert_close(pieces, latents, atol=1e-5, rtol=1e-4)
    assert model.training
    with pytest.raises(ValueError, match="level=4"):
        context_latents(model, images, hole, 4)


# --- training -----------------------------------------------------------------------------------


def test_untrained_adapters_do_not_change_the_loss():
    images, _ = photos()
    latents = torch.randn(6, 24, 4, 4, generator=generator(2))
    made = conditioned(24)
    with torch.no_grad():
        conditional = fusion_loss(made, images, latents, generator())
        assert torch.equal(conditional, fusion_loss(made, images, None, generator()))
    assert conditional.shape == (6,)


def test_the_loss_takes_the_generators_noise_levels_and_last_stage():
    images, _ = photos()
    made = conditioned(24)

    def loss(stage=None, **changes):
        made.denoiser.config = dataclasses.replace(tiny_denoiser().config, **changes)
        with torch.no_grad():
            return fusion_loss(made, images, None, generator(), stage=stage)

    first = loss()
    assert made.denoiser.config.ect_stages == 2 and torch.equal(first, loss(stage=1))
    for name, value in (
        ("ect_stages", 5), ("ect_p_mean", 0.5), ("ect_p_std", 1.0), ("ect_huber_c", 0.3)
    ):  # fmt: skip
        assert not torch.equal(loss(**{name: value}), first), name


def test_training_changes_the_adapters_only_and_resumes_exactly(tmp_path):
    images, _ = photos(8)
    latents = torch.randn(8, 24, 4, 4, generator=generator(2))
    made = conditioned(24)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    whole = train_fusion(Run("w", CONFIG, folder=tmp_path / "w"), CONFIG, made, images, latents,
                         quiet=True)  # fmt: skip
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("denoiser."), name

    class Killed(Exception):
        pass

    def kill(line, model, ema):
        if line["step"] >= 4:
            raise Killed

    run = Run("p", CONFIG, folder=tmp_path / "p")
    with pytest.raises(Killed):
        train_fusion(run, CONFIG, conditioned(24), images, latents, on_log=kill, quiet=True)
    parts = train_fusion(run, CONFIG, conditioned(24), images, latents, quiet=True)
    for name, value in whole.ema.items():
        assert torch.equal(value, parts.ema[name]), name


def test_the_control_gets_other_photos_latents(tmp_path):
    images, _ = photos(8)
    latents = torch.arange(8.0)[:, None, None, None].expand(8, 24, 4, 4)
    seen = {}

    for shuffled in (False, True):
        made = conditioned(24)
        pairs = seen[shuffled] = set()
        original = made.condition

        def spy(latent, pairs=pairs, original=original):
            pairs.update(int(z) for z in latent[:, 0, 0, 0])
            return original(latent)

        made.condition = spy
        config = dataclasses.replace(CONFIG, steps=1, batch=4)
        run = Run("c", folder=tmp_path / str(shuffled))
        train_fusion(run, config, made, images, latents, shuffled=shuffled, quiet=True)
    assert seen[True] == {(index - 1) % 8 for index in seen[False]}  # the same images in the step
    with pytest.raises(ValueError, match="8 images but 7 latents"):
        train_fusion(Run("x", folder=tmp_path / "x"), CONFIG, conditioned(24), images, latents[1:])


def test_true_latents_beat_shuffled_ones_where_they_tell_the_answer(tmp_path):
    """Photos are bright on the left or on the right, latents say where: under noise that helps."""
    n, learnt = 112, slice(0, 64)
    held_out = slice(64, n)
    bright = torch.where(torch.rand(n, generator=generator(7)) < 0.5, 0.7, -0.7)
    half = torch.where(torch.arange(16) < 8, 1.0, -1.0) * bright[:, None, None, None]
    images = half.expand(n, 3, 16, 16) + 0.05 * torch.randn(n, 3, 16, 16, generator=generator(8))
    feature = torch.randn(24, generator=generator(9))[None, :, None, None]
    latents = (feature * half[..., ::8]).expand(n, 24, 2, 2)
    config = dataclasses.replace(CONFIG, steps=80, batch=8, lr=3e-3, clip=1.0, log_every=80,
                                 save_every=80, stage=0)  # fmt: skip
    losses = {}
    for shuffled in (False, True):
        torch.manual_seed(0)
        denoiser = build_denoiser(preset(ConsistencyConfig, "smoke", ect_p_mean=1.0, ect_p_std=1.0))
        nn.init.normal_(denoiser.unet.out[2].weight, std=0.1)  # or nothing would reach the output
        nn.init.zeros_(denoiser.unet.input_blocks[0][0].weight)  # it sees the condition only
        made = ConditionedDenoiser(denoiser, 24, inner_dim=16)
        run = Run("s", config, folder=tmp_path / str(shuffled))
        train_fusion(run, config, made, images[learnt], latents[learnt], shuffled=shuffled,
                     quiet=True)  # fmt: skip
        photos_and_latents = images[held_out], latents[held_out]
        losses[shuffled] = held_out_losses(made, *photos_and_latents, stage=0, draws=2)
    difference = paired_bootstrap(losses[False], losses[True])
    assert difference.clear and difference.mean < 0, difference


def test_arms_see_the_same_levels_and_noise():
    images, _ = photos(9)
    made = conditioned(24)
    latents = torch.randn(9, 24, 4, 4, generator=generator(2))
    plain = held_out_losses(made, images, None, draws=2, batch=4)
    assert torch.equal(held_out_losses(made, images, latents, draws=2, batch=4), plain)
    assert not torch.equal(held_out_losses(made, images, None, draws=2, batch=4, seed=1), plain)
