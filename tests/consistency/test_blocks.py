"""What is rearranged for CPUs gives what the plain layers give, and so do its gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from messi_lib.consistency.blocks import (
    AttentionBlock,
    GroupNorm32,
    ResBlock,
    pointwise,
    upsample_conv,
)


def maps(channels: int = 64, size: int = 8, n: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (2 * torch.randn(n, channels, size, size, generator=generator) + 0.5).requires_grad_()


def same(ours, plain, x: Tensor, parameters, tolerance: float = 2e-5) -> None:
    """Outputs, and gradients of input and parameters."""
    results = []
    for function in (ours, plain):
        out = function(x)
        wave = torch.linspace(-1, 1, out.numel()).view_as(out)
        results.append((out, *torch.autograd.grad((out * wave).sum(), [x, *parameters])))
    for a, b in zip(*results):
        assert ((a - b).abs().max() / b.abs().max()).item() < tolerance


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_a_convolution_after_upsampling_is_done_on_the_small_map(size):
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 32, 3, padding=1)
    same(
        lambda x: upsample_conv(x, conv),
        lambda x: conv(F.interpolate(x, scale_factor=2, mode="nearest")),
        maps(size=size),
        list(conv.parameters()),
    )


def test_a_pointwise_convolution_is_a_matrix_product():
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 48, 1)
    same(lambda x: pointwise(x, conv), conv, maps(), list(conv.parameters()))


def test_adagn_is_the_norm_then_scale_and_shift():
    torch.manual_seed(0)
    norm = GroupNorm32(64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    given = torch.randn(3, 128, requires_grad=True)

    def plain(x):
        scale, shift = given[:, :, None, None].chunk(2, dim=1)
        return F.group_norm(x, 32, norm.weight, norm.bias) * (1 + scale) + shift

    parameters = [norm.weight, norm.bias, given]
    same(lambda x: norm(x, scale_shift=given), plain, maps(), parameters)
    last = maps().detach().to(memory_format=torch.channels_last).requires_grad_()
    same(lambda x: norm(x, scale_shift=given), plain, last, parameters)


@pytest.mark.parametrize("resample", [None, "up", "down"])
@pytest.mark.parametrize("scale_shift", [False, True])
def test_channels_last_changes_nothing(resample, scale_shift):
    torch.manual_seed(0)
    block = ResBlock(64, 32, 0.0, 96, scale_shift, resample)
    nn.init.normal_(block.out_layers[3].weight, std=0.05)
    attend = AttentionBlock(96, 1, 32)
    nn.init.normal_(attend.proj_out.weight, std=0.05)
    x, emb = maps().detach(), torch.randn(3, 32)
    with torch.no_grad():
        plain = attend(block(x, emb))
        other = attend(block(x.to(memory_format=torch.channels_last), emb))
    torch.testing.assert_close(plain, other, rtol=1e-4, atol=1e-4)


def test_under_autocast_maps_stay_in_half_precision():
    """No fp32 copy of a map is kept for the backward pass, and the numbers are near."""
    torch.manual_seed(0)
    block, attend = ResBlock(64, 32, 0.0, 64, True), AttentionBlock(64, 1, 32)
    nn.init.normal_(block.out_layers[3].weight, std=0.05)
    nn.init.normal_(attend.proj_out.weight, std=0.05)
    x, emb = maps(size=16).detach(), torch.randn(3, 32)
    plain, kept = attend(block(x, emb)), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = attend(block(x.bfloat16(), emb))
    large = {t.dtype for t in kept if t.numel() >= x.numel()}
    assert mixed.dtype == torch.bfloat16 and large == {torch.bfloat16}
    torch.testing.assert_close(mixed.float(), plain, rtol=0.1, atol=0.15)
