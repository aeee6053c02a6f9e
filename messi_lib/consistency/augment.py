"""Augmentation that does not leak: the network is told what was done to each image.

Generators trained on few photos memorise them. Flips, zooms and shifts make more of each photo, but
a generator that is shown tilted people draws tilted people. Here every image comes with nine labels
that describe its change (Karras et al. 2022, "EDM", appendix F.2); labels of zero mean "as taken",
and zeros are what a sampler asks for. The changes are the geometric ones of Karras et al. 2020
("ADA"). Written from the formulas of the two papers.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LABEL_NAMES = (
    "xflip",  # 0 or 1
    "yflip",  # 0 or 1
    "scale",  # n, content is 2^(0.2 n) times as large
    "cos_rotation",  # cos r - 1, so that no rotation is 0
    "sin_rotation",  # sin r
    "cos_stretch",  # n cos a: stretched by 2^(0.2 n) along the axis of angle a, squeezed across it
    "sin_stretch",  # n sin a
    "shift_x",  # n, moved right by n W/8
    "shift_y",  # n, moved down by n W/8
)
LABELS = len(LABEL_NAMES)
LOBES = 3  # of the Lanczos filters: 12 taps at the doubled rate, as many as EDM's sym6 wavelet
MARGIN = 2 * LOBES - 1  # fine pixels that the last filter needs beyond the border


@dataclass(frozen=True)
class Augmentation:
    """Random geometric changes with labels; a strength of 0 or False switches one off.

    The flips toss a coin: the left-right one for every image, the upside-down one with probability
    `probability`. So half of all images are mirrored whenever `probability` > 0: do not mirror them
    elsewhere too. All other changes happen with `probability`, independently of each other.

    Changing a strength, or switching a change off, leaves the random numbers of the others as they
    are.

    Args:
        probability: 0 (images pass through) to 1; EDM's values are 0.12 to 0.15.
        xflip: left-right.
        yflip: upside down; off, nobody stands on their head.
        scale: octaves per standard deviation.
        rotation: largest angle in radians, pi for EDM's full turn. The default of 15 degrees is
            about as far as heads and cameras tilt, and at most a tenth of the picture (1 - 2 / (1 +
            sin r + cos r)) then is mirrored border.
        anisotropy: octaves per standard deviation, along an axis that is horizontal or vertical in
            half of the cases and of any direction in the others.
        translation: shares of the width per standard deviation, each way.

    Raises:
        ValueError: a probability outside [0, 1], a negative strength or one that is no number.
    """

    probability: float = 0.15
    xflip: bool = True
    yflip: bool = False
    scale: float = 0.2
    rotation: float = math.pi / 12
    anisotropy: float = 0.2
    translation: float = 0.125

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability={self.probability}: give a number from 0 to 1")
        for name in ("scale", "rotation", "anisotropy", "translation"):
            value = getattr(self, name)
            largest = math.pi if name == "rotation" else 1.0
            if not 0 <= value <= largest:
                raise ValueError(f"{name}={value}: give a number from 0 (off) to {largest:.4g}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Change a batch at random: `draw` labels, then `apply` them.

        Args:
            images: float (B, 3, S, S) in [-1, 1], on any device.
            generator: on the CPU, so that all devices draw the same changes. Left untouched at
                probability 0.

        Returns:
            images (B, 3, S, S), see `apply`, and labels (B, 9) float32, both on the images' device.

        Raises:
            ValueError: images of another shape or type.
        """
        _check(images)
        labels = self.draw(len(images), generator)
        return self.apply(images, labels), labels.to(images.device)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Labels of `n` images at random, (n, 9) float32 on the CPU; zeros where nothing happens.

        The stretched axis a is drawn from half a turn, where the paper draws it from a whole one:
        there, (n, a) and (-n, a + pi) are different changes with the same label. An axis has no
        direction, so the images are distributed alike, and `matrices` can tell n and a.
        """
        labels = torch.zeros(n, LABELS)
        if self.probability == 0:
            return labels
        chance = torch.rand(n, 10, generator=generator)
        normal = torch.randn(n, 4, generator=generator)
        on = (chance[:, :5] < self.probability).float()
        yflip, scaled, turned, stretched, moved = on.T
        coins = (chance[:, 5:8] < 0.5).float()
        labels[:, 0] = self.xflip * coins[:, 0]
        labels[:, 1] = self.yflip * yflip * coins[:, 1]
        labels[:, 2] = (self.scale > 0) * scaled * normal[:, 0]
        angle = self.rotation * turned * (2 * chance[:, 8] - 1)
        labels[:, 3], labels[:, 4] = angle.cos() - 1, angle.sin()
        axis = math.pi * (chance[:, 9] - 0.5) * coins[:, 2]
        stretch = (self.anisotropy > 0) * stretched * normal[:, 1]
        labels[:, 5], labels[:, 6] = stretch * axis.cos(), stretch * axis.sin()
        labels[:, 7:] = (self.translation > 0) * moved[:, None] * normal[:, 2:]
        return labels

    def matrices(self, labels: Tensor) -> Tensor:
        """What the labels do, as maps of the plane: what was seen at p is then seen at M (p, 1).

        Coordinates are (x, y) to the right and down from the centre; the image spans [-1, 1]. Flips
        come first, then scale, rotation (positive: clockwise), stretch, and the shift last.

        Args:
            labels: (B, 9).

        Returns:
            (B, 2, 3) float64 on the CPU.
        """
        v = labels.detach().cpu().double()
        flips = torch.diag_embed(1 - 2 * v[:, :2])
        zoom = torch.exp2(self.scale * v[:, 2])[:, None, None]
        cos, sin = 1 + v[:, 3], v[:, 4]
        rotation = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
        # R(a) diag(e^k, e^-k) R(-a) in one: cosh k + sinh k times the reflection at the axis.
        k = math.log(2) * self.anisotropy * v[:, 5:7].norm(dim=1)
        k = torch.where(v[:, 5] < 0, -k, k)
        twice = 2 * torch.atan2(v[:, 6], v[:, 5])
        reflection = torch.stack([twice.cos(), twice.sin(), twice.sin(), -twice.cos()], 1)
        stretch = k.cosh()[:, None, None] * torch.eye(2, dtype=v.dtype)
        stretch = stretch + k.sinh()[:, None, None] * reflection.view(-1, 2, 2)
        shift = 2 * self.translation * v[:, 7:, None]  # the image is 2 wide
        return torch.cat([stretch @ rotation @ (zoom * flips), shift], 2)

    @torch.no_grad()
    def apply(self, images: Tensor, labels: Tensor) -> Tensor:
        """Change images as their labels say.

        All but the flips is one warp. Images that need none are copied bit by bit, mirrored if
        their label says so. A warped image is a linear function of the original and is not clamped
        (nor is it in EDM): the filters overshoot at hard edges. On photos of 32 and 64 px under 1%
        of the values leave [-1, 1], by 0.25 at most, and no sample asks for labels that do so.

        Args:
            images: float (B, 3, S, S) in [-1, 1]. Not modified.
            labels: (B, 9); on the CPU they cost a GPU no waiting.

        Returns:
            (B, 3, S, S) of the images' type and device, without gradient. The images themselves
            where no label is set.

        Raises:
            ValueError: images of another shape or type, or labels that do not fit them.
        """
        _check(images)
        if labels.shape != (len(images), LABELS):
            raise ValueError(
                f"labels of shape {tuple(labels.shape)}: expected ({len(images)}, {LABELS})"
            )
        labels = labels.detach().cpu()
        for column, side in ((0, 3), (1, 2)):
            flipped = labels[:, column] > 0.5
            if flipped.any():
                flipped = flipped.to(images.device)[:, None, None, None]
                images = torch.where(flipped, images.flip(side), images)
        index = labels[:, 2:].any(1).nonzero()[:, 0]
        if len(index):
            rest = labels[index]
            rest[:, :2] = 0  # done above
            index = index.to(images.device)
            warped = warp(images[index].float(), self.matrices(rest))
            images = images.index_copy(0, index, warped.to(images.dtype))
        return images


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Move images by affine maps, without aliasing; beyond its border an image is mirrored.

    As in ADA (appendix B.2): up to twice the rate with a low-pass filter, bilinear samples at the
    mapped places, and down again with a low-pass filter, which removes what shrinking has made too
    fine. Down to half the size that is all; what shrinks further (beyond five standard deviations
    of the scale) may alias a little.

    Args:
        images: float32 (B, C, S, S).
        matrices: (B, 2, 3), maps as in `Augmentation.matrices`.

    Returns:
        (B, C, S, S), not clamped.
    """
    size, device = images.shape[-1], images.device
    up, down = _filters(size, device)
    linear = torch.linalg.inv(matrices[:, :, :2])
    back = torch.cat([linear, -linear @ matrices[:, :, 2:]], 2).float().to(device)
    place = (torch.arange(down.shape[1], device=device) - MARGIN + 0.5) / size - 1
    # Term by term rather than as a matrix product: autocast or TF32 would round the coordinates.
    x, y = (
        back[:, r, 0, None, None] * place
        + back[:, r, 1, None, None] * place[:, None]
        + back[:, r, 2, None, None]
        for r in (0, 1)
    )
    with torch.autocast(device.type, enabled=False):
        fine = up @ images @ up.T
        fine = F.grid_sample(
            fine, torch.stack([x, y], -1), padding_mode="reflection", align_corners=False
        )
        return down @ fine @ down.T


@functools.lru_cache(maxsize=8)
def _filters(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Lanczos filters as matrices: up (2S, S), which mirrors at the borders, and down (S, 2S + 2
    MARGIN), from fine pixels of which MARGIN lie beyond each border."""
    taps = torch.arange(-LOBES - 1, size + LOBES + 1)
    centres = (torch.arange(2 * size, dtype=torch.float64) + 0.5) / 2 - 0.5
    mirrored = taps % (2 * size)
    mirrored = torch.where(mirrored < size, mirrored, 2 * size - 1 - mirrored)
    up = torch.zeros(2 * size, size, dtype=torch.float64)
    up.index_add_(1, mirrored, _lanczos(centres[:, None] - taps))

    centres = 2 * torch.arange(size, dtype=torch.float64) + 0.5 + MARGIN
    down = _lanczos((centres[:, None] - torch.arange(2 * size + 2 * MARGIN)) / 2)
    return up.float().to(device), down.float().to(device)


def _lanczos(x: Tensor) -> Tensor:
    """The kernel at distances `x` (rows, taps) in pixels, rows scaled to a sum of 1."""
    weights = torch.sinc(x) * torch.sinc(x / LOBES) * (x.abs() < LOBES)
    return weights / weights.sum(1, keepdim=True)


def _check(images: Tensor) -> None:
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or shape[2] < 1:
        raise ValueError(f"images of shape {shape}: expected (B, 3, S, S), square RGB")
    if not images.is_floating_point():
        raise ValueError(
            f"images of type {str(images.dtype)[6:]}: convert them with images.to_tensor first"
        )
