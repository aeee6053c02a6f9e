"""Putting a generated patch into the photo: colour, detail, border, and not one pixel more.

Alpha is 1 in the hole, falls to 0 across the feather outside it, and is exactly 0 beyond. Old and
new are mixed in linear light, as a lens would: mixing the stored values darkens the border.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from ..images import check_pixels
from .detail import blurred, crisp, match_detail, sharpness
from .holes import crop_around, distance_to
from .layer import LAYER, lay_over, parts, steepened
from .light import from_linear, to_linear
from .poisson import membrane
from .window import Window, cut, cut_region, uncut

MAX_SHIFT = np.array([10.0, 8.0, 8.0], np.float32)  # of L, a, b: about the cast of another lamp
MAX_GAIN = 1.2
BLENDS = ("feather", "poisson")


def feather_alpha(hole: np.ndarray, feather: int) -> np.ndarray:
    """Opacity of the patch, float32 `(H,W)`: 1 in the hole, a cosine ramp over `feather` pixels.

    Exactly 0 for pixels farther than `feather` from the hole, above 0 for all nearer ones.
    """
    return _alpha(distance_to(hole), feather)


def _alpha(distance: np.ndarray, feather: int) -> np.ndarray:
    ramp = 0.5 + 0.5 * np.cos(np.pi * np.minimum(distance / (feather + 1), 1))
    return np.where(distance <= feather, ramp, 0).astype(np.float32)


def match_colours(
    patch: torch.Tensor, known: torch.Tensor, generated: torch.Tensor, unknown: torch.Tensor
) -> torch.Tensor:
    """Bring what was generated to the colours of what lies around it, at the generator's own size.

    In CIE Lab, the cells just inside the edge are compared with the known cells just outside. Their
    mean and deviation decide one bounded change of everything generated (MAX_SHIFT, MAX_GAIN): a
    player may differ from the lawn, the light on both may not differ much. What difference remains
    along the edge is taken off there, and ever less towards the middle.

    Args:
        patch, known: `(1,3,S,S)` in [-1,1], what the generator made and what the photo shows.
        generated: bool `(1,1,S,S)`, the hole to correct.
        unknown: bool `(1,1,S,S)`, all holes; the photo is not looked at there.

    Returns:
        `(1,3,S,S)` in [-1,1]: the known cells, and the corrected ones in `generated`.
    """
    inside, free = generated[0, 0].numpy(), ~unknown[0, 0].numpy()
    width = max(patch.shape[-1] / 24, 1.5)
    depth = distance_to(~inside)
    inner, outer = inside & (depth <= width), free & (distance_to(inside) <= width)
    if not inner.any() or not outer.any():
        return torch.where(generated, patch, known)
    lab, there = _to_lab(patch), _to_lab(known)
    here, around = lab[inner], there[outer]
    gain = ((around.std(0) + 1) / (here.std(0) + 1)).clip(1 / MAX_GAIN, MAX_GAIN)
    shift = (around.mean(0) - here.mean(0)).clip(-MAX_SHIFT, MAX_SHIFT)
    lab = (lab - here.mean(0)) * gain + here.mean(0) + shift
    rest = _spread(there, outer, width) - _spread(lab, inner, width)
    fading = np.exp(-0.5 * ((depth - 1) / width) ** 2)[..., None]
    lab = lab + rest.clip(-3 * MAX_SHIFT, 3 * MAX_SHIFT) * fading
    return torch.where(generated, _from_lab(lab), known)


def _to_lab(image: torch.Tensor) -> np.ndarray:
    values = ((image[0].float().cpu() + 1) / 2).permute(1, 2, 0).contiguous().numpy()
    return cv2.cvtColor(values, cv2.COLOR_RGB2LAB)


def _from_lab(lab: np.ndarray) -> torch.Tensor:
    values = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB).clip(0, 1)
    return torch.from_numpy(values).permute(2, 0, 1)[None] * 2 - 1


def _spread(values: np.ndarray, region: np.ndarray, width: float) -> np.ndarray:
    """Local mean of `(S,S,3)` over `region`, continued smoothly everywhere."""
    weight = region.astype(np.float32)
    total, mass = values * weight[..., None], weight
    result, trust = np.zeros_like(values), np.zeros((*region.shape, 1), np.float32)
    for scale in (1, 3, 12):  # where no cell of the region is near, farther ones speak
        blurred = cv2.GaussianBlur(total, (0, 0), scale * width)
        share = cv2.GaussianBlur(mass, (0, 0), scale * width)[..., None]
        usable = np.clip(share * 20, 0, 1) * (1 - trust)
        result += usable * blurred / np.maximum(share, 1e-6)
        trust += usable
    return result + (1 - trust) * values[region].mean(0)


def composite(
    pixels: np.ndarray,
    patch: torch.Tensor,
    window: Window,
    hole: np.ndarray,
    feather: int,
    match_colour: bool = True,
    unknown: np.ndarray | None = None,
    *,
    known: torch.Tensor | None = None,
    grain: torch.Generator | None = None,
    blend: str = "feather",
    background: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Blend a generated patch into a photo.

    Args:
        pixels: uint8 `(H,W,3)`; stays as it is.
        patch: `(1,3,S,S)` in [-1,1], what the generator made of the window; or `(1,4,S,S)`, a layer
            (`layer.draw_layer`), which is laid over `background`.
        window: where the patch belongs.
        hole: bool `(H,W)`, the pixels to replace; outside the window it is not filled.
        feather: width of the soft border around the hole, pixels.
        match_colour: bring the patch to the colours around the hole (`match_colours`).
        unknown: bool `(H,W)`, all holes of the photo, whose pixels are not looked at; None: `hole`.
        known: what `window.cut` makes of the window without `unknown`, where that is at hand.
        grain: bring the patch also to the sharpness and the grain around the hole (`detail`), and
            draw the grain from this generator; None: the patch is only enlarged.
        blend: "feather", or "poisson": the colour that is still missing at the outer edge of the
            feather is spread over all of the patch (`poisson.membrane`).
        background: uint8 `(H,W,3)`, the photo without whoever was in the hole, for a layer. Its
            colours need no matching (`match_colour`): they are the photo's own.

    Returns:
        (pixels uint8 `(H,W,3)`, changed bool `(H,W)`): `changed` is where alpha is above 0, all
        pixels elsewhere are identical to the input's.

    Raises:
        ValueError: wrong types or shapes, a negative feather, or an unknown way to blend.
    """
    check_pixels(pixels, hole.shape)
    if hole.dtype != bool or feather < 0:
        raise ValueError(f"hole must be bool (is {hole.dtype}), feather 0 or more (is {feather})")
    if blend not in BLENDS:
        raise ValueError(f"blend={blend!r}: use one of {', '.join(BLENDS)}")
    unknown = hole if unknown is None else unknown
    result, changed = pixels.copy(), np.zeros(hole.shape, bool)
    box = _box(hole, window, feather + 1)
    if box is None:
        return result, changed
    patch = patch.reshape(1, *patch.shape[-3:]).cpu()
    cover = None
    if patch.shape[1] == LAYER:
        if background is None:
            raise ValueError("a layer needs a background: give what fill_background returns")
        patch, cover = parts(patch)
    elif match_colour:
        size = patch.shape[-1]
        known = cut(pixels, window, size, unknown) if known is None else known
        regions = (cut_region(region, window, size) for region in (hole, unknown))
        patch = match_colours(patch, known, *regions)
    if grain is not None:
        patch = crisp(patch, window.size)
        side = max(s.stop - s.start for s in box)
        box = _box(hole, window, feather + min(max(side // 6, 12), 96))  # to look around
    new = uncut(patch, window, hole.shape, box)
    new *= 0.5  # in place: of a large photo this is a large part
    new += 0.5
    distance = distance_to(hole[box])
    touched = distance <= feather
    around, hidden, drawn = ~touched & ~unknown[box], unknown[box] | hole[box], hole[box]
    if cover is not None:
        scale = window.size / cover.shape[-1]
        shown = steepened(uncut(cover, window, hole.shape, box), scale)
        drawn = drawn & (shown > 0.5)
    if grain is not None:
        new = match_detail(new, pixels[box], drawn, around, hidden, grain)
    if cover is not None:  # what is behind has the photo's sharpness and grain already
        if grain is not None:
            shown = blurred(shown, sharpness(pixels[box], around, hidden))
        new = lay_over(new, shown, background[box].astype(np.float32) / 255)
    if blend == "poisson":
        edge = (distance > feather) & (distance <= feather + 1) & ~unknown[box]
        new += membrane(pixels[box].astype(np.float32) / 255 - new, touched, edge)
    ramp = np.nonzero(touched & ~hole[box])
    alpha = _alpha(distance[ramp], feather)[:, None]
    old = to_linear(pixels[box][ramp].astype(np.float32) / 255)
    mixed = old * (1 - alpha) + to_linear(new[ramp].clip(0, 1)) * alpha
    new[ramp] = from_linear(mixed)
    new = cv2.convertScaleAbs(np.maximum(new, 0, out=new), alpha=255)  # rounded and clipped
    result[box] = cv2.copyTo(new, touched.view(np.uint8), result[box].copy())
    changed[box] = touched
    return result, changed


def _box(hole: np.ndarray, window: Window, margin: int) -> tuple[slice, slice] | None:
    """The hole's box with a margin, within the window; None if the window shows none of it."""
    crop, shown = crop_around(hole, margin), window.inside(hole.shape)
    if crop is None or any(c.start >= s.stop or s.start >= c.stop for c, s in zip(crop, shown)):
        return None
    rows, columns = (slice(max(c.start, s.start), min(c.stop, s.stop)) for c, s in zip(crop, shown))
    return rows, columns
