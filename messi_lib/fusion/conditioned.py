"""A generator that reads segmentation latents, without a change to its network or state dict.

`ConditionedDenoiser` holds a frozen denoiser and one adapter per attended UNet block; the adapters
plug in through the UNet's `inject` hook.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..consistency.denoiser import Denoiser
from ..consistency.unet import AttentionBlock, Inject
from ..profiles import ConsistencyConfig
from .adapters import TokenCrossAttention

Condition = dict[str, tuple[Tensor, Tensor]]  # keys and values by block name


def block_channels(denoiser: Denoiser) -> dict[str, int]:
    """Channels of every UNet block's output, by block name, found by one forward pass."""
    found: dict[str, int] = {}

    def record(name: str, h: Tensor) -> Tensor:
        found[name] = h.shape[1]
        return h

    parameter = next(denoiser.parameters())
    with torch.no_grad():
        denoiser(torch.zeros(1, *denoiser.shape, device=parameter.device), 1.0, inject=record)
    return found


def attended_blocks(denoiser: Denoiser) -> list[str]:
    """Blocks that already attend to themselves, in the order of the forward pass.

    There the maps are small, so that reading a condition costs little; the middle block is always
    among them.
    """
    unet = denoiser.unet
    blocks = {f"input_blocks.{i}": block for i, block in enumerate(unet.input_blocks)}
    blocks["middle_block"] = unet.middle_block
    blocks |= {f"output_blocks.{i}": block for i, block in enumerate(unet.output_blocks)}
    return [
        name
        for name, block in blocks.items()
        if any(isinstance(layer, AttentionBlock) for layer in block)
    ]


class ConditionedDenoiser(nn.Module):
    """Denoiser whose attended blocks also read the latents of a photo.

    Args:
        denoiser: trained generator; frozen here.
        latent_channels: channels of the encoder map that is read.
    """

    def __init__(
        self, denoiser: Denoiser, latent_channels: int, *, inner_dim: int = 64, heads: int = 2
    ):
        super().__init__()
        self.denoiser = denoiser.requires_grad_(False).eval()
        channels = block_channels(denoiser)
        self.names = attended_blocks(denoiser)
        self.adapters = nn.ModuleDict(
            {
                name.replace(".", "_"): TokenCrossAttention(
                    channels[name], latent_channels, inner_dim, heads
                )
                for name in self.names
            }
        ).to(next(denoiser.parameters()).device)

    def train(self, mode: bool = True) -> ConditionedDenoiser:
        """As in `nn.Module`, except that the frozen denoiser stays in evaluation mode."""
        super().train(mode)
        self.denoiser.eval()
        return self

    # What samplers and solvers ask of a denoiser.
    @property
    def shape(self) -> tuple[int, int, int]:
        return self.denoiser.shape

    @property
    def image_size(self) -> int:
        return self.denoiser.image_size

    @property
    def config(self) -> ConsistencyConfig | None:
        return self.denoiser.config

    @property
    def condition_channels(self) -> int:
        return self.denoiser.condition_channels

    @property
    def sigma_data(self) -> float:
        return self.denoiser.sigma_data

    @property
    def sigma_min(self) -> float:
        return self.denoiser.sigma_min

    @property
    def sigma_max(self) -> float:
        return self.denoiser.sigma_max

    def condition(self, latent: Tensor) -> Condition:
        """(B, L, h, w) -> keys and values of every adapter: once per photo, for all levels."""
        latent = latent.to(next(self.parameters()).device)
        return {name: self._adapter(name).keys_values(latent) for name in self.names}

    def _adapter(self, name: str) -> TokenCrossAttention:
        return self.adapters[name.replace(".", "_")]

    def inject(self, condition: Condition) -> Inject:
        """The hook that hands a condition to the UNet."""

        def read(name: str, h: Tensor) -> Tensor:
            return self._adapter(name)(h, condition[name]) if name in condition else h

        return read

    def forward(
        self,
        x: Tensor,
        sigma: Tensor | float,
        *,
        boundary: bool | None = None,
        inject: Inject | None = None,
    ) -> Tensor:
        """As `Denoiser.forward`; `inject` is made by `inject(condition(latent))`, None for none."""
        return self.denoiser(x, sigma, boundary=boundary, inject=inject)
