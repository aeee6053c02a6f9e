"""`ResultViewer`: the photo before and after under one slider, candidates to choose from, files."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import anywidget
import numpy as np
import traitlets
from PIL import Image

from .painter import source, working_copy

THUMB_SIDE = 192
File = tuple[str, str, bytes]  # name, MIME type, content


def png(pixels: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as PNG at the size in which the painter shows photos."""
    stream = io.BytesIO()
    working_copy(pixels).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def thumbnail(pixels: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as JPEG of at most `THUMB_SIDE` pixels a side."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMB_SIDE, THUMB_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return stream.getvalue()


class ResultViewer(anywidget.AnyWidget):
    """Shows one result; the browser asks for files only when somebody saves them.

    Args:
        file: `file("result")` and `file("mask")` give name, MIME type and content of a download;
            what it raises goes to `failed(error)`.
    """

    _esm = source("parts.js", "viewer.js")
    _css = source("parts.css", "viewer.css")

    before_bytes = traitlets.CBytes().tag(sync=True)
    after_bytes = traitlets.CBytes().tag(sync=True)
    thumbs = traitlets.List(traitlets.CBytes()).tag(sync=True)
    chosen = traitlets.Int(0).tag(sync=True)  # number of the candidate on show
    caption = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        file: Callable[[str], File],
        failed: Callable[[Exception], None],
        **traits: object,
    ):
        super().__init__(**traits)
        self._file, self._failed = file, failed
        self.on_msg(self._heard)

    def show_photo(self, pixels: np.ndarray) -> None:
        """The photo before, uint8 (H, W, 3)."""
        self.before_bytes = png(pixels)

    def show_results(
        self, close_ups: Sequence[np.ndarray], chosen: int, pixels: np.ndarray, caption: str
    ) -> None:
        """Thumbnails of all candidates, and one of them as a whole; uint8 (H, W, 3) each."""
        with self.hold_sync():
            self.thumbs, self.chosen = [thumbnail(one) for one in close_ups], chosen
            self.show_one(pixels, caption)

    def show_one(self, pixels: np.ndarray, caption: str) -> None:
        """Another of the candidates, uint8 (H, W, 3)."""
        with self.hold_sync():
            self.after_bytes, self.caption = png(pixels), caption

    def _heard(self, _widget: object, content: dict, _buffers: list) -> None:
        if content.get("save") not in ("result", "mask"):
            return
        try:
            name, mime, data = self._file(content["save"])
        except Exception as error:
            self._failed(error)
        else:
            self.send({"file": name, "mime": mime}, [data])
