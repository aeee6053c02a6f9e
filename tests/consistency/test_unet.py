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


def trained(**changes):
    """As `small`, without zeros: every branch counts."""
    torch.manual_seed(0)
    unet = small(resblock_updown=True, use_scale_shift_norm=True, **changes)
    for parameter in unet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return unet


def test_the_fixture_in_channels_last():
    unet, entry = network("tiny")
    x = entry["x"].contiguous(memory_format=torch.channels_last)
    close(unet.to(memory_format=torch.channels_last)(x, entry["t"]), entry["out"])


def test_autocast_is_close_and_trains():
    unet = trained()
    x, t = torch.randn(2, 3, 16, 16), torch.ones(2)
    expected = unet(x, t)
    with torch.autocast("cpu", torch.bfloat16):
        out = unet(x, t)
    close(out.float(), expected, 0.05)
    out.float().square().mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in unet.parameters())


def test_extra_is_added_to_the_time_embedding():
    unet = trained()
    x, t, extra = torch.randn(2, 3, 16, 16), torch.ones(2), torch.randn(2, 128)
    plain = unet(x, t)
    assert torch.equal(unet(x, t, extra=torch.zeros(2, 128)), plain)
    out = unet(x, t, extra=extra)
    assert not torch.allclose(out, plain)
    unet.time_embed.register_forward_hook(lambda module, args, emb: emb + extra)
    assert torch.equal(unet(x, t), out)


def gradients(unet, x, t):
    """Output and gradients; one seed, so that dropout draws the same masks."""
    torch.manual_seed(1)
    out = unet(x, t)
    unet.zero_grad()
    out.square().mean().backward()
    return [out.detach(), *(p.grad.clone() for p in unet.parameters())]


@pytest.mark.parametrize("rates", [(1,), (2,), (1, 2)])
def test_recomputing_changes_neither_output_nor_gradients_nor_names(rates):
    plain, recomputing = trained(dropout=0.5), trained(dropout=0.5, checkpoint_rates=rates)
    recomputing.load_state_dict(plain.state_dict(), strict=True)
    x, t = torch.randn(2, 3, 16, 16), torch.ones(2)
    for one, two in zip(gradients(plain, x, t), gradients(recomputing, x, t)):
        assert torch.equal(one, two)


def kept_bytes(unet, x, t):
    """Bytes that the backward pass of one call keeps, besides the parameters."""
    own = {p.untyped_storage().data_ptr() for p in unet.parameters()}
    kept = {}  # by storage: several layers keep the same map

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # alive: no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        unet(x, t)
    return sum(size for size, _ in kept.values())


def test_recomputing_keeps_less_and_every_rate_counts():
    x, t = torch.randn(2, 3, 16, 16), torch.ones(2)
    sizes = {
        rates: kept_bytes(trained(checkpoint_rates=rates), x, t)
        for rates in [(), (1,), (2,), (1, 2)]
    }
    assert sizes[1, 2] < sizes[(1,)] < sizes[(2,)] < sizes[()]
    assert sizes[1, 2] < 0.4 * sizes[()]


def test_inject_is_called_once_per_block_when_recomputing():
    unet = trained(checkpoint_rates=(1, 2))
    names = []

    def inject(name, h):
        names.append(name)
        return h + 1

    unet(torch.randn(2, 3, 16, 16), torch.ones(2), inject=inject).sum().backward()
    assert len(names) == len(set(names)) == len(unet.input_blocks) + 1 + len(unet.output_blocks)

