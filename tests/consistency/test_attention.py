import math

import pytest
import torch
from einops import rearrange

from messi_lib.consistency import attention as module
from messi_lib.consistency.attention import QKVAttention, attention, backend_report, use_backend


def softmax_reference(q, k, v):
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return weights @ v


@pytest.mark.parametrize("backend", [None, "math", "flash"])
@pytest.mark.parametrize("head_dim", [8, 24, 64])
def test_equals_softmax_with_every_backend_of_a_cpu(backend, head_dim):
    q, k, v = torch.randn(3, 2, 4, 10, head_dim, generator=torch.Generator().manual_seed(0))
    with use_backend(backend):
        torch.testing.assert_close(
            attention(q, k, v), softmax_reference(q, k, v), atol=1e-5, rtol=1e-5
        )


def test_keys_may_be_fewer_than_queries():
    q, k = torch.randn(1, 2, 16, 8), torch.randn(1, 2, 3, 8)
    torch.testing.assert_close(attention(q, k, k), softmax_reference(q, k, k), atol=1e-5, rtol=1e-5)


def old_layer(qkv: torch.Tensor, heads: int) -> torch.Tensor:
    """Post-mortem 1: the predecessor's layout, (b, s, h, d) instead of (b, h, s, d)."""
    qkv = rearrange(qkv, "b (three h d) s -> b s three h d", three=3, h=heads)
    q, k, v = (part.squeeze(2) for part in qkv.chunk(3, 2))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return rearrange(out, "b s h d -> b (h d) s")


def sees_other_pixels(layer) -> bool:
    qkv = torch.randn(1, 3 * 2 * 8, 16, generator=torch.Generator().manual_seed(1))
    changed = qkv.clone()
    changed[..., 1:] = torch.randn_like(changed[..., 1:])
    return not torch.equal(layer(qkv)[..., 0], layer(changed)[..., 0])


def test_a_pixel_sees_the_others_and_the_old_layer_was_blind():
    assert sees_other_pixels(QKVAttention(2))
    assert not sees_other_pixels(lambda qkv: old_layer(qkv, 2))


def test_channel_order_is_three_heads_dims():
    qkv = torch.randn(2, 3 * 2 * 8, 5, generator=torch.Generator().manual_seed(2))
    q, k, v = (part.reshape(2, 2, 8, 5).transpose(2, 3) for part in qkv.chunk(3, dim=1))
    expected = softmax_reference(q, k, v).transpose(2, 3).reshape(2, 16, 5)
    torch.testing.assert_close(QKVAttention(2)(qkv), expected, atol=1e-5, rtol=1e-5)


def test_a_forced_backend_is_left_with_its_block_even_after_an_error():
    with pytest.raises(RuntimeError), use_backend("math"):
        assert backend_report() == ("math", "forced by use_backend")
        raise RuntimeError
    assert module._forced is None


def test_forcing_reaches_the_operator():
    """Post-mortem 2: `with a and b:` enters only b, so nothing was ever forced."""
    q = torch.randn(1, 1, 4, 8)
    with use_backend("cudnn"), pytest.raises(RuntimeError):
        attention(q, q, q)  # no such kernel on a CPU: must fail, not fall back


def test_report_names_what_runs_and_unknown_names_are_refused():
    name, reason = backend_report(torch.device("cpu"))
    assert name in ("flash", "math") and "CPU" in reason
    with pytest.raises(ValueError, match="unknown attention backend"), use_backend("fast"):
        pass
