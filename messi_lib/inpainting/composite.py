"""Putting a generated patch into the photo: colour, soft border, and not one pixel more.

Alpha is 1 in the hole, falls to 0 across the feather outside it, and is exactly 0 beyond. Old and
new are mixed in linear light, as a lens would: mixing the stored values darkens the border.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from ..images import check_pixels
from .holes import crop_around, distance_to
from .window import Window, uncut

MAX_SHIFT = np.array([10.0, 8.0, 8.0], np.float32)  # of L, a, b: about the cast of another lamp
MAX_GAIN = 1.2


def feather_alpha(hole: np.ndarray, feather: int) -> np.ndarray:
    """Opacity of the patch, float32 `(H,W)`: 1 in the hole, a cosine ramp over `feather` pixels.

    Exactly 0 for pixels farther than `feather` from the hole, above 0 for all nearer ones.
    """
    distance = distance_to(hole)
    ramp = 0.5 + 0.5 * np.cos(np.pi * np.minimum(distance / (feather + 1), 1))
    return np.where(distance <= feather, ramp, 0).astype(np.float32)


def to_linear(values: np.ndarray) -> np.ndarray:
    """sRGB in [0,1] -> linear light in [0,1] (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def from_linear(values: np.ndarray) -> np.ndarray:
    """Linear light in [0,1] -> sRGB in [0,1]; the inverse of `to_linear`."""
    root = np.maximum(values, 0) ** (1 / 2.4)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * root - 0.055)


def match_to_ring(
    patch: np.ndarray, photo: np.ndarray, hole: np.ndarray, inside: int, outside: int
) -> np.ndarray:
    """Shift and stretch the colours of `patch` so that they meet the photo around the hole.

    In CIE Lab, the mean and the deviation of the patch just inside the edge of the hole are moved
    to those of the photo just outside. Both moves are bounded (MAX_SHIFT, MAX_GAIN): what is
    generated may differ from its surroundings, its light may not differ much.

    Args:
        patch, photo: float32 `(H,W,3)`, sRGB in [0,1].
        hole: bool `(H,W)`.
        inside, outside: width of the ring on either side of the edge, pixels.

    Returns:
        float32 `(H,W,3)` in [0,1]; the patch itself where the hole has no surroundings.
    """
    outer = (distance_to(hole) <= outside) & ~hole
    inner = (distance_to(~hole) <= inside) & hole
    if not outer.any() or not inner.any():
        return patch
    lab = cv2.cvtColor(patch, cv2.COLOR_RGB2LAB)
    there = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB)[outer]
    here = lab[inner]
    gain = (there.std(0) + 1) / (here.std(0) + 1)
    gain = gain.clip(1 / MAX_GAIN, MAX_GAIN)
    shift = (there.mean(0) - here.mean(0)).clip(-MAX_SHIFT, MAX_SHIFT)
    matched = (lab - here.mean(0)) * gain + here.mean(0) + shift
    return cv2.cvtColor(matched.astype(np.float32), cv2.COLOR_LAB2RGB).clip(0, 1)


def composite(
    pixels: np.ndarray,
    patch: torch.Tensor,
    window: Window,
    hole: np.ndarray,
    feather: int,
    match_colour: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Blend a generated patch into a photo.

    Args:
        pixels: uint8 `(H,W,3)`; stays as it is.
        patch: `(1,3,S,S)` in [-1,1], what the generator made of the window.
        window: where the patch belongs.
        hole: bool `(H,W)`, the pixels to replace; outside the window it is not filled.
        feather: width of the soft border around the hole, pixels.
        match_colour: bring the patch to the colours around the hole.

    Returns:
        (pixels uint8 `(H,W,3)`, changed bool `(H,W)`): `changed` is where alpha is above 0, all
        pixels elsewhere are identical to the input's.

    Raises:
        ValueError: wrong types or shapes, or a negative feather.
    """
    check_pixels(pixels, hole.shape)
    if hole.dtype != bool or feather < 0:
        raise ValueError(f"hole must be bool (is {hole.dtype}), feather 0 or more (is {feather})")
    result, changed = pixels.copy(), np.zeros(hole.shape, bool)
    # Feathers never overlap, so a ring as wide as the feather shows nobody else who is to go.
    outside = max(feather, 2)
    crop = crop_around(hole, outside + 1)
    shown = window.inside(hole.shape)
    if crop is None or any(c.start >= s.stop or s.start >= c.stop for c, s in zip(crop, shown)):
        return result, changed
    box = tuple(slice(max(c.start, s.start), min(c.stop, s.stop)) for c, s in zip(crop, shown))
    within = tuple(slice(b.start - s.start, b.stop - s.start) for b, s in zip(box, shown))
    new = (uncut(patch, window, hole.shape)[within] + 1) / 2
    old = pixels[box].astype(np.float32) / 255
    if match_colour:
        inside = max(outside, round(window.size / 24))
        new = match_to_ring(new, old, hole[box], inside, outside)
    alpha = feather_alpha(hole[box], feather)[..., None]
    mixed = from_linear(to_linear(old) * (1 - alpha) + to_linear(new) * alpha)
    touched = alpha[..., 0] > 0
    result[box][touched] = np.rint(mixed[touched] * 255).clip(0, 255).astype(np.uint8)
    changed[box] = touched
    return result, changed
