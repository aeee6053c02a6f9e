"""The UNet of consistency models (Song et al. 2023), from the ADM architecture (Dhariwal &
Nichol 2021).

Written anew, but name for name and shape for shape the state dict of openai/consistency_models, so
that its published checkpoints load with `load_state_dict(strict=True)`. Shapes: image `(B, C,
S, S)`, time embedding `(B, 4 * model_channels)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .blocks import (
    AttentionBlock,
    Downsample,
    GroupNorm32,
    ResBlock,
    TimestepBlock,
    Upsample,
    timestep_embedding,
    zero_init,
)

__all__ = ["AttentionBlock", "GroupNorm32", "Inject", "UNet", "timestep_embedding", "zero_init"]

# Called after every block with its state-dict name and its output; returns what goes on. This
# is how chapter 06 adds a condition without changing the network or its state dict.
Inject = Callable[[str, Tensor], Tensor]


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
        checkpoint_rates: downsampling rates whose blocks keep only their inputs and compute the
            rest again in the backward pass (a block that changes the size counts by its larger
            map): less memory, one more forward pass of those blocks, the same numbers.
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
        checkpoint_rates: Sequence[int] = (),
    ):
        super().__init__()
        self.checkpoint_rates = checkpoint_rates
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
            [TimestepBlock(1, nn.Conv2d(in_channels, channels, 3, padding=1))]
        )
        skips = [channels]
        rate = 1
        for level, mult in enumerate(channel_mult):
            for _ in range(num_res_blocks):
                layers: list[nn.Module] = [residual(channels, int(mult * model_channels))]
                channels = int(mult * model_channels)
                if rate in attention_resolutions:
                    layers.append(attend(channels))
                self.input_blocks.append(TimestepBlock(rate, *layers))
                skips.append(channels)
            if level != len(channel_mult) - 1:
                down = (
                    residual(channels, channels, "down")
                    if resblock_updown
                    else Downsample(channels, use_conv=True)
                )
                self.input_blocks.append(TimestepBlock(rate, down))
                skips.append(channels)
                rate *= 2

        self.middle_block = TimestepBlock(
            rate, residual(channels), attend(channels), residual(channels)
        )

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
                self.output_blocks.append(TimestepBlock(rate, *layers))

        self.out = nn.Sequential(
            GroupNorm32(channels),
            nn.SiLU(),
            zero_init(nn.Conv2d(channels, out_channels, 3, padding=1)),
        )

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        y: Tensor | None = None,
        inject: Inject | None = None,
        extra: Tensor | None = None,
    ) -> Tensor:
        """(B, C, S, S), (B,) -> (B, out_channels, S, S).

        Args:
            y: class labels (B,), exactly when there are classes.
            inject: called once per block, never again in the backward pass.
            extra: (B, 4 * model_channels), added to the time embedding.
        """
        if (y is not None) != (self.num_classes is not None):
            raise ValueError("labels y are needed exactly when the UNet has num_classes")
        emb = self.time_embed(timestep_embedding(timesteps, self.model_channels))
        if y is not None:
            emb = emb + self.label_emb(y)
        if extra is not None:
            emb = emb + extra
        inject = inject or (lambda name, h: h)
        h, skips = x, []
        for i, block in enumerate(self.input_blocks):
            h = inject(f"input_blocks.{i}", self._run(block, emb, h))
            skips.append(h)
        h = inject("middle_block", self._run(self.middle_block, emb, h))
        for i, block in enumerate(self.output_blocks):
            h = inject(f"output_blocks.{i}", self._run(block, emb, h, skips.pop()))
        return self.out(h.to(x.dtype))

    def _run(self, block: TimestepBlock, emb: Tensor, *maps: Tensor) -> Tensor:
        """One block on one map, or on two side by side; with recomputation where asked for."""

        def run(emb: Tensor, *maps: Tensor) -> Tensor:
            return block(torch.cat(maps, dim=1) if len(maps) > 1 else maps[0], emb)

        if block.rate in self.checkpoint_rates and torch.is_grad_enabled():
            return checkpoint(run, emb, *maps, use_reentrant=False, preserve_rng_state=True)
        return run(emb, *maps)
