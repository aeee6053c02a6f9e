"""The network with its noise levels: `Denoiser(x, sigma)` estimates the clean image.

The same network serves as a diffusion denoiser (EDM) and, after consistency training, as a
consistency function: only the preconditioning differs (`boundary`).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import runs
from ..profiles import ConsistencyConfig
from ..training.checkpoints import load_weights
from .augment import LABELS
from .noise import Preconditioning, broadcast, time_input
from .unet import Inject, UNet, zero_init


class Denoiser(nn.Module):
    """x0-estimate of a noisy image.

    Args:
        unet: network on images folded by `patch`.
        patch: factor by which pixels are folded into channels: a UNet on `(B, 3 p^2, S/p, S/p)`
            costs about 1/p^2 of one on `(B, 3, S, S)`.
        channels: of an image: 3 for colours; 4 for a layer, colours and coverage (chapter 05).
        gate: the UNet's last output channel is a gate g per patch, and its output becomes
            F + g c_in x: a skip connection that the network sets by place. Removing noise from a
            smooth patch then takes one number, where F alone must carry the noise of all C p^2
            values through its few channels.
        boundary: True for a consistency function, False for a diffusion denoiser.
        augment: give the network the labels of the augmentation (`augment.Augmentation`), so that
            it learns warped photos as warped ones and never draws them unasked.
        condition_channels: further input channels, beside the noisy image, that say what is to be
            drawn (chapter 05: the known pixels and the hole); 0: none.
    """

    def __init__(
        self,
        unet: UNet,
        *,
        image_size: int,
        patch: int = 1,
        channels: int = 3,
        gate: bool = False,
        sigma_data: float = 0.5,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        boundary: bool = True,
        augment: bool = False,
        condition_channels: int = 0,
        config: ConsistencyConfig | None = None,
    ):
        super().__init__()
        self.unet = unet
        self.image_size = image_size
        self.patch = patch
        self.channels = channels
        self.gate = gate
        self.sigma_data = sigma_data
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.boundary = boundary
        self.condition_channels = condition_channels
        self.config = config
        if augment:  # outside the UNet, whose state dict is that of the public code
            self.label_embed = zero_init(nn.Linear(LABELS, 4 * unet.model_channels, bias=False))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, S, S) of one image, C = 3 unless it draws layers."""
        return self.channels, self.image_size, self.image_size

    def forward(
        self,
        x: Tensor,
        sigma: Tensor | float,
        *,
        boundary: bool | None = None,
        inject: Inject | None = None,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """EDM eq. 7.

        Args:
            x: noisy images (B, C, S, S), clean range [-1, 1] plus noise.
            sigma: one noise level, or one per image (B,).
            boundary: overrides the preconditioning of this denoiser.
            inject: a condition of chapter 06, see `unet.Inject`.
            labels: how the images were warped, (B, 9); None: not at all, as when sampling.
            condition: (B, condition_channels, S, S), at any noise level the same; a clean signal of
                about unit size, so that it is not scaled.

        Returns:
            (B, C, S, S), not clamped.

        Raises:
            ValueError: labels or a condition that this denoiser does not take, or none where it
                needs one.
        """
        sigma = broadcast(sigma, x)
        boundary = self.boundary if boundary is None else boundary
        scaling = Preconditioning(self.sigma_data, self.sigma_min, boundary)
        c_skip, c_out, c_in = scaling(sigma)
        scaled = c_in * x
        if labels is not None and not hasattr(self, "label_embed"):
            raise ValueError("labels, but this denoiser was built without augment=True")
        h = self.unet(
            F.pixel_unshuffle(self._beside(scaled, condition), self.patch),
            time_input(sigma.flatten()),
            inject=inject,
            extra=None if labels is None else self.label_embed(labels),
        )
        if self.gate:
            h, g = h[:, :-1], h[:, -1:].repeat_interleave(self.patch, 2)
            h = F.pixel_shuffle(h, self.patch) + g.repeat_interleave(self.patch, 3) * scaled
        else:
            h = F.pixel_shuffle(h, self.patch)
        return c_skip * x + c_out * h

    def _beside(self, scaled: Tensor, condition: Tensor | None) -> Tensor:
        given = 0 if condition is None else condition.shape[1]
        if given != self.condition_channels:
            raise ValueError(
                f"a condition of {given} channels, but this denoiser takes "
                f"{self.condition_channels}: is it one for holes (messi train inpainter)?"
            )
        return scaled if condition is None else torch.cat([scaled, condition.to(scaled)], 1)


def build_denoiser(config: ConsistencyConfig, *, boundary: bool = True) -> Denoiser:
    """A freshly initialised denoiser.

    Raises:
        ValueError: sizes that do not divide: the folded side must halve at every level.
    """
    levels = len(config.channel_mult) - 1
    if config.image_size % (config.patch * 2**levels):
        raise ValueError(
            f"image_size={config.image_size} must be a multiple of patch * 2^levels = "
            f"{config.patch * 2**levels}"
        )
    channels = config.channels * config.patch**2
    unet = UNet(
        image_size=config.image_size // config.patch,
        in_channels=channels + config.condition_channels * config.patch**2,
        model_channels=config.model_channels,
        out_channels=channels + config.gate,
        num_res_blocks=config.num_res_blocks,
        attention_resolutions=config.attention_resolutions,
        dropout=config.dropout,
        channel_mult=config.channel_mult,
        num_head_channels=config.num_head_channels,
        use_scale_shift_norm=config.use_scale_shift_norm,
        resblock_updown=config.resblock_updown,
        checkpoint_rates=config.checkpoint_rates,
    )
    return Denoiser(
        unet,
        image_size=config.image_size,
        patch=config.patch,
        channels=config.channels,
        gate=config.gate,
        sigma_data=config.sigma_data,
        sigma_min=config.sigma_min,
        sigma_max=config.sigma_max,
        boundary=boundary,
        augment=config.augment > 0,
        condition_channels=config.condition_channels,
        config=config,
    )


def embedded_path() -> Path:
    """File of the generator that ships with the repository."""
    return runs.weights_dir() / "generator.safetensors"


def load_denoiser(path: Path | str | None = None, device: torch.device | None = None) -> Denoiser:
    """A trained consistency function, in eval mode.

    Args:
        path: a file written by `messi export` or training; None for the one that ships.

    Raises:
        FileNotFoundError: no such file. ValueError: the file holds no generator.
    """
    path = Path(path) if path is not None else embedded_path()
    state, metadata = load_weights(path)
    if metadata.get("kind") != "generator":
        raise ValueError(
            f"{path} holds {metadata.get('kind', 'unknown')!r} weights, not a generator"
        )
    denoiser = build_denoiser(config_from_json(metadata["config"]))
    denoiser.load_state_dict({key: value.float() for key, value in state.items()})
    return denoiser.eval().requires_grad_(False).to(device or runs.device())


def check_draws(denoiser: Denoiser) -> None:
    """Refuse (ValueError) a generator that is told of holes: it draws nothing without."""
    if denoiser.condition_channels:
        raise ValueError(
            "this generator draws into holes of photos, not images: "
            "use it with messi replace --model"
        )


def config_from_json(text: str) -> ConsistencyConfig:
    """The configuration stored beside weights; fields that no longer exist are an error."""
    stored = json.loads(text)
    fields = {field.name for field in dataclasses.fields(ConsistencyConfig)}
    extra = stored.keys() - fields
    if extra:
        raise ValueError(
            f"generator configuration has unknown fields {sorted(extra)}: newer weights?"
        )
    return ConsistencyConfig(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    )
