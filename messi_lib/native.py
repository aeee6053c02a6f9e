"""An image in its own mode: seen as 8-bit RGB, and changed without touching its other pixels.

Bilevel, grey, palette, CMYK, Lab, 16 and 32 bit: new pixels are converted into the mode of the
image; whatever is not new keeps its stored value, bit for bit, and its transparency.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

# Modes that no file format keeps, and what they are read as.
SIMPLER = {"PA": "RGBA", "La": "LA", "RGBa": "RGBA", "HSV": "RGB"}


def as_rgb(native: Image.Image) -> np.ndarray:
    """uint8 `(H,W,3)` of an image of any mode; alpha is left out, not blended."""
    if native.mode[0] in "IF":
        grey = np.nan_to_num(np.asarray(native).astype(np.float32)) / _span(native)
        grey = np.rint(grey.clip(0, 1) * 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(native.convert("RGB"))


def _span(native: Image.Image) -> float:
    """The value that is white in a grey image of 16 or 32 bits."""
    if native.mode.startswith("I;16"):
        return 65535.0
    top = float(np.nan_to_num(np.asarray(native)).max())
    steps = (1.0, 255.0, 65535.0) if native.mode == "F" else (65535.0,)
    return next((step for step in steps if top <= step), top)


def paste(native: Image.Image, pixels: np.ndarray, changed: np.ndarray) -> Image.Image:
    """A copy of `native` that shows `pixels` (uint8 `(H,W,3)`) where `changed` (bool `(H,W)`).

    Alpha stays as it is, also inside; where one colour means transparent, such pixels stay.
    """
    if native.mode[0] in "IF":
        values = np.array(native)
        new = np.asarray(Image.fromarray(pixels).convert("L"))[changed] / 255 * _span(native)
        values[changed] = new if native.mode == "F" else np.rint(new)
        return Image.fromarray(values)
    if native.mode == "P":
        return _paste_palette(native, pixels, changed)
    mode = {"LA": "L", "RGBA": "RGB"}.get(native.mode, native.mode)
    new = Image.fromarray(pixels).convert(mode)
    key = native.info.get("transparency")  # PNG: one colour of the photo means transparent
    if key is not None and mode in ("L", "RGB"):
        values = np.array(new).reshape(*changed.shape, -1)
        values[(values == key).all(2), -1] ^= 1
        new = Image.fromarray(values.squeeze(2) if mode == "L" else values)
        stored = np.asarray(native).reshape(values.shape)
        changed = changed & (stored != key).any(2)
    if native.mode in ("LA", "RGBA"):
        new.putalpha(native.getchannel("A"))
    result = native.copy()
    result.paste(new, (0, 0), Image.fromarray(changed))
    return result


def _mix(
    index: np.ndarray,
    palette: np.ndarray,
    pixels: np.ndarray,
    area: np.ndarray,
    entries: np.ndarray,
    used: np.ndarray,
) -> None:
    """Show `pixels` in `area` by palette entries of one opacity, re-mixing those not in `used`."""
    free = np.setdiff1d(entries, used)
    if len(free):
        strip = Image.fromarray(pixels[area][None]).quantize(len(free), dither=Image.Dither.NONE)
        mixed = np.array(strip.getpalette("RGB"), np.uint8).reshape(-1, 3)[: len(free)]
        free = free[: len(mixed)]
        palette[free] = mixed
    allowed = np.union1d(np.intersect1d(entries, used), free)
    allowed = np.concatenate([allowed, np.repeat(allowed[-1], 256 - len(allowed))])
    mixer = Image.new("P", (1, 1))
    mixer.putpalette(palette[allowed].tobytes())
    rows, columns = np.flatnonzero(area.any(1)), np.flatnonzero(area.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    picked = np.asarray(Image.fromarray(pixels[box]).quantize(palette=mixer))
    index[box][area[box]] = allowed[picked][area[box]]


def _paste_palette(native: Image.Image, pixels: np.ndarray, changed: np.ndarray) -> Image.Image:
    """Paste into a palette image: colours nobody else uses are re-mixed for the new pixels."""
    index = np.array(native)
    palette = np.zeros((256, 3), np.uint8)
    stored = np.array(native.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[: len(stored)] = stored
    alpha = np.full(256, 255, np.uint8)
    key = native.info.get("transparency")
    if isinstance(key, bytes):
        alpha[: len(key)] = np.frombuffer(key, np.uint8)
    elif key is not None:
        alpha[key] = 0
    opacity = alpha[index]
    for level in np.unique(opacity[changed]):
        if level > 0:
            area, entries = changed & (opacity == level), np.flatnonzero(alpha == level)
            _mix(index, palette, pixels, area, entries, np.unique(index[~area]))
    result = Image.fromarray(index, "P")
    result.putpalette(palette[: max(len(stored), int(index.max()) + 1)].tobytes())
    result.info = dict(native.info)
    return result
