import pytest
import torch

from messi_lib.consistency.attention import use_backend
from messi_lib.consistency.unet import UNet, timestep_embedding

from .reference import close, fixture, network

PUBLIC = {  # launch scripts of openai/consistency_models, and their parameter counts
    "imagenet64": (
        dict(
            image_size=64,
            model_channels=192,
            num_res_blocks=3,
            attention_resolutions=(2, 4, 8),
            channel_mult=(1, 2, 3, 4),
            num_classes=1000,
            use_scale_shift_norm=True,
        ),
        295_899_267,
    ),
    "lsun256": (
        dict(
            image_size=256,
            model_channels=256,
            num_res_blocks=2,
            attention_resolutions=(8, 16, 32),
            channel_mult=(1, 1, 2, 2, 4, 4),
        ),
        526_304_771,
    ),
}


@pytest.mark.parametrize("backend", [None, "math", "flash"])
@pytest.mark.parametrize("name", ["tiny", "lsun_like"])
def test_outputs_and_gradients_equal_the_public_code(name, backend):
    unet, entry = network(name)
    x = entry["x"].clone().requires_grad_()
    with use_backend(backend):
        out = unet(x, entry["t"])
    close(out, entry["out"])
    out.square().mean().backward()
    close(x.grad, entry["grad_x"])
    norms = entry["param_grad_norms"]
    largest = max(norms.values())
    for parameter, tensor in unet.named_parameters():
        assert abs(tensor.grad.norm().item() - norms[parameter]) < 1e-4 * max(
            norms[parameter], 1e-3 * largest
        ), parameter


def test_every_activation_equals_the_public_code():
    unet, entry = network("tiny")
    seen = {}

    def record(name, h):
        seen[name] = h
        return h

    unet(entry["x"], entry["t"], inject=record)
    assert seen.keys() == entry["acts"].keys()
    for name, expected in entry["acts"].items():
        close(seen[name], expected)


def test_state_dict_names_and_order_equal_the_public_code():
    for name in ("tiny", "lsun_like"):
        unet, entry = network(name)
        assert list(unet.state_dict()) == list(entry["state_dict"])


def test_time_embedding_equals_the_public_code():
    for entry in fixture()["configs"].values():
        close(timestep_embedding(entry["t"], entry["emb0"].shape[1]), entry["emb0"])


@pytest.mark.parametrize("name", PUBLIC)
def test_public_parameter_counts(name):
    arguments, count = PUBLIC[name]
    with torch.device("meta"):
        unet = UNet(
            in_channels=3, out_channels=3, num_head_channels=64, resblock_updown=True, **arguments
        )
    assert sum(p.numel() for p in unet.parameters()) == count


def small(**changes):
    arguments = dict(
        image_size=16,
        in_channels=3,
        model_channels=32,
        out_channels=3,
        num_res_blocks=1,
        attention_resolutions=(2,),
        channel_mult=(1, 2),
        num_head_channels=32,
    )
    return UNet(**{**arguments, **changes})


def test_starts_at_zero_output_and_resamples_by_convolution_without_updown():
    unet = small(resblock_updown=False)
    assert torch.equal(unet(torch.randn(2, 3, 16, 16), torch.ones(2)), torch.zeros(2, 3, 16, 16))
    assert any("op.weight" in name for name in unet.state_dict())


def test_labels_are_needed_exactly_with_classes():
    x, t = torch.randn(2, 3, 16, 16), torch.ones(2)
    with pytest.raises(ValueError, match="labels"):
        small()(x, t, torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="labels"):
        small(num_classes=3)(x, t)
    with_classes = small(num_classes=3)
    for parameter in with_classes.parameters():
        if not parameter.any():  # zero-initialised branches hide the embedding
            torch.nn.init.normal_(parameter, std=0.05)
    one, two = (with_classes(x, t, torch.full((2,), c)) for c in (0, 1))
    assert not torch.allclose(one, two)


def test_head_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="does not divide"):
        small(num_head_channels=48)
