"""The blocks of which the UNet is built: residual blocks, attention, resampling.

Their parameters have the names and shapes of the public code (see `unet.py`), but some of the
arithmetic is arranged otherwise, to the same result, because it is faster on a CPU
(`benchmarks/unet_step.py`): 1x1 convolutions as matrix products, a convolution after upsampling on
the small map, AdaGN within the normalisation. Time embedding `(B, E)`, maps `(B, C, S, S)`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import QKVAttention


def timestep_embedding(timesteps: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal embedding, cosines first: (B,) -> (B, dim), float32."""
    half = dim // 2
    frequencies = torch.exp(
        -math.log(max_period)
        * torch.arange(half, dtype=torch.float32, device=timesteps.device)
        / half
    )
    angles = timesteps[:, None].float() * frequencies
    embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return F.pad(embedding, (0, dim % 2))


class GroupNorm32(nn.GroupNorm):
    """Group normalisation over 32 groups; sums are in fp32 whatever the input's dtype.

    Under autocast the map itself stays in half precision: an fp32 copy of every map, kept for the
    backward pass, would be a third of all activations.
    """

    def __init__(self, channels: int):
        super().__init__(32, channels)

    def forward(self, x: Tensor, scale_shift: Tensor | None = None) -> Tensor:
        """(B, C, ...) -> the same shape and dtype.

        Args:
            scale_shift: AdaGN: (B, 2C), first s, then t of norm(x) * (1 + s) + t.
        """
        if not torch.is_autocast_enabled(x.device.type):
            return self._normalise(x.to(self.weight.dtype), scale_shift).to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            return self._normalise(x, scale_shift)

    def _normalise(self, x: Tensor, scale_shift: Tensor | None) -> Tensor:
        weight, bias = self.weight, self.bias
        if scale_shift is None or not x.is_contiguous():  # the latter: channels-last
            h = F.group_norm(x, self.num_groups, weight.to(x.dtype), bias.to(x.dtype), self.eps)
            if scale_shift is None:
                return h
            s, t = scale_shift.to(x.dtype)[:, :, None, None].chunk(2, dim=1)
            return torch.addcmul(t, h, 1 + s)
        # The kernel has an affine map per channel. With the images side by side as channels it
        # has one per image, and no pass over the map is needed for s and t.
        s, t = scale_shift.to(weight.dtype).chunk(2, dim=1)
        weight, bias = weight * (1 + s), bias * (1 + s) + t
        flat, groups = x.view(1, -1, *x.shape[2:]), len(x) * self.num_groups
        weight, bias = weight.flatten().to(x.dtype), bias.flatten().to(x.dtype)
        return F.group_norm(flat, groups, weight, bias, self.eps).view_as(x)


def zero_init(module: nn.Module) -> nn.Module:
    """Zero all parameters: a residual branch that starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def _rearranged(x: Tensor) -> bool:
    """Whether to use the arithmetic that is arranged for CPUs: only measured there, in fp32.

    Autocast would copy the weights that it hands out to every image.
    """
    return x.device.type == "cpu" and x.is_contiguous() and not torch.is_autocast_enabled("cpu")


def upsample_conv(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """A 3x3 convolution of x after nearest-neighbour x2: (B, C, S, S) -> (B, C', 2S, 2S).

    After the copying, the nine taps fall on only four pixels of x. Summing them beforehand makes a
    transposed convolution with stride 2 and a 4x4 kernel: 2.25 times fewer operations.
    """
    if not _rearranged(x):
        return conv(F.interpolate(x, scale_factor=2, mode="nearest"))
    taps = conv.weight.flip(2, 3).transpose(0, 1)
    kernel = sum(F.pad(taps, (i, 1 - i, j, 1 - j)) for i in (0, 1) for j in (0, 1))
    return F.conv_transpose2d(x, kernel, conv.bias, stride=2, padding=1)


def pointwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """A 1x1 convolution: (B, C, S, S) -> (B, C', S, S)."""
    if not _rearranged(x):
        return conv(x)
    weight = conv.weight.flatten(1).expand(len(x), -1, -1)
    return torch.baddbmm(conv.bias[:, None], weight, x.flatten(2)).unflatten(2, x.shape[2:])


class Upsample(nn.Module):
    """Nearest-neighbour x2, (B, C, S, S) -> (B, C, 2S, 2S), with an optional 3x3 convolution."""

    def __init__(self, channels: int, use_conv: bool):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if use_conv else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, C, 2S, 2S)."""
        if self.conv is not None:
            return upsample_conv(x, self.conv)
        return F.interpolate(x, scale_factor=2, mode="nearest")


class Downsample(nn.Module):
    """(B, C, S, S) -> (B, C, S/2, S/2) by a strided 3x3 convolution or the mean of 2x2."""

    def __init__(self, channels: int, use_conv: bool):
        super().__init__()
        self.op = (
            nn.Conv2d(channels, channels, 3, stride=2, padding=1) if use_conv else nn.AvgPool2d(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, C, S/2, S/2)."""
        return self.op(x)


class ResBlock(nn.Module):
    """Residual block with the time embedding; `resample` ("up", "down" or None) changes the
    size."""

    def __init__(
        self,
        channels: int,
        emb_channels: int,
        dropout: float,
        out_channels: int | None = None,
        use_scale_shift_norm: bool = False,
        resample: str | None = None,
    ):
        super().__init__()
        out_channels = out_channels or channels
        self.use_scale_shift_norm = use_scale_shift_norm
        self.in_layers = nn.Sequential(
            GroupNorm32(channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        if resample is None:
            self.resample = nn.Identity()
        else:
            self.resample = (Upsample if resample == "up" else Downsample)(channels, use_conv=False)
        self.emb_layers = nn.Sequential(
            nn.SiLU(),
            nn.Linear(emb_channels, (2 if use_scale_shift_norm else 1) * out_channels),
        )
        self.out_layers = nn.Sequential(
            GroupNorm32(out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        if out_channels == channels:
            self.skip_connection = nn.Identity()
        else:
            self.skip_connection = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """(B, C, S, S), (B, E) -> (B, C', S', S')"""
        norm, activation, conv = self.in_layers
        h = activation(norm(x))
        if isinstance(self.resample, Upsample):
            h = upsample_conv(h, conv)
        else:
            h = conv(self.resample(h))
        x = self.resample(x)
        emb = self.emb_layers(emb)
        norm, *rest = self.out_layers
        if self.use_scale_shift_norm:
            h = norm(h, scale_shift=emb)
        else:
            h = norm(h + emb.to(h.dtype)[:, :, None, None])
        for layer in rest:
            h = layer(h)
        if isinstance(self.skip_connection, nn.Conv2d):
            x = pointwise(x, self.skip_connection)
        return x + h


class AttentionBlock(nn.Module):
    """Residual self-attention over the S*S positions; projections are 1x1 convolutions."""

    def __init__(self, channels: int, num_heads: int, num_head_channels: int):
        super().__init__()
        if num_head_channels != -1:
            if channels % num_head_channels:
                raise ValueError(
                    f"num_head_channels={num_head_channels} does not divide {channels} channels"
                )
            num_heads = channels // num_head_channels
        self.norm = GroupNorm32(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.attention = QKVAttention(num_heads)
        self.proj_out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, C, S, S)"""
        h = self.norm(x)
        if not _rearranged(x):
            h = self.attention(self.qkv(h).flatten(2))
            return x + self.proj_out(h.unflatten(2, x.shape[2:]))
        # As matrix products on (B, S*S, C), one per image: no layer needs another layout than the
        # one before it leaves, so nothing is copied.
        weight, proj = (
            layer.weight.flatten(1).expand(len(x), -1, -1) for layer in (self.qkv, self.proj_out)
        )
        tokens = h.flatten(2).transpose(1, 2)
        qkv = torch.baddbmm(self.qkv.bias, tokens, weight.transpose(1, 2))
        h = self.attention(qkv.transpose(1, 2))
        h = torch.baddbmm(self.proj_out.bias[:, None], proj, h)
        return x + h.unflatten(2, x.shape[2:])


class TimestepBlock(nn.Sequential):
    """A sequence whose residual blocks also take the time embedding.

    Args:
        rate: how many times smaller than the image its largest map is.
    """

    def __init__(self, rate: int, *layers: nn.Module):
        super().__init__(*layers)
        self.rate = rate

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """(B, C, S, S) and the time embedding (B, E) -> (B, C', S', S')."""
        for layer in self:
            x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
        return x
