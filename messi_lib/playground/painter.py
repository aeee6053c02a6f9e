"""`MaskPainter`: paint the hole over a photo, with mouse, pen or finger, in the notebook.

The browser does the painting (`painter.js`); Python hears one message per finished stroke. Both
sides work on a copy whose longest side is at most `WORKING_SIDE` pixels, one bit a pixel: a stroke
on a 24-megapixel photo is a message of 98 KB, not of 24 MB.
"""

from __future__ import annotations

import io
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image

from ..images import check_pixels, resize_region

WORKING_SIDE = 1024


def pack_region(region: np.ndarray) -> bytes:
    """Bool (h, w) as one bit a pixel, row by row, most significant bit first."""
    return np.packbits(region).tobytes()


def unpack_region(bits: bytes, height: int, width: int) -> np.ndarray:
    """Inverse of `pack_region`: bool (height, width)."""
    flat = np.unpackbits(np.frombuffer(bits, np.uint8), count=height * width)
    return flat.reshape(height, width).astype(bool)


def working_shape(height: int, width: int) -> tuple[int, int]:
    """(height, width) of the copy that is painted on: the photo's, or its longest side 1024."""
    scale = min(1.0, WORKING_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


class MaskPainter(anywidget.AnyWidget):
    """A photo with a hole painted over it.

    `painter.hole` reads the hole, bool (H, W) at the photo's resolution; `painter.hole = region`
    shows a region in the browser. Where the longest side exceeds 1024, a brush stroke has the
    working copy's resolution (nearest up), while the parts of a region set from Python that nobody
    painted over keep their exact edges.

    Args:
        pixels: the photo, uint8 (H, W, 3).
        hole: region to start with, bool (H, W).
        brush: diameter of the brush at the start, in percent of the photo's longest side.
        opacity: opacity of the overlay at the start, 0 to 1.
    """

    _esm = Path(__file__).with_name("painter.js")
    _css = Path(__file__).with_name("painter.css")

    # CBytes, not Bytes: the browser's message arrives as a memoryview, which Bytes rejects without
    # a word. The hole is not echoed: its sender has it already.
    photo_bytes = traitlets.CBytes().tag(sync=True)
    hole_bits = traitlets.CBytes().tag(sync=True, echo_update=False)
    width = traitlets.Int(0).tag(sync=True)
    height = traitlets.Int(0).tag(sync=True)
    brush = traitlets.Float(6.0, min=1, max=30).tag(sync=True)
    opacity = traitlets.Float(0.55, min=0.1, max=0.9).tag(sync=True)
    label = traitlets.Unicode("Photo with the hole to fill").tag(sync=True)

    def __init__(self, pixels: np.ndarray | None = None, hole: np.ndarray | None = None, **traits):
        self._good_bits = b""
        super().__init__(**traits)
        # The region last set from Python, exact, and the bits that stood for it.
        self._set_region = np.zeros((0, 0), bool)
        self._set_bits = b""
        if pixels is not None:
            self.set_photo(pixels, hole)

    @traitlets.validate("hole_bits")
    def _bits_of_this_photo(self, proposal: dict) -> bytes:
        """Keep the hole when a stroke arrives that was drawn on a photo of another size."""
        if len(proposal["value"]) == -(-self.width * self.height // 8):
            self._good_bits = proposal["value"]
        return self._good_bits

    def set_photo(self, pixels: np.ndarray, hole: np.ndarray | None = None) -> None:
        """Show another photo, with an empty hole unless one is given.

        Raises:
            ValueError: pixels that are not uint8 (H, W, 3), or a hole of another shape.
        """
        check_pixels(pixels)
        shape = pixels.shape[:2]
        region = check_hole(np.zeros(shape, bool) if hole is None else hole, shape)
        height, width = working_shape(*shape)
        copy = Image.fromarray(pixels)
        if copy.size != (width, height):
            copy = copy.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
        stream = io.BytesIO()
        copy.save(stream, "JPEG", quality=92)  # for the eye only: the pixels stay in Python
        with self.hold_sync():  # photo, size and hole travel in one message
            self.width, self.height = width, height
            self.photo_bytes = stream.getvalue()
            self._show(region)

    @property
    def hole(self) -> np.ndarray:
        """The hole now: bool (H, W) at the photo's resolution, a copy.

        Raises:
            ValueError: no photo yet.
        """
        if not self._set_region.size:
            raise ValueError("the painter shows no photo: call set_photo(pixels) first")
        bits = self.hole_bits  # one snapshot: a stroke may arrive while this runs
        now = unpack_region(bits, self.height, self.width)
        painted_over = now != unpack_region(self._set_bits, self.height, self.width)
        if not painted_over.any():
            return self._set_region.copy()
        shape = self._set_region.shape
        painted_over, now = resize_region(painted_over, shape), resize_region(now, shape)
        return np.where(painted_over, now, self._set_region)

    @hole.setter
    def hole(self, region: np.ndarray) -> None:
        if not self._set_region.size:
            raise ValueError("the painter shows no photo: call set_photo(pixels) first")
        self._show(check_hole(region, self._set_region.shape))

    def _show(self, region: np.ndarray) -> None:
        small = resize_region(region, (self.height, self.width))
        self._set_region, self._set_bits = region.copy(), pack_region(small)
        self.hole_bits = self._set_bits


def check_hole(region: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The region itself, if it is a bool array of that shape.

    Raises:
        ValueError: another type (0/255 and sums are how people turned white) or another shape.
    """
    region = np.asarray(region)
    if region.dtype != bool:
        raise ValueError(f"hole is {region.dtype}: give bool, for instance `hole > 127`")
    if region.shape != tuple(shape):
        raise ValueError(f"hole is {region.shape}, the photo {tuple(shape)}: the sizes must agree")
    return region
