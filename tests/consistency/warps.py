"""Smooth pictures as functions of the place, to see where a warp has moved them."""

import math

import torch

from messi_lib.consistency.augment import Augmentation

FULL = Augmentation(yflip=True, rotation=math.pi)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def places(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y of the pixels' centres, each (S, S)."""
    c = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(c, c, indexing="ij")
    return x, y


def smooth(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A picture of low frequencies and no symmetry, as a function of the place: (3, ...)."""
    return torch.stack([
        0.5 * torch.cos(2.1 * x + 0.7 * y + 0.4) + 0.3 * torch.sin(1.3 * x - 2.9 * y),
        0.8 * torch.sin(2.6 * y + 0.9 * x - 0.2),
        0.6 * torch.cos(3.1 * x - 0.4) - 0.2 * y,
    ])  # fmt: skip


def pictures(n: int, size: int) -> torch.Tensor:
    """Different smooth images (n, 3, S, S) in [-1, 1]."""
    x, y = places(size)
    return torch.stack([smooth(x + 0.1 * i, y - 0.2 * i) for i in range(n)])
