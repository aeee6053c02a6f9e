"""Ways in which a block of the UNet can read latents, by name, behind one interface (`Adapter`).

Cross-attention on native tokens (`tokens`, in `adapters`) has cheaper and dearer relatives. They
differ in what is resized to what: the latents to the queries (`interpolate`), the queries to the
latents (`downsample`), both not at all (`tokens`), the latents to a few tokens (`pooled`); or they
do not attend: `additive` adds what lies at the same place, `film` knows one vector for the photo.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..profiles import unknown
from .adapters import Adapter, Flops, TokenCrossAttention, for_each


class InterpolatedCrossAttention(TokenCrossAttention):
    """Attention on latents that were resized to the queries' grid first: the dear way.

    Args:
        size: (H, W) of the UNet map.
    """

    def __init__(self, *args: int, size: tuple[int, int], zero: bool = True):
        super().__init__(*args, zero=zero)
        self.size = size

    def prepare(self, latent: Tensor) -> tuple:
        return self.keys_values(resized(latent, self.size))

    def flops(self, queries: int, tokens: int) -> Flops:
        return super().flops(queries, math.prod(self.size))


class DownsampledCrossAttention(TokenCrossAttention):
    """Queries averaged to the latents' grid, what they read interpolated back: the cheap way.

    A map that is no larger than the latents is not resized: it then equals `TokenCrossAttention`.
    """

    def prepare(self, latent: Tensor) -> tuple:
        return *self.keys_values(latent), tuple(latent.shape[2:])

    def forward(self, h: Tensor, prepared: tuple) -> Tensor:
        k, v, grid = prepared
        size = tuple(map(min, h.shape[2:], grid))
        small = F.adaptive_avg_pool2d(h, size)
        return h + resized(self.read(small, k, v), tuple(h.shape[2:]))

    def flops(self, queries: int, tokens: int) -> Flops:
        return super().flops(min(queries, tokens), tokens)


class PooledCrossAttention(TokenCrossAttention):
    """Attention on few tokens: latents averaged to `pool` x `pool`, a bottleneck against leaks."""

    def __init__(self, *args: int, pool: int = 8, zero: bool = True):
        super().__init__(*args, zero=zero)
        if pool < 1:
            raise ValueError(f"pool={pool}: the side of a grid is 1 or more")
        self.pool = pool

    def prepare(self, latent: Tensor) -> tuple:
        size = tuple(min(self.pool, side) for side in latent.shape[2:])
        return self.keys_values(F.adaptive_avg_pool2d(latent, size))

    def flops(self, queries: int, tokens: int) -> Flops:
        return super().flops(queries, min(self.pool**2, tokens))


class Additive(Adapter):
    """h + tanh(gate) * up(project(latent)): what lies at the same place is added (as ControlNet).

    Two 1x1 convolutions at the latents' size, then bilinear. The gate alone starts at zero.

    Args:
        inner_dim: width between the convolutions.
        size: (H, W) of the UNet map.
    """

    def __init__(
        self,
        channels: int,
        latent_channels: int,
        inner_dim: int,
        *,
        size: tuple[int, int],
        zero: bool = True,
    ):
        super().__init__()
        self.size = size
        self.latent_norm = nn.LayerNorm(latent_channels)
        self.project = nn.Linear(latent_channels, inner_dim)
        self.out = nn.Linear(inner_dim, channels)
        self.gate = nn.Parameter(torch.tensor(0.0 if zero else 1.0))

    def prepare(self, latent: Tensor) -> tuple:
        tokens = self.latent_norm(latent.movedim(1, -1))
        added = self.out(F.silu(self.project(tokens))).movedim(-1, 1)
        return (resized(added, self.size),)

    def forward(self, h: Tensor, prepared: tuple) -> Tensor:
        return h + self.gate.tanh() * for_each(prepared[0], len(h))

    def opening(self) -> float:
        return float(self.gate.detach().tanh().abs())

    def flops(self, queries: int, tokens: int) -> Flops:
        channels, inner = self.out.weight.shape
        return Flops(2.0 * tokens * inner * (self.project.in_features + channels), 0.0)


class Film(Adapter):
    """(1 + scale) h + shift, one scale and shift per channel, from the latents' mean (Perez et al.
    2018, eq. 2). The projection that gives both starts at zero.

    Args:
        inner_dim: width of the layer between.
    """

    def __init__(self, channels: int, latent_channels: int, inner_dim: int, *, zero: bool = True):
        super().__init__()
        self.latent_norm = nn.LayerNorm(latent_channels)
        self.project = nn.Linear(latent_channels, inner_dim)
        self.out = nn.Linear(inner_dim, 2 * channels)
        if zero:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def prepare(self, latent: Tensor) -> tuple:
        both = self.out(F.silu(self.project(self.latent_norm(latent.mean((2, 3))))))
        return tuple(both[:, :, None, None].chunk(2, 1))

    def forward(self, h: Tensor, prepared: tuple) -> Tensor:
        scale, shift = (for_each(t, len(h)) for t in prepared)
        return h * (1 + scale) + shift

    def opening(self) -> float:
        return float(self.out.weight.detach().square().mean().sqrt())

    def flops(self, queries: int, tokens: int) -> Flops:
        twice, inner = self.out.weight.shape
        return Flops(2.0 * inner * (self.project.in_features + twice), 0.0)


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear (B, C, h, w) -> (B, C, *size), with a low-pass filter where it gets smaller."""
    if tuple(maps.shape[2:]) == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=True)


MODULES = ("tokens", "interpolate", "downsample", "pooled", "additive", "film")


def check_module(name: str) -> None:
    """Refuse an unknown name (ValueError with the list)."""
    if name not in MODULES:
        raise unknown("module", name, list(MODULES))


def make_adapter(
    name: str,
    shape: tuple[int, int, int],
    latent_channels: int,
    inner_dim: int,
    heads: int = 2,
    *,
    pool: int = 8,
    zero: bool = True,
) -> Adapter:
    """The adapter of that name for a UNet map of `shape` (C, H, W).

    Args:
        latent_channels: L of the encoder map (B, L, h, w).
        inner_dim: width inside; heads: of attention; pool: side of the grid of "pooled".
        zero: False for an adapter that is not the identity at first.

    Raises:
        ValueError: an unknown name, a width that the heads cannot share.
    """
    check_module(name)
    channels, size = shape[0], tuple(shape[1:])
    if name == "additive":
        return Additive(channels, latent_channels, inner_dim, size=size, zero=zero)
    if name == "film":
        return Film(channels, latent_channels, inner_dim, zero=zero)
    sizes = channels, latent_channels, inner_dim, heads
    if name == "interpolate":
        return InterpolatedCrossAttention(*sizes, size=size, zero=zero)
    if name == "downsample":
        return DownsampledCrossAttention(*sizes, zero=zero)
    if name == "pooled":
        return PooledCrossAttention(*sizes, pool=pool, zero=zero)
    return TokenCrossAttention(*sizes, zero=zero)
