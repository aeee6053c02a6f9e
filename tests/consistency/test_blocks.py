"""The faster arithmetic against the plain formulas, in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from messi_lib.consistency.blocks import (
    AttentionBlock,
    Downsample,
    GroupNorm32,
    ResBlock,
    Upsample,
    pointwise,
    upsample_conv,
)

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.double)


def randomised(module):
    """In double precision, and without the zeros of a fresh residual branch."""
    module.double()
    for i, parameter in enumerate(module.parameters()):
        parameter.data = 0.3 * random(*parameter.shape, seed=100 + i)
    return module


def assert_same(fast, plain, inputs, parameters):
    """Equal outputs, and equal gradients of a random weighting of them."""
    inputs = [x.requires_grad_() for x in inputs]
    wanted = [*inputs, *parameters]
    one, two = fast(*inputs), plain(*inputs)
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)
    weighting = random(*two.shape, seed=9)
    for a, b in zip(
        torch.autograd.grad((one * weighting).sum(), wanted),
        torch.autograd.grad((two * weighting).sum(), wanted),
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [1, 4, 5])
def test_convolution_after_upsampling_is_exact_up_to_the_border(layout, size):
    conv = randomised(nn.Conv2d(3, 5, 3, padding=1))
    x = random(2, 3, size, size + 1).contiguous(memory_format=layout)
    assert_same(
        lambda x: upsample_conv(x, conv),
        lambda x: conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3)),
        [x],
        conv.parameters(),
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pointwise_is_a_convolution(layout):
    conv = randomised(nn.Conv2d(6, 4, 1))
    x = random(2, 6, 3, 5).contiguous(memory_format=layout)
    assert_same(lambda x: pointwise(x, conv), lambda x: conv(x), [x], conv.parameters())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scale_and_shift_come_after_the_norm_and_in_this_order(layout):
    norm = randomised(GroupNorm32(64))
    x = random(3, 64, 4, 2).contiguous(memory_format=layout)

    def plain(x, scale_shift):
        scale, shift = scale_shift[:, :, None, None].split(64, dim=1)
        return F.group_norm(x, 32, norm.weight, norm.bias, norm.eps) * (1 + scale) + shift

    assert_same(
        lambda x, s: norm(x, scale_shift=s), plain, [x, random(3, 128, seed=1)], norm.parameters()
    )


@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_norm_in_half_precision_is_close_and_keeps_the_dtype(layout, scale_shift):
    norm = GroupNorm32(64)
    x = (random(2, 64, 8, 8) + 3).float().contiguous(memory_format=layout)
    emb = random(2, 128, seed=1).float() if scale_shift else None
    expected = norm(x, scale_shift=emb)
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(x.bfloat16(), scale_shift=emb)
    assert out.dtype == torch.bfloat16
    # bfloat16 rounds the input, 3 or more away from 0, in steps of 1/64 of a standard deviation
    torch.testing.assert_close(out.float(), expected, atol=0.06, rtol=0.02)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attention_block_is_norm_convolution_softmax_convolution(layout):
    block = randomised(AttentionBlock(64, num_heads=1, num_head_channels=16))
    x = random(2, 64, 3, 4).contiguous(memory_format=layout)

    def plain(x):
        qkv = block.qkv(F.group_norm(x, 32, block.norm.weight, block.norm.bias)).flatten(2)
        q, k, v = qkv.reshape(2, 3, 4, 16, 12).unbind(1)
        weights = (q.transpose(2, 3) @ k / 4).softmax(-1)
        h = (v @ weights.transpose(2, 3)).reshape(2, 64, 3, 4)
        return x + block.proj_out(h)

    assert_same(block, plain, [x], block.parameters())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize("resample", [None, "up", "down"])
def test_residual_block_is_the_formula_of_the_public_code(layout, scale_shift, resample):
    block = randomised(ResBlock(32, 8, 0.0, 64, scale_shift, resample))
    change = {
        None: lambda x: x,
        "up": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
        "down": lambda x: F.avg_pool2d(x, 2),
    }[resample]

    def norm(layer, x):
        return F.group_norm(x, 32, layer.weight, layer.bias)

    def plain(x, emb):
        h = block.in_layers[2](change(F.silu(norm(block.in_layers[0], x))))
        emb = block.emb_layers[1](F.silu(emb))[:, :, None, None]
        if scale_shift:
            h = norm(block.out_layers[0], h) * (1 + emb[:, :64]) + emb[:, 64:]
        else:
            h = norm(block.out_layers[0], h + emb)
        return block.skip_connection(change(x)) + block.out_layers[3](F.silu(h))

    x = random(2, 32, 4, 4).contiguous(memory_format=layout)
    assert_same(block, plain, [x, random(2, 8, seed=1)], block.parameters())


@pytest.mark.parametrize("use_conv", [False, True])
def test_resampling_doubles_and_halves(use_conv):
    x = torch.randn(1, 4, 6, 6)
    assert Upsample(4, use_conv)(x).shape == (1, 4, 12, 12)
    assert Downsample(4, use_conv)(x).shape == (1, 4, 3, 3)
