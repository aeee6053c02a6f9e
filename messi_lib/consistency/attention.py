"""One seam for attention: everything that attends goes through `attention(q, k, v)`.

The operator expects `(batch, heads, tokens, head_dim)`: the last two axes attend, all before
them are batch. The predecessor of this project passed `(batch, tokens, heads, head_dim)`, so its
attention ran over the heads and no pixel ever saw another (post-mortem 1, notebook 03); and it
asked for the flash kernel with `with sdp_kernel(...) and autocast():`, which enters only the
second context (post-mortem 2). Both are tested against in tests/consistency/test_attention.py.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}

# None: PyTorch chooses. `use_backend` sets it; tests go through every backend that runs.
_forced: str | None = None
_warned: set[str] = set()


@contextlib.contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Force one backend of `scaled_dot_product_attention` inside the `with` block.

    Args:
        name: a key of `BACKENDS`, or None to let PyTorch choose.

    Raises:
        ValueError: an unknown name. A backend that cannot run raises PyTorch's RuntimeError at the
            first call, instead of falling back silently.
    """
    global _forced
    if name is not None and name not in BACKENDS:
        raise ValueError(f"unknown attention backend {name!r}: use one of {', '.join(BACKENDS)}")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v over tokens.

    Args:
        q: `(B, H, N, D)`; k, v: `(B, H, M, D)`. Any head size D, any float dtype.

    Returns:
        `(B, H, N, D)` in the dtype of `q`.
    """
    # The fused kernels refuse tensors whose last axis is strided, and the slow one would step in.
    q, k, v = (t if t.stride(-1) == 1 else t.contiguous() for t in (q, k, v))
    if _forced is None:
        if q.is_cuda and q.dtype == torch.float32 and not torch.is_autocast_enabled("cuda"):
            _warn_once(
                "slow attention: fp32 on a GPU has no flash kernel; "
                "train with bf16 autocast or convert the model to half precision"
            )
        return F.scaled_dot_product_attention(q, k, v)
    with sdpa_kernel(BACKENDS[_forced]):
        return F.scaled_dot_product_attention(q, k, v)


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, stacklevel=3)


def backend_report(device: torch.device | None = None) -> tuple[str, str]:
    """(backend, reason): which backend attention runs on this machine, found by asking, not by
    guessing.

    On a GPU the backends are tried one by one, in the order in which PyTorch prefers them, with a
    half-precision input of the UNet's layout.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if _forced is not None:
        return _forced, "forced by use_backend"
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    q = torch.randn(1, 2, 64, 64, device=device, dtype=dtype)
    for name in (
        ("cudnn", "flash", "efficient", "math") if device.type == "cuda" else ("flash", "math")
    ):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch explains every refusal at length
                with sdpa_kernel(BACKENDS[name]):
                    F.scaled_dot_product_attention(q, q, q)
        except RuntimeError:
            continue
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        return name, f"first of PyTorch's backends that accepts {str(dtype)[6:]} on {where}"
    return "none", "scaled_dot_product_attention runs with no backend here"


class QKVAttention(nn.Module):
    """Self-attention on packed channels, the layout of openai/consistency_models.

    The channels of the `(B, 3 H D, S)` input are ordered "(three h d)": the first third holds the
    queries of all heads, then come all keys, then all values.
    """

    def __init__(self, num_heads: int):
        super().__init__()
        self.num_heads = num_heads

    def forward(self, qkv: Tensor) -> Tensor:
        """(B, 3 H D, S) -> (B, H D, S)"""
        # Cut along the last axis, so that the backward pass joins the three without transposing.
        q, k, v = (
            rearrange(part, "b s (h d) -> b h s d", h=self.num_heads)
            for part in qkv.transpose(1, 2).chunk(3, dim=2)
        )
        return rearrange(attention(q, k, v), "b h s d -> b (h d) s")
