import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from messi_lib.consistency.attention import use_backend
from messi_lib.fusion.adapters import (
    TokenCrossAttention,
    cross_attention_flops,
    position_encoding,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def adapter(channels=32, latent=24, inner=16, heads=2, seed=0, zero=True):
    torch.manual_seed(seed)
    made = TokenCrossAttention(channels, latent, inner, heads)
    if not zero:
        nn.init.normal_(made.out.weight, std=0.1)
    return made


@pytest.mark.parametrize("height, width, rows, columns", [(8, 8, 4, 4), (4, 6, 3, 5), (1, 1, 7, 2)])
def test_shapes_of_maps_that_do_not_match(height, width, rows, columns):
    block = adapter(zero=False)
    h = torch.randn(2, 32, height, width, generator=generator())
    latent = torch.randn(2, 24, rows, columns, generator=generator(1))
    k, v = block.keys_values(latent)
    assert k.shape == v.shape == (2, 2, rows * columns, 8)
    assert block(h, (k, v)).shape == h.shape


def test_equals_attention_written_out():
    block = adapter(zero=False)
    h = torch.randn(1, 32, 2, 3, generator=generator())
    latent = torch.randn(1, 24, 4, 2, generator=generator(1))
    with torch.no_grad():
        out = block(h, block.keys_values(latent))
        q = block.q(block.norm(h).flatten(2).transpose(1, 2)[0])  # (6, 16)
        k, v = block.kv(block.latent_norm(latent.flatten(2).transpose(1, 2)[0])).chunk(2, dim=1)
        read = []
        for head in (slice(0, 8), slice(8, 16)):
            qh = q[:, head] + position_encoding(2, 3, 8)
            kh = k[:, head] + position_encoding(4, 2, 8)
            read.append((qh @ kh.T / math.sqrt(8)).softmax(1) @ v[:, head])
        expected = h + block.out(torch.cat(read, 1)).T.reshape(1, 32, 2, 3)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


def test_starts_as_the_identity_bit_for_bit_and_yet_learns():
    block = adapter()
    h = torch.randn(2, 32, 4, 4, generator=generator())
    latent = torch.randn(2, 24, 3, 3, generator=generator(1))
    out = block(h, block.keys_values(latent))
    assert torch.equal(out, h)
    (out * torch.randn(out.shape, generator=generator(2))).sum().backward()
    moved = {name for name, p in block.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"out.weight", "out.bias"}


def test_after_one_step_every_parameter_has_a_gradient():
    block = adapter()
    h = torch.randn(2, 32, 4, 4, generator=generator())
    latent = torch.randn(2, 24, 3, 3, generator=generator(1))
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (block(h, block.keys_values(latent)) - 1).square().mean().backward()
        optimizer.step()
    assert all(p.grad.any() for p in block.parameters())


def test_one_condition_serves_a_batch_and_two_do_not_serve_three():
    block = adapter(zero=False)
    h = torch.randn(3, 32, 4, 4, generator=generator())
    k, v = block.keys_values(torch.randn(1, 24, 3, 3, generator=generator(1)))
    together = block(h, (k, v))
    repeated = block(h, (k.repeat(3, 1, 1, 1), v.repeat(3, 1, 1, 1)))
    torch.testing.assert_close(together, repeated, atol=1e-6, rtol=1e-6)
    with pytest.raises(ValueError, match="2 conditions for 3 images"):
        block(h, (k.repeat(2, 1, 1, 1), v.repeat(2, 1, 1, 1)))


def test_position_encodings_of_different_grids_agree_where_their_cells_do():
    coarse = position_encoding(4, 5, 16).reshape(4, 5, 16)
    fine = position_encoding(12, 15, 16).reshape(12, 15, 16)
    torch.testing.assert_close(fine[1::3, 1::3], coarse, atol=1e-5, rtol=1e-5)
    assert (fine[0::3, 0::3] - coarse).abs().max() > 0.1


def test_position_encoding_tells_all_cells_apart():
    encoding = position_encoding(16, 16, 16)
    distance = torch.cdist(encoding, encoding) + 10 * torch.eye(256)
    assert distance.min() > 0.05
    with pytest.raises(ValueError, match="multiple of 4"):
        position_encoding(4, 4, 6)


def test_every_head_knows_rows_and_columns():
    """Encoded before the split, the first head would know only rows, the last only columns."""
    block = adapter(inner=32, heads=2)
    nn.init.zeros_(block.kv.weight)  # what is left of a key is its position
    k, _ = block.keys_values(torch.zeros(1, 24, 4, 4))
    keys = k[0].reshape(2, 4, 4, 16)
    for head in keys:
        assert (head[0, 0] - head[3, 0]).abs().max() > 0.1  # another row
        assert (head[0, 0] - head[0, 3]).abs().max() > 0.1  # another column


def test_the_order_of_tokens_does_not_matter_but_their_place_does():
    block = adapter(zero=False)
    h = torch.randn(1, 32, 4, 4, generator=generator())
    latent = torch.randn(1, 24, 3, 3, generator=generator(1))
    k, v = block.keys_values(latent)
    order = torch.randperm(9, generator=generator(2))
    torch.testing.assert_close(
        block(h, (k[:, :, order], v[:, :, order])), block(h, (k, v)), atol=1e-6, rtol=1e-6
    )
    turned = block(h, block.keys_values(latent.flip(-1)))
    assert (turned - block(h, (k, v))).abs().max() > 1e-3


@pytest.mark.parametrize("inner, heads", [(12, 2), (16, 3), (20, 4)])
def test_a_width_that_cannot_hold_positions_is_refused(inner, heads):
    with pytest.raises(ValueError, match=f"multiple of 4 \\* heads = {4 * heads}"):
        TokenCrossAttention(32, 24, inner, heads)


@pytest.mark.parametrize("sizes", [(4, 6, 32, 24, 16), (8, 2, 64, 8, 32)])
def test_cost_formula_equals_what_torch_counts(sizes):
    side, rows, channels, latent, inner = sizes
    block = adapter(channels, latent, inner)
    h, condition = torch.randn(1, channels, side, side), torch.randn(1, latent, rows, rows)
    with use_backend("math"), FlopCounterMode(display=False) as counter:
        block(h, block.keys_values(condition))
    parts = cross_attention_flops(side**2, channels, rows**2, latent, inner)
    assert counter.get_total_flops() == sum(parts.values())


def test_cost_of_the_founding_idea():
    """Notes, section 5.2: GFLOP of one block at 128x128x512 with latents of 32x32x192."""

    def total(queries, tokens):
        return sum(cross_attention_flops(queries, 512, tokens, 192, 512).values()) / 1e9

    assert total(128**2, 128**2) == pytest.approx(573.4, abs=0.1)  # latents interpolated up
    assert total(128**2, 32**2) == pytest.approx(51.9, abs=0.1)  # native tokens
    assert total(32**2, 32**2) == pytest.approx(3.6, abs=0.05)  # and queries from the 32x32 map
