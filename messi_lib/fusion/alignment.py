"""A condition without a price at use: the generator's inner maps learn to resemble the encoder's.

REPA (Yu et al. 2024) aligns hidden states with those of a vision encoder while training; U-REPA
(Tian et al. 2025) carries it over to UNets: the middle stage is aligned, its few places are
upsampled to the encoder's tokens after a small network, and as agreement token by token is hard,
the similarities *between* tokens are compared too. Afterwards the small network is thrown away.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..consistency.denoiser import Denoiser
from .modules import resized
from .train import consistency_loss


class Alignment(nn.Module):
    """Projects the UNet's middle map to the encoder's tokens and compares.

    Args:
        channels: C of the middle map (B, C, H, W).
        latent_channels: L of the encoder map (B, L, h, w).
        inner_dim: width of the projection's hidden layer.
    """

    def __init__(self, channels: int, latent_channels: int, inner_dim: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, inner_dim, 1), nn.SiLU(), nn.Conv2d(inner_dim, latent_channels, 1)
        )

    def forward(self, h: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Both losses of each image, (B,): 1 - cosine, and the mean squared difference of the
        tokens' similarities."""
        ours = resized(self.mlp(h), tuple(latent.shape[2:]))
        ours, theirs = (F.normalize(maps.flatten(2).float(), dim=1) for maps in (ours, latent))
        cosine = 1 - (ours * theirs).sum(1).mean(1)
        between = [tokens.transpose(1, 2) @ tokens for tokens in (ours, theirs)]
        return cosine, (between[0] - between[1]).square().mean((1, 2))


class AlignedDenoiser(nn.Module):
    """A generator in training, all of it, with an alignment beside it.

    `denoiser` is what remains: an ordinary generator with an ordinary state dict.
    """

    def __init__(self, denoiser: Denoiser, alignment: Alignment):
        super().__init__()
        self.denoiser, self.alignment = denoiser.requires_grad_(True), alignment


def aligned_loss(
    aligned: AlignedDenoiser,
    images: Tensor,
    latents: Tensor,
    generator: torch.Generator,
    *,
    stage: int | None = None,
    weight: float = 0.5,
    manifold: float = 3.0,
) -> tuple[Tensor, Tensor]:
    """ECT loss plus `weight` (cosine + `manifold` similarities), and the cosine loss, both (B,).

    Args:
        latents: (B, L, h, w) of the clean photos, person and all: nothing of them is there at use.
    """
    seen: list[Tensor] = []

    def record(name: str, h: Tensor) -> Tensor:
        # The student's map; the target's pass has no gradient and is no business of ours.
        if name == "middle_block" and torch.is_grad_enabled():
            seen.append(h)
        return h

    with torch.enable_grad():
        loss = consistency_loss(aligned.denoiser, images, generator, stage=stage, inject=record)
        cosine, similar = aligned.alignment(seen[0], latents.to(seen[0].device))
        return loss + weight * (cosine + manifold * similar), cosine
