"""Cross-attention of the generator on segmentation latents whose shape is not its own.

The encoder has already computed maps such as 16x16x192; the UNet's are, say, 8x8x96. Neither has to
be resized to the other: in cross-attention the number and width of keys and values need not match
the queries' (Rombach et al. 2022, section 3.3). The latents enter as the tokens they are.

Keys and values do not depend on the noise level: they are computed once per photo and reused by all
sampling steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from ..consistency.attention import attention
from ..consistency.unet import GroupNorm32


def position_encoding(height: int, width: int, dim: int) -> Tensor:
    """2-D sine-cosine encoding: (height * width, dim), first of the row, then of the column.

    Coordinates are cell centres in [0, 1]: cells of two grids over the same window that have the
    same centre have the same encoding.

    Raises:
        ValueError: dim is no multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"dim={dim}: a 2-D position encoding needs a multiple of 4")
    frequencies = 2.0 ** torch.linspace(0, 4, dim // 4) * math.pi
    y, x = ((torch.arange(n) + 0.5) / n for n in (height, width))
    y, x = (axis[:, None] * frequencies for axis in (y, x))  # (height, dim/4), (width, dim/4)
    y = torch.cat([y.sin(), y.cos()], 1)[:, None].expand(-1, width, -1)
    x = torch.cat([x.sin(), x.cos()], 1)[None].expand(height, -1, -1)
    return torch.cat([y, x], 2).reshape(height * width, dim)


class Flops(NamedTuple):
    """Floating-point operations (2 per multiply-add): once per photo, and at every network call."""

    photo: float
    step: float


class Adapter(nn.Module, ABC):
    """How one block of the UNet reads latents. Subclasses are chosen by name in `modules`.

    What does not depend on the noise level belongs into `prepare`: it is computed once per photo.
    At first an adapter is the identity bit for bit, by one zero: of the last projection, or of a
    gate. Two would leave neither a gradient.
    """

    @abstractmethod
    def prepare(self, latent: Tensor) -> tuple:
        """(B, L, h, w) -> what `forward` needs of a photo."""

    @abstractmethod
    def forward(self, h: Tensor, prepared: tuple) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""

    @abstractmethod
    def opening(self) -> float:
        """How far the branch has opened: 0 at the start, and for good if the condition is of no
        use. |tanh(gate)| where there is a gate, else the last projection's root mean square."""

    @abstractmethod
    def flops(self, queries: int, tokens: int) -> Flops:
        """Operations for a map of `queries` places and latents of `tokens`; norms, resizing and
        additions are not counted."""


def for_each(condition: Tensor, images: int) -> Tensor:
    """One condition for all images, or one for each: (images, ...).

    Raises:
        ValueError: neither.
    """
    if len(condition) == images:
        return condition
    if len(condition) != 1:
        raise ValueError(
            f"{len(condition)} conditions for {images} images: give one, or one each"
        )
    return condition.expand(images, *condition.shape[1:])


class TokenCrossAttention(Adapter):
    """h + out(softmax(q k^T / sqrt(d)) v): queries of the UNet, keys and values of latent tokens.

    Args:
        channels: C of the UNet map (B, C, H, W).
        latent_channels: L of the encoder map (B, L, h, w).
        inner_dim: width of queries, keys and values; every head's share is a multiple of 4.
        zero: False for the study's control without a zero start.

    The output projection starts at zero and there is no gate beside it (both at zero would leave
    neither a gradient): at first the conditioned network equals the unconditional one bit for bit.
    """

    def __init__(
        self,
        channels: int,
        latent_channels: int,
        inner_dim: int = 64,
        heads: int = 2,
        *,
        zero: bool = True,
    ):
        super().__init__()
        if inner_dim % (4 * heads):
            raise ValueError(f"inner_dim={inner_dim} must be a multiple of 4 * heads = {4 * heads}")
        self.heads, self.inner_dim = heads, inner_dim
        self.channels, self.latent_channels = channels, latent_channels
        self.norm = GroupNorm32(channels)
        self.latent_norm = nn.LayerNorm(latent_channels)
        self.q = nn.Linear(channels, inner_dim, bias=False)
        self.kv = nn.Linear(latent_channels, 2 * inner_dim, bias=False)
        self.out = nn.Linear(inner_dim, channels)
        if zero:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def _placed(self, heads: Tensor, height: int, width: int) -> Tensor:
        # Every head gets rows and columns: added before the split, head 0 would know rows only.
        return heads + position_encoding(height, width, heads.shape[-1]).to(heads)

    def keys_values(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, h, w) -> keys and values, each (B, heads, h w, inner_dim / heads)."""
        tokens = self.latent_norm(rearrange(latent, "b c h w -> b (h w) c"))
        k, v = rearrange(self.kv(tokens), "b n (two h d) -> two b h n d", two=2, h=self.heads)
        return self._placed(k, *latent.shape[2:]), v

    def prepare(self, latent: Tensor) -> tuple:
        return self.keys_values(latent)

    def forward(self, h: Tensor, prepared: tuple) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W). One set of keys serves a batch of queries of any size.

        Raises:
            ValueError: neither one condition for all images nor one for each.
        """
        return h + self.read(h, *prepared[:2])

    def read(self, h: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What attention adds to a map (B, C, H, W)."""
        height, width = h.shape[2:]
        q = self.q(rearrange(self.norm(h), "b c h w -> b (h w) c"))
        q = self._placed(rearrange(q, "b n (h d) -> b h n d", h=self.heads), height, width)
        k, v = (for_each(t, len(q)) for t in (k, v))
        read = rearrange(attention(q, k, v), "b h n d -> b n (h d)")
        return rearrange(self.out(read), "b (h w) c -> b c h w", h=height, w=width)

    def opening(self) -> float:
        return float(self.out.weight.detach().square().mean().sqrt())

    def flops(self, queries: int, tokens: int) -> Flops:
        parts = cross_attention_flops(
            queries, self.channels, tokens, self.latent_channels, self.inner_dim
        )
        return Flops(parts["kv"], parts["q"] + parts["attention"] + parts["out"])


def cross_attention_flops(
    queries: int, channels: int, tokens: int, latent_channels: int, inner_dim: int
) -> dict[str, float]:
    """Floating-point operations (2 per multiply-add) of one cross-attention, by part.

    Interpolating the latents up to the queries' size sets `tokens = queries`, which is what makes
    it expensive; reading native tokens costs `tokens / queries` of its attention. Norms, softmax
    and additions are not counted.
    """
    return {
        "q": 2.0 * queries * channels * inner_dim,
        "kv": 4.0 * tokens * latent_channels * inner_dim,
        "attention": 4.0 * queries * tokens * inner_dim,
        "out": 2.0 * queries * inner_dim * channels,
    }
