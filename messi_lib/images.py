"""Pixels and regions: the only place where uint8 becomes float and back.

Inside the library an image is float32 RGB `(B,3,H,W)` in [-1,1]; a region (person, hole, keep,
ignore) is bool and named by what True means. Photo files are read and written by `photos`, whose
functions are exported here.
"""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .photos import (
    FORMATS,
    GENERATED,
    SUFFIXES,
    Photo,
    check_pixels,
    list_photos,
    load_photo,
    named_format,
    output_format,
    photo_from,
    save_photo,
)
from .runs import atomic_write

__all__ = [
    "FORMATS",
    "GENERATED",
    "SUFFIXES",
    "Photo",
    "check_pixels",
    "grid",
    "list_photos",
    "load_photo",
    "named_format",
    "output_format",
    "overlay",
    "photo_from",
    "resize",
    "resize_region",
    "save_photo",
    "to_tensor",
    "to_uint8",
    "write_png",
]


_LEVELS = (torch.arange(256).float() / 127.5 - 1).numpy()


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 `(H,W,3)` or `(B,H,W,3)` -> float32 `(1|B,3,H,W)` in [-1,1]."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
        raise ValueError(f"expected uint8 (H,W,3) or (B,H,W,3), not {pixels.dtype} {pixels.shape}")
    # torch warns of arrays that cannot be written to, as memory-mapped ones: those are copied
    pixels = np.require(pixels if pixels.ndim == 4 else pixels[None], requirements=["C", "W"])
    batch = torch.from_numpy(pixels)
    planes = batch.permute(0, 3, 1, 2).contiguous().numpy()
    if not planes.size:
        return torch.from_numpy(planes).float()
    # A table of 256 floats: three times as fast as arithmetic, and the same to the last bit.
    rows = planes.reshape(-1, planes.shape[-1])
    return torch.from_numpy(cv2.LUT(rows, _LEVELS).reshape(planes.shape))


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """`(B,3,H,W)` or `(3,H,W)` in [-1,1] -> uint8 `(B,H,W,3)` or `(H,W,3)`: clamped, rounded.

    Raises:
        ValueError: another shape, or values that are no numbers.
    """
    if images.ndim not in (3, 4) or images.shape[-3] != 3:
        raise ValueError(f"expected (B,3,H,W) or (3,H,W), not {tuple(images.shape)}")
    if not torch.isfinite(images).all():
        raise ValueError("the image has values that are no numbers (NaN or infinite)")
    levels = ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.movedim(-3, -1).contiguous().cpu().numpy()


def resize(images: torch.Tensor, size: int | tuple[int, int]) -> torch.Tensor:
    """Antialiased bicubic resize of `(B,3,H,W)` in [-1,1] to `size` (side, or height and width).

    The result is clamped to [-1,1]: a cubic kernel overshoots at edges.
    """
    target = (size, size) if isinstance(size, int) else tuple(size)
    if images.shape[-2:] == target:
        return images
    larger = F.interpolate(images, target, mode="bicubic", align_corners=False, antialias=True)
    return larger.clamp(-1, 1)


def resize_region(
    region: np.ndarray | torch.Tensor, size: int | tuple[int, int]
) -> np.ndarray | torch.Tensor:
    """Resize a bool region `(...,H,W)`: max-pooled down (nothing gets lost), nearest up."""
    if isinstance(region, np.ndarray):
        return resize_region(torch.from_numpy(np.ascontiguousarray(region)), size).numpy()
    if region.dtype != torch.bool:
        raise ValueError(f"a region is bool, not {region.dtype}")
    height, width = (size, size) if isinstance(size, int) else size
    flat = region.reshape(-1, 1, *region.shape[-2:]).float()
    flat = F.adaptive_max_pool2d(flat, (min(height, flat.shape[-2]), min(width, flat.shape[-1])))
    flat = F.interpolate(flat, (height, width), mode="nearest")
    return flat.reshape(*region.shape[:-2], height, width) > 0.5


def grid(images: torch.Tensor, columns: int = 8, pad: int = 2, scale: int = 1) -> np.ndarray:
    """Contact sheet of `(B,3,H,W)` in [-1,1] as uint8 `(H,W,3)`: row by row, white between."""
    tiles = to_uint8(images).repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, _ = tiles.shape
    columns = max(min(columns, count), 1)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + pad) + pad, columns * (width + pad) + pad, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top = pad + number // columns * (height + pad)
        left = pad + number % columns * (width + pad)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def overlay(
    pixels: np.ndarray,
    region: np.ndarray,
    colour: tuple[int, int, int] = (230, 60, 130),
    opacity: float = 0.5,
) -> np.ndarray:
    """`pixels` (uint8 `(H,W,3)`) tinted with `colour` where `region` (bool `(H,W)`)."""
    check_pixels(pixels, region.shape)
    result = pixels.copy()
    tinted = pixels[region] * (1 - opacity) + np.array(colour) * opacity
    result[region] = np.rint(tinted).astype(np.uint8)
    return result


def write_png(pixels: np.ndarray, path: Path | str) -> Path:
    """Write uint8 `(H,W,3)` or `(H,W)`, or a bool region `(H,W)` (white is True), as PNG."""
    pixels = pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return atomic_write(path, stream.getvalue())
