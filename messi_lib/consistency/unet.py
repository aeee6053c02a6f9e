"""The UNet of consistency models (Song et al. 2023), from the ADM architecture (Dhariwal &
Nichol 2021).

Written anew, but name for name and shape for shape the state dict of openai/consistency_models, so
that its published checkpoints load with `load_state_dict(strict=True)`. Shapes: image `(B, C,
S, S)`, time embedding `(B, 4 * model_channels)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import QKVAttention

# Called after every block with its state-dict name and its output; returns what goes on. This
# is how chapter 06 adds a condition without changing the network or its state dict.
Inject = Callable[[str, Tensor], Tensor]


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
    """Group normalisation over 32 groups, computed in fp32 whatever the input's dtype."""

    def __init__(self, channels: int):
        super().__init__(32, channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == self.weight.dtype:
            return super().forward(x)
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


def zero_init(module: nn.Module) -> nn.Module:
    """Zero all parameters: a residual branch that starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Upsample(nn.Module):
    """Nearest-neighbour x2, (B, C, S, S) -> (B, C, 2S, 2S), with an optional 3x3 convolution."""

    def __init__(self, channels: int, use_conv: bool):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if use_conv else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return x if self.conv is None else self.conv(x)


class Downsample(nn.Module):
    """(B, C, S, S) -> (B, C, S/2, S/2) by a strided 3x3 convolution or the mean of 2x2."""

    def __init__(self, channels: int, use_conv: bool):
        super().__init__()
        self.op = (
            nn.Conv2d(channels, channels, 3, stride=2, padding=1) if use_conv else nn.AvgPool2d(2)
        )

    def forward(self, x: Tensor) -> Tensor:
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
        h = conv(self.resample(activation(norm(x))))
        x = self.resample(x)
        emb = self.emb_layers(emb).to(h.dtype)[:, :, None, None]
        norm, *rest = self.out_layers
        if self.use_scale_shift_norm:  # AdaGN: scale first, then shift
            scale, shift = emb.chunk(2, dim=1)
            h = norm(h) * (1 + scale) + shift
        else:
            h = norm(h + emb)
        for layer in rest:
            h = layer(h)
        return self.skip_connection(x) + h


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
        h = self.attention(self.qkv(self.norm(x)).flatten(2))
        return x + self.proj_out(h.unflatten(2, x.shape[2:]))


class TimestepBlock(nn.Sequential):
    """A sequence whose residual blocks also take the time embedding."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
        return x


class UNet(nn.Module):
    """Encoder, middle and decoder with skip connections.

    Args:
        image_size: side S of the input; only recorded.
        in_channels, out_channels: of the image.
        model_channels: width at full resolution; level i has `channel_mult[i] * model_channels`.
        num_res_blocks: residual blocks per level (the decoder has one more).
        attention_resolutions: downsampling *rates* (1, 2, 4, ...) at which to attend.
        num_classes: with class labels `y`; None without.
        num_heads, num_head_channels: heads, or (when not -1) channels per head.
        use_scale_shift_norm: AdaGN (scale and shift) instead of adding the embedding.
        resblock_updown: resample inside residual blocks instead of by strided convolutions.

    `forward(x, timesteps, y=None)`: (B, C, S, S), (B,), (B,) -> (B, out_channels, S, S).
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        model_channels: int,
        out_channels: int,
        num_res_blocks: int,
        attention_resolutions: Sequence[int],
        dropout: float = 0.0,
        channel_mult: Sequence[float] = (1, 2, 4, 8),
        num_classes: int | None = None,
        num_heads: int = 1,
        num_head_channels: int = -1,
        use_scale_shift_norm: bool = False,
        resblock_updown: bool = False,
    ):
        super().__init__()
        self.image_size = image_size
        self.in_channels = in_channels
        self.model_channels = model_channels
        self.num_classes = num_classes
        emb_channels = 4 * model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(model_channels, emb_channels),
            nn.SiLU(),
            nn.Linear(emb_channels, emb_channels),
        )
        if num_classes is not None:
            self.label_emb = nn.Embedding(num_classes, emb_channels)

        def residual(
            channels: int, out: int | None = None, resample: str | None = None
        ) -> ResBlock:
            return ResBlock(channels, emb_channels, dropout, out, use_scale_shift_norm, resample)

        def attend(channels: int) -> AttentionBlock:
            return AttentionBlock(channels, num_heads, num_head_channels)

        channels = int(channel_mult[0] * model_channels)
        self.input_blocks = nn.ModuleList(
            [TimestepBlock(nn.Conv2d(in_channels, channels, 3, padding=1))]
        )
        skips = [channels]
        rate = 1
        for level, mult in enumerate(channel_mult):
            for _ in range(num_res_blocks):
                layers: list[nn.Module] = [residual(channels, int(mult * model_channels))]
                channels = int(mult * model_channels)
                if rate in attention_resolutions:
                    layers.append(attend(channels))
                self.input_blocks.append(TimestepBlock(*layers))
                skips.append(channels)
            if level != len(channel_mult) - 1:
                down = (
                    residual(channels, channels, "down")
                    if resblock_updown
                    else Downsample(channels, use_conv=True)
                )
                self.input_blocks.append(TimestepBlock(down))
                skips.append(channels)
                rate *= 2

        self.middle_block = TimestepBlock(residual(channels), attend(channels), residual(channels))

        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(channel_mult))):
            for i in range(num_res_blocks + 1):
                layers = [residual(channels + skips.pop(), int(mult * model_channels))]
                channels = int(mult * model_channels)
                if rate in attention_resolutions:
                    layers.append(attend(channels))
                if level and i == num_res_blocks:
                    layers.append(
                        residual(channels, channels, "up")
                        if resblock_updown
                        else Upsample(channels, use_conv=True)
                    )
                    rate //= 2
                self.output_blocks.append(TimestepBlock(*layers))

        self.out = nn.Sequential(
            GroupNorm32(channels),
            nn.SiLU(),
            zero_init(nn.Conv2d(channels, out_channels, 3, padding=1)),
        )

    def forward(
        self, x: Tensor, timesteps: Tensor, y: Tensor | None = None, inject: Inject | None = None
    ) -> Tensor:
        """(B, C, S, S), (B,) -> (B, out_channels, S, S); `y` (B,) exactly when there are
        classes."""
        if (y is not None) != (self.num_classes is not None):
            raise ValueError("labels y are needed exactly when the UNet has num_classes")
        emb = self.time_embed(timestep_embedding(timesteps, self.model_channels))
        if y is not None:
            emb = emb + self.label_emb(y)
        inject = inject or (lambda name, h: h)
        h, skips = x, []
        for i, block in enumerate(self.input_blocks):
            h = inject(f"input_blocks.{i}", block(h, emb))
            skips.append(h)
        h = inject("middle_block", self.middle_block(h, emb))
        for i, block in enumerate(self.output_blocks):
            h = inject(f"output_blocks.{i}", block(torch.cat([h, skips.pop()], dim=1), emb))
        return self.out(h.to(x.dtype))
