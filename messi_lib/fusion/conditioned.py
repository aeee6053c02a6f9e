"""A generator that reads segmentation latents, without a change to its network or state dict.

`ConditionedDenoiser` holds a frozen denoiser and one adapter per UNet block that reads; the
adapters plug in through the UNet's `inject` hook.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..consistency.denoiser import Denoiser
from ..consistency.unet import AttentionBlock, Inject
from ..profiles import ConsistencyConfig
from .adapters import Adapter
from .modules import make_adapter

Condition = dict[str, tuple]  # what an adapter needs of a photo (keys and values), by block name


def block_shapes(denoiser: Denoiser) -> dict[str, tuple[int, int, int]]:
    """(C, H, W) of every UNet block's output, by block name, found by one forward pass."""
    found: dict[str, tuple[int, int, int]] = {}

    def record(name: str, h: Tensor) -> Tensor:
        found[name] = tuple(h.shape[1:])
        return h

    place = next(denoiser.parameters()).device
    with torch.no_grad():
        denoiser(torch.zeros(1, *denoiser.shape, device=place), 1.0, inject=record)
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


def reading_blocks(denoiser: Denoiser, rates: Sequence[int] = ()) -> list[str]:
    """Blocks that read the latents, in the order of the forward pass.

    Args:
        rates: downsampling rates (1, 2, 4, ... of the UNet's own input) of the decoder's blocks
            that read, beside the middle one; (): `attended_blocks`.

    Raises:
        ValueError: a rate that the decoder does not have.
    """
    if not rates:
        return attended_blocks(denoiser)
    shapes = block_shapes(denoiser)
    full = shapes["input_blocks.0"][1]
    found = {name: full // h for name, (_, h, _) in shapes.items() if "output" in name}
    missing = sorted(set(rates) - set(found.values()))
    if missing:
        raise ValueError(f"rates={missing}: the decoder has {sorted(set(found.values()))}")
    return ["middle_block", *(name for name, rate in found.items() if rate in rates)]


class ConditionedDenoiser(nn.Module):
    """Denoiser some of whose blocks also read the latents of a photo.

    Args:
        denoiser: trained generator; frozen here.
        latent_channels: channels of the encoder map that is read.
        module: how they are read, one of `modules.MODULES`.
        rates: where, see `reading_blocks`.
        pool: side of the grid that "pooled" keeps.
        zero: False for the study's control without a zero start.

    Raises:
        ValueError: an unknown module, a width or rate that does not fit.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        latent_channels: int,
        *,
        inner_dim: int = 64,
        heads: int = 2,
        module: str = "tokens",
        rates: Sequence[int] = (),
        pool: int = 8,
        zero: bool = True,
    ):
        super().__init__()
        self.denoiser = denoiser.requires_grad_(False).eval()
        shapes = block_shapes(denoiser)
        self.names = reading_blocks(denoiser, rates)
        made = {
            name.replace(".", "_"): make_adapter(
                module, shapes[name], latent_channels, inner_dim, heads, pool=pool, zero=zero
            )
            for name in self.names
        }
        self.adapters = nn.ModuleDict(made).to(next(denoiser.parameters()).device)

    def train(self, mode: bool = True) -> ConditionedDenoiser:
        """As in `nn.Module`, except that the frozen denoiser stays in evaluation mode."""
        super().train(mode)
        self.denoiser.eval()
        return self

    # What samplers and solvers ask of a denoiser.
    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, S, S) of one image, as `Denoiser.shape`."""
        return self.denoiser.shape

    @property
    def image_size(self) -> int:
        """S, the side of an image in pixels."""
        return self.denoiser.image_size

    @property
    def config(self) -> ConsistencyConfig | None:
        """How the denoiser was built and trained; None: nobody said."""
        return self.denoiser.config

    @property
    def channels(self) -> int:
        """Channels of an image: 3, or 4 of a layer."""
        return self.denoiser.channels

    @property
    def condition_channels(self) -> int:
        """Input channels beside the noisy image; latents take none, they come by the adapters."""
        return self.denoiser.condition_channels

    @property
    def sigma_data(self) -> float:
        """Standard deviation of the images that the preconditioning reckons with."""
        return self.denoiser.sigma_data

    @property
    def sigma_min(self) -> float:
        """The lowest noise level, at which a consistency function does nothing."""
        return self.denoiser.sigma_min

    @property
    def sigma_max(self) -> float:
        """The highest noise level, at which sampling starts."""
        return self.denoiser.sigma_max

    def condition(self, latent: Tensor) -> Condition:
        """(B, L, h, w) -> what every adapter needs of them: once per photo, for all levels."""
        latent = latent.to(next(self.parameters()).device)
        return {name: self.adapter(name).prepare(latent) for name in self.names}

    def openings(self) -> dict[str, float]:
        """How far each adapter has opened, by block name: see `Adapter.opening`."""
        return {name: self.adapter(name).opening() for name in self.names}

    def adapter(self, name: str) -> Adapter:
        """The adapter of a block, by the block's name."""
        return self.adapters[name.replace(".", "_")]

    def inject(self, condition: Condition) -> Inject:
        """The hook that hands a condition to the UNet."""

        def read(name: str, h: Tensor) -> Tensor:
            return self.adapter(name)(h, condition[name]) if name in condition else h

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
