"""A generator that draws the figure alone, as a layer: colours and coverage, to lay over a photo.

A network that fills a hole draws a person and, around him, whatever place the photo was taken in.
The person it can learn from a thousand photos; all places of the world it cannot, and what it makes
of them is a haze that gives the figure away. Here the place is filled from the photo itself
(`background`), and the network draws four channels: the figure's colours and, as Zhang and Agrawala
2024 ("Transparent image layer diffusion using latent transparency") do in a latent, how much of
every pixel it covers. Enlarged, the coverage stays an outline: it can be made as sharp as the photo
(`lay_over`), where a blend of figure and place would stay a blur.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..consistency.denoiser import Denoiser
from ..consistency.sampling import Progress
from ..images import to_tensor, to_uint8
from .background import fill_background
from .conditional import CHANNELS, condition_of, multistep
from .light import from_linear, to_linear
from .solvers import Generators, check_counts, check_problem
from .window import without

LAYER = 4  # channels: red, green, blue, coverage
STEEPEST = 8.0  # most by which an outline is made steeper
ENOUGH = 0.25  # share of its hole that a figure covers at least: in training most cover more
SOLID = 0.9  # coverage from which on a pixel's colour is the figure's own
SCRAP = 0.15  # area of a piece, as a share of the largest, below which it is no part of the figure


def layer_of(cutouts: np.ndarray) -> Tensor:
    """Photos of the subject with its coverage -> what the generator shall draw.

    Colours are multiplied by the coverage (Porter and Duff 1984, "Compositing digital images"): a
    pixel without the figure has no colour to learn. Where the figure covers a pixel in part, the
    photo shows a mixture; there its colour is taken from the nearest pixel that it covers.

    Args:
        cutouts: uint8 (B, S, S, 4), the last channel the coverage (`data.cutouts`).

    Returns:
        (B, 4, S, S) in [-1, 1]: coverage times colour, 0 where nothing is covered; then the
        coverage, -1 for none, 1 for all.
    """
    layers = np.empty(cutouts.shape, np.float32)
    for layer, cutout in zip(layers, cutouts):
        cover = cutout[..., 3:].astype(np.float32) / 255
        solid = cover[..., 0] >= SOLID
        colours = np.ascontiguousarray(cutout[..., :3])
        if solid.any():
            colours = without(colours, ~solid)
        layer[..., :3] = (colours / np.float32(127.5) - 1) * cover
        layer[..., 3:] = 2 * cover - 1
    return torch.from_numpy(layers).permute(0, 3, 1, 2).contiguous()


def empty_layer(layer: Tensor) -> Tensor:
    """The empty layer of the same shape, (B, 4, S, S): no colour, no coverage."""
    empty = torch.zeros_like(layer)
    empty[:, 3] = -1
    return empty


def draw_layer(
    denoiser: Denoiser,
    image: Tensor,
    hole: Tensor,
    sigmas: Sequence[float] | Tensor,
    generator: Generators,
    *,
    draws: int = 1,
    calm_below: float = 1.5,
    progress: Progress | None = None,
) -> Tensor:
    """Multistep consistency sampling of a figure that stands in the hole.

    Args:
        denoiser: one that draws layers (`messi train layer`).
        image: (B, 3, S, S) in [-1, 1]; inside the hole it is not read.
        The others: as in `conditional.conditional`.

    Returns:
        (B, 4, S, S) in [-1, 1] as `layer_of` gives them, on the denoiser's device; nothing outside
        the hole, and no scraps.

    Raises:
        ValueError: a denoiser that draws no layers; as `conditional`.
    """
    if denoiser.channels != LAYER or denoiser.condition_channels != CHANNELS:
        raise ValueError("this generator draws no layers: train one with messi train layer")
    check_problem(denoiser, image, hole)
    check_counts(image, generator, draws)
    told = condition_of(image.float(), hole)
    outside = empty_layer(told)
    layers = multistep(
        denoiser, told, outside, hole, sigmas, generator,
        draws=draws, calm_below=calm_below, progress=progress,
    )  # fmt: skip
    return without_scraps(layers)


def without_scraps(layer: Tensor) -> Tensor:
    """Layers (B, 4, S, S) without small pieces that hang in the air beside the figure.

    Where a hole has an unusual shape, a network of this size leaves a hand or a shoe where in
    another drawing an arm would have led there. Faint coverage goes with the piece it surrounds.
    """
    made = layer.clone()
    for one in made:
        solid = (one[3] > 0).cpu().numpy().view(np.uint8)
        count, label, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        if count <= 2:
            continue
        kept = areas >= SCRAP * areas[1:].max()
        _, nearest = cv2.distanceTransformWithLabels(
            1 - solid, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        piece = np.zeros(nearest.max() + 1, np.intp)
        piece[nearest[solid > 0]] = label[solid > 0]
        gone = torch.from_numpy(~kept[piece[nearest]]).to(one.device)
        one[:3, gone], one[3, gone] = 0, -1
    return made


def flaws(layers: Tensor, holes: Tensor) -> list[float]:
    """How much of each figure seems to be missing: 0 for none, about 1 for an empty layer.

    The share of the hole's edge that a figure touches, where it may have been cut off (not at the
    border of the window, where photos end), and what it lacks of covering ENOUGH of its hole.

    Args:
        layers: (B, 4, S, S) in [-1, 1]. holes: bool (B, 1, S, S).
    """
    shown, outside = (layers[:, 3:] > 0) & holes, (~holes).float()
    edge = holes & (F.max_pool2d(outside, 3, 1, 1) > 0)
    touched, covered = (
        (shown & region).sum((1, 2, 3)) / region.sum((1, 2, 3)).clamp(min=1)
        for region in (edge, holes)
    )
    return (touched + (1 - covered / ENOUGH).clamp(min=0)).tolist()


def flatten(layer: Tensor, background: Tensor) -> Tensor:
    """Layer (B, 4, S, S) over background (B, 3, S, S), both in [-1, 1]: the operator "over"."""
    cover = ((layer[:, 3:] + 1) / 2).clamp(0, 1)
    return (layer[:, :3] + (1 - cover) * background.to(layer)).clamp(-1, 1)


def behind(image: Tensor, hole: Tensor) -> Tensor:
    """Images (B, 3, S, S) in [-1, 1] without what is in their holes, bool (B, 1, S, S)."""
    filled = [
        to_tensor(fill_background(to_uint8(each), region[0].cpu().numpy()))
        for each, region in zip(torch.where(hole, 0.0, image), hole)
    ]
    return torch.where(hole, torch.cat(filled).to(image), image)


def parts(layer: Tensor) -> tuple[Tensor, Tensor]:
    """A layer's own colours and its coverage: (1, 3, S, S) and (1, 1, S, S), both in [-1, 1].

    The colours are no longer multiplied, and go on beyond the outline: what is enlarged later has
    neighbours of its own colour everywhere.

    Args:
        layer: (1, 4, S, S) or (4, S, S) as `draw_layer` returns it.
    """
    layer = layer.reshape(LAYER, *layer.shape[-2:]).float().cpu()
    cover = ((layer[3] + 1) / 2).clamp(0, 1)
    colours = (layer[:3] / cover.clamp(min=0.3)).clamp(-1, 1)
    faint = (cover < 0.5).numpy()
    values = np.rint((colours.permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)
    if not faint.all():
        values = without(np.ascontiguousarray(values), faint)
    return to_tensor(values), layer[3][None, None]


def steepened(cover: np.ndarray, scale: float) -> np.ndarray:
    """Enlarged coverage in [-1, 1] -> coverage in [0, 1] with an outline as sharp as the photo.

    In the small image the coverage changes within a cell or two; enlarged, that would be a soft
    border of many pixels. It is made steeper by as much as it was enlarged, around one half, which
    leaves the outline where it is. Faint coverage, a network's doubt, is gone with it.

    Args:
        cover: float32 (H, W).
        scale: side of the window in pixels over the side of the small image.
    """
    return np.clip(0.5 + 0.5 * cover * min(max(scale, 1.0), STEEPEST), 0, 1)


def lay_over(colours: np.ndarray, cover: np.ndarray, background: np.ndarray) -> np.ndarray:
    """A figure over a photo: float32 (H, W, 3) in [0, 1], mixed in linear light along its outline.

    Args:
        colours: float32 (H, W, 3) in [0, 1], defined everywhere.
        cover: float32 (H, W) in [0, 1].
        background: float32 (H, W, 3) in [0, 1].
    """
    result = np.where(cover[..., None] >= 0.5, colours, background)
    edge = np.nonzero((cover > 0) & (cover < 1))
    share = cover[edge][:, None]
    mixed = to_linear(background[edge]) * (1 - share) + to_linear(colours[edge]) * share
    result[edge] = from_linear(mixed)
    return result
