"""`MaskPainter`: paint the hole over a photo, with mouse, pen, finger or keys, in the notebook.

The browser does the painting (`painter.js`); Python hears one message per finished stroke. Both
sides work on a copy whose longest side is at most `WORKING_SIDE` pixels. What travels is one bit a
pixel, or, once a soft brush was used, one byte: a hard stroke on a 24-megapixel photo is a message
of 87 KB.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import anywidget
import numpy as np
import torch
import torch.nn.functional as F
import traitlets
from PIL import Image

from ..images import check_pixels, resize_region
from ..segmentation.people import Person, union

WORKING_SIDE = 1024
TAKEN = 0.5  # share of a person in the hole above which a click leaves them, below takes them


def source(*names: str) -> str:
    """Files of this folder as one: a widget's JavaScript must be a single module."""
    return "\n".join(Path(__file__).with_name(name).read_text() for name in names)


def pack_region(region: np.ndarray) -> bytes:
    """Bool (h, w) as one bit a pixel, row by row, most significant bit first."""
    return np.packbits(region).tobytes()


def pack_ink(ink: np.ndarray) -> bytes:
    """uint8 (h, w), 0 to 255: as `pack_region` where all values are 0 or 255, else themselves."""
    hard = ((ink == 0) | (ink == 255)).all()
    return pack_region(ink > 0) if hard else ink.tobytes()


def unpack_ink(sent: bytes, height: int, width: int) -> np.ndarray:
    """Inverse of `pack_ink`: uint8 (height, width)."""
    count = height * width
    values = np.frombuffer(sent, np.uint8)
    if len(values) != count or count == 1:
        values = np.unpackbits(values, count=count) * np.uint8(255)
    return values.reshape(height, width)


def working_shape(height: int, width: int) -> tuple[int, int]:
    """(height, width) of the copy that is painted on: the photo's, or its longest side 1024."""
    scale = min(1.0, WORKING_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def working_copy(pixels: np.ndarray) -> Image.Image:
    """uint8 (H, W, 3) at the size of `working_shape`."""
    height, width = working_shape(*pixels.shape[:2])
    copy = Image.fromarray(pixels)
    if copy.size == (width, height):
        return copy
    return copy.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


class MaskPainter(anywidget.AnyWidget):
    """A photo with a hole painted over it.

    `painter.hole` reads the hole, bool (H, W) at the photo's resolution, and `painter.strength` how
    strongly it was painted, float32 (H, W) in [0,1]; setting either shows it in the browser. Where
    the longest side exceeds 1024, a stroke has the working copy's resolution (nearest up), while
    the parts of a region set from Python that nobody painted over keep their exact edges. With
    `painter.people = found.people`, a click on a person takes or leaves them.

    Args:
        pixels: the photo, uint8 (H, W, 3).
        hole: region to start with, bool (H, W).
        brush: diameter of the brush at the start, in percent of the photo's longest side.
        softness: of the brush at the start: 0 for a hard edge, 1 to fade from the middle.
        opacity: opacity of the overlay at the start, 0 to 1.
    """

    _esm = source("parts.js", "ink.js", "zoom.js", "painter.js")
    _css = source("parts.css", "painter.css", "page.css")

    # CBytes, not Bytes: the browser's message arrives as a memoryview, which Bytes rejects without
    # a word. The ink is not echoed: its sender has it already.
    photo_bytes = traitlets.CBytes().tag(sync=True)
    ink = traitlets.CBytes().tag(sync=True, echo_update=False)
    people_bytes = traitlets.CBytes().tag(sync=True)  # number of a person at each pixel, or 0
    width = traitlets.Int(0).tag(sync=True)
    height = traitlets.Int(0).tag(sync=True)
    brush = traitlets.Float(6.0, min=1, max=30).tag(sync=True)
    softness = traitlets.Float(0.0, min=0, max=1).tag(sync=True)
    opacity = traitlets.Float(0.55, min=0.1, max=0.9).tag(sync=True)
    label = traitlets.Unicode("Photo with the hole to fill").tag(sync=True)

    def __init__(self, pixels: np.ndarray | None = None, hole: np.ndarray | None = None, **traits):
        self._good_ink = b""
        super().__init__(**traits)
        # What was last set from Python, exact, 0 to 255; and the ink that stood for it.
        self._set_values = np.zeros((0, 0), np.uint8)
        self._set_ink = b""
        self._people: tuple[Person, ...] = ()
        self.on_msg(self._heard)
        if pixels is not None:
            self.set_photo(pixels, hole)

    @traitlets.validate("ink")
    def _ink_of_this_photo(self, proposal: dict) -> bytes:
        """Keep the hole when a stroke arrives that was drawn on a photo of another size."""
        count = self.width * self.height
        if len(proposal["value"]) in (-(-count // 8), count):
            self._good_ink = proposal["value"]
        return self._good_ink

    def set_photo(self, pixels: np.ndarray, hole: np.ndarray | None = None) -> None:
        """Show another photo, with an empty hole unless one is given, and nobody found.

        Raises:
            ValueError: pixels that are not uint8 (H, W, 3), or a hole of another shape.
        """
        check_pixels(pixels)
        shape = pixels.shape[:2]
        region = check_hole(np.zeros(shape, bool) if hole is None else hole, shape)
        stream = io.BytesIO()
        # For the eye only: the pixels stay in Python.
        working_copy(pixels).save(stream, "JPEG", quality=92)
        with self.hold_sync():  # photo, size and hole travel in one message
            self.height, self.width = working_shape(*shape)
            self.photo_bytes = stream.getvalue()
            self._people, self.people_bytes = (), b""
            self._show(region * np.uint8(255))

    # -- the hole --------------------------------------------------------------------------------

    @property
    def hole(self) -> np.ndarray:
        """The hole now: bool (H, W) at the photo's resolution, a copy. Soft strokes belong to it.

        Raises:
            ValueError: no photo yet.
        """
        return self._painted() > 0

    @hole.setter
    def hole(self, region: np.ndarray) -> None:
        self._need_photo()
        self._show(check_hole(region, self._set_values.shape) * np.uint8(255))

    @property
    def strength(self) -> np.ndarray:
        """How strongly each pixel is painted: float32 (H, W) in [0,1], below 1 from soft strokes.

        Raises:
            ValueError: no photo yet.
        """
        return self._painted() / np.float32(255)

    @strength.setter
    def strength(self, strength: np.ndarray) -> None:
        """Raises ValueError for no photo yet, another shape, or values outside [0,1]."""
        self._need_photo()
        strength = np.asarray(strength)
        wanted = self._set_values.shape
        if strength.shape != wanted or not ((strength >= 0) & (strength <= 1)).all():
            raise ValueError(f"strength is {strength.shape}: give {wanted} with values in [0,1]")
        self._show(np.rint(strength * 255).astype(np.uint8))

    def _painted(self) -> np.ndarray:
        """uint8 (H, W), 0 to 255, at the photo's resolution."""
        self._need_photo()
        sent = self.ink  # one snapshot: a stroke may arrive while this runs
        now = unpack_ink(sent, self.height, self.width)
        painted_over = now != unpack_ink(self._set_ink, self.height, self.width)
        if not painted_over.any():
            return self._set_values.copy()
        # The nearest pixel of the copy for each of the photo's.
        rows, columns = (np.arange(n) * m // n for n, m in zip(self._set_values.shape, now.shape))
        large = now[rows[:, None], columns]
        return np.where(painted_over[rows[:, None], columns], large, self._set_values)

    def _show(self, values: np.ndarray) -> None:
        large = torch.from_numpy(values)[None, None].float()
        small = F.adaptive_max_pool2d(large, (self.height, self.width))  # nothing thin gets lost
        self._set_values, self._set_ink = values, pack_ink(small[0, 0].byte().numpy())
        self.ink = self._set_ink

    def _need_photo(self) -> None:
        if not self._set_values.size:
            raise ValueError("the painter shows no photo: call set_photo(pixels) first")

    # -- people ----------------------------------------------------------------------------------

    @property
    def people(self) -> tuple[Person, ...]:
        """Who can be clicked, the largest first; they need not be in the hole."""
        return self._people

    @people.setter
    def people(self, people: Sequence[Person]) -> None:
        """Raises ValueError for no photo yet, or people of a photo of another size."""
        self._need_photo()
        union(people, self._set_values.shape)  # refuses people of another photo
        numbers = np.zeros((self.height, self.width), np.uint8)
        for number, person in enumerate(people[:255], 1):  # small ones on top of large ones
            numbers[resize_region(person.region, numbers.shape)] = number
        self._people = tuple(people)
        self.people_bytes = numbers.tobytes() if len(people) else b""

    def toggle(self, number: int) -> None:
        """Take a person into the hole, or leave them out if most of them is in it.

        Others who are taken keep the pixels that they share with a person who is left out.

        Args:
            number: from 1, the largest person.

        Raises:
            ValueError: there is no such person.
        """
        if not 1 <= number <= len(self._people):
            raise ValueError(f"there is no person {number}: {len(self._people)} were found")
        person, values = self._people[number - 1], self._painted()
        hole = values > 0
        if _taken(person, hole):
            others = [one for one in self._people if one is not person and _taken(one, hole)]
            values[person.region & ~union(others, hole.shape)] = 0
        else:
            values[person.region] = 255
        self._show(values)

    def _heard(self, _widget: object, content: dict, _buffers: list) -> None:
        number = content.get("toggle")
        if isinstance(number, int) and 1 <= number <= len(self._people):
            self.toggle(number)


def _taken(person: Person, hole: np.ndarray) -> bool:
    y0, x0, y1, x1 = person.box
    return (hole[y0:y1, x0:x1] & person.inside).sum() > TAKEN * person.area


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
