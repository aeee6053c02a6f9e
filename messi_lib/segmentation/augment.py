"""Random changes of training images: mirror, zoom, light, colour, blur and noise.

The procedural scenes are clean and evenly lit, photos are not: colour, contrast, sharpness and
grain are therefore varied far beyond what the scenes contain. All random numbers are drawn on the
CPU from the step's generator: a step's images are the same on every device and after a resume.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ZOOM = (0.65, 1.5)  # size of the content, relative to the original
SHIFT = 0.15  # of the side
LUMA = (0.299, 0.587, 0.114)
BLUR_RADIUS = 3  # pixels; the kernel holds sigmas up to 1.6


def _uniform(generator: torch.Generator, n: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device).view(-1, 1, 1, 1)


def mirror_and_zoom(
    image: Tensor, person: Tensor, ignore: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Mirror half of the images, zoom and shift all of them; the border is continued by reflection.

    Args:
        image: `(B,3,H,W)`; person, ignore: bool `(B,1,H,W)`.

    Returns:
        the same, warped alike; proportions are kept.
    """
    n = len(image)
    flip = 1 - 2 * (torch.rand(n, generator=generator) < 0.5).float()
    zoom = torch.exp(_uniform(generator, n, math.log(ZOOM[0]), math.log(ZOOM[1])))
    shift = (2 * torch.rand(n, 2, generator=generator) - 1) * 2 * SHIFT
    matrix = torch.zeros(n, 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1] = flip / zoom, 1 / zoom
    matrix[:, :, 2] = shift
    grid = F.affine_grid(matrix.to(image.device), list(image.shape), align_corners=False)
    stack = torch.cat([image, person.to(image.dtype), ignore.to(image.dtype)], dim=1)
    warped = F.grid_sample(stack, grid, padding_mode="reflection", align_corners=False)
    return warped[:, :3], warped[:, 3:4] > 0.5, warped[:, 4:] > 0


def colours(image: Tensor, generator: torch.Generator) -> Tensor:
    """Gamma, white balance, saturation (down to greyscale), contrast and brightness; in [-1,1]."""
    n = len(image)
    x = (image.clamp(-1, 1) + 1) / 2
    x = x.clamp_min(1e-4) ** _column(torch.exp(_uniform(generator, n, -0.5, 0.5)), image)
    gains = torch.exp(0.18 * torch.randn(n, 3, generator=generator)).to(image.device)
    x = x * gains[:, :, None, None]
    grey = (x * torch.tensor(LUMA, device=image.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    saturation = _uniform(generator, n, 0.3, 1.7)
    saturation[torch.rand(n, generator=generator) < 0.15] = 0.0
    x = grey + (x - grey) * _column(saturation, image)
    middle = x.mean((1, 2, 3), keepdim=True)
    x = middle + (x - middle) * _column(_uniform(generator, n, 0.5, 1.5), image)
    x = x + _column(_uniform(generator, n, -0.2, 0.2), image)
    return (2 * x - 1).clamp(-1, 1)


def blur_and_noise(image: Tensor, generator: torch.Generator) -> Tensor:
    """Blur a third of the images (Gaussian, sigma 0.4 to 1.6), grain in half of them; in [-1,1]."""
    n, channels, height, width = image.shape
    sigma = _uniform(generator, n, 0.4, 1.6)
    blurred = torch.rand(n, generator=generator) < 0.35
    strength = _uniform(generator, n, 0.0, 0.12)
    strength[torch.rand(n, generator=generator) < 0.5] = 0.0
    grain = torch.randn(n, channels, height, width, generator=generator)

    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1.0)
    kernel = torch.exp(-0.5 * (offsets[None] / sigma[:, None]) ** 2)
    kernel[~blurred] = (offsets == 0).float()
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(image.device).repeat_interleave(channels, 0)
    x = F.pad(image, (BLUR_RADIUS,) * 4, mode="reflect").reshape(1, n * channels, *_padded(image))
    x = F.conv2d(x, kernel[:, None, :, None], groups=n * channels)
    x = F.conv2d(x, kernel[:, None, None, :], groups=n * channels).reshape(image.shape)
    return (x + _column(strength, image) * grain.to(image.device)).clamp(-1, 1)


def _padded(image: Tensor) -> tuple[int, int]:
    return image.shape[2] + 2 * BLUR_RADIUS, image.shape[3] + 2 * BLUR_RADIUS


def augment(
    image: Tensor, person: Tensor, ignore: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """All of the above.

    Args:
        image: float `(B,3,H,W)` in [-1,1]; person, ignore: bool `(B,1,H,W)`.
        generator: CPU generator of this step.
    """
    image, person, ignore = mirror_and_zoom(image, person, ignore, generator)
    return blur_and_noise(colours(image, generator), generator), person, ignore
