"""`Playground`: pick a photo, paint or find people, generate, compare, undo, download.

Callbacks of widgets may run beside the cells of the notebook (JupyterLab gives them a thread of
their own), so nothing here touches pyplot, and slow work runs in a worker that the page can cancel.
"""

from __future__ import annotations

import base64
import html
import io
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image

from ..consistency.denoiser import Denoiser
from ..images import Photo, list_photos, overlay
from ..profiles import ReplaceConfig
from ..replace import Finder
from ..runs import samples_dir
from .painter import MaskPainter, working_shape
from .session import Cancelled, Generation, Session

OWN = "(own photo)"
SETTINGS = ("steps", "seed", "grow", "feather")  # of ReplaceConfig, with a widget each
MUTED, ALARM = "--jp-ui-font-color2", "--jp-error-color1"


def explain(error: Exception) -> str:
    """One line for the page: what was wrong and what to do."""
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU's memory is full: close other notebooks, or restart with MESSI_DEVICE=cpu"
    if isinstance(error, (ValueError, OSError)) and text:
        return text
    return f"{type(error).__name__}: {text or 'no details'} (restart the kernel and try once more)"


def png(pixels: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as PNG at the size in which the painter shows photos."""
    height, width = working_shape(*pixels.shape[:2])
    shown = Image.fromarray(pixels)
    if shown.size != (width, height):
        shown = shown.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    stream = io.BytesIO()
    shown.save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def sample_photos() -> dict[str, Path]:
    """The photos that ship, by name; none where the folder is missing or empty."""
    try:
        return {path.name: path for path in list_photos([samples_dir()])}
    except (FileNotFoundError, ValueError):
        return {}


class Playground(widgets.VBox):
    """The playground. Show it by naming it in a cell's last line.

    `find_people()` and `generate()` do in a cell what the buttons do on the page, but wait for the
    end and raise what went wrong. `painter.hole` is the hole, `session.generations` the results.

    Args:
        photo: a Photo, a file or uint8 (H, W, 3); None: the first of the samples, if there are any.
        segmenter, denoiser: models or weights files; None: those that ship, loaded when needed.
        config: where the settings start; None: the preset of the current profile.

    Raises:
        FileNotFoundError, ValueError: a photo that cannot be read.
    """

    def __init__(
        self,
        photo: Photo | Path | str | np.ndarray | None = None,
        segmenter: Finder | Path | str | None = None,
        denoiser: Denoiser | Path | str | None = None,
        config: ReplaceConfig | None = None,
    ):
        self.session = Session(photo, segmenter=segmenter, denoiser=denoiser, config=config)
        self.painter = MaskPainter()
        self._own: Photo | None = None  # the last photo that is none of the samples
        self._worker: threading.Thread | None = None
        self._samples = sample_photos()
        super().__init__(self._build(), layout=widgets.Layout(grid_gap="10px", padding="4px"))
        if self.session.photo is None and self._samples:
            self.session.open(next(iter(self._samples.values())))
        self._show_photo()
        self._connect()

    # -- the page --------------------------------------------------------------------------------

    def _build(self) -> list[widgets.Widget]:
        start, layout = self.session.config, widgets.Layout
        named = {"style": {"description_width": "60px"}, "layout": layout(width="240px")}
        self.picker = widgets.Dropdown(
            options=[OWN, *self._samples], description="photo", value=OWN, **named
        )
        self.upload = widgets.FileUpload(
            accept="image/*", description="Upload", tooltip="a photo of yours"
        )
        self.find_button = widgets.Button(description="Find people", icon="user")
        self.steps = widgets.IntSlider(start.steps, 1, 40, description="steps", **named)
        shares = {"min": 0.0, "step": 0.01, **named}
        self.grow = widgets.FloatSlider(start.grow, max=0.3, description="grow", **shares)
        self.feather = widgets.FloatSlider(start.feather, max=0.2, description="feather", **shares)
        self.seed = widgets.BoundedIntText(start.seed, 0, 2**31 - 1, description="seed", **named)
        self.generate_button = widgets.Button(
            description="Generate", icon="magic", button_style="primary"
        )
        self.cancel_button = widgets.Button(description="Cancel", icon="stop", disabled=True)
        self.undo_button = widgets.Button(description="Undo result", icon="undo", disabled=True)
        self.progress = widgets.IntProgress(0, 0, 1, layout=layout(width="180px"))
        self.message = widgets.HTML()
        self.before, self.after = widgets.Image(format="png"), widgets.Image(format="png")
        self.compare = widgets.ToggleButtons(
            options=["after", "before"], tooltips=["the result", "the photo"]
        )
        self.compare.style.button_width = "72px"
        self.download = widgets.HTML(layout=layout(height="32px", margin="0"))
        row = layout(flex_flow="row wrap", align_items="center", grid_gap="4px 8px")
        half = {"flex": "1 1 340px", "min_width": "0"}  # side by side, or stacked on a phone
        self.painter.layout = layout(**half)
        self._result = widgets.VBox(
            [widgets.HBox([self.compare, self.download], layout=row), self.after, self.before],
            layout=layout(display="none", grid_gap="6px", padding="2px", **half),
        )
        both = layout(flex_flow="row wrap", align_items="flex-start", grid_gap="16px")
        buttons = [self.generate_button, self.cancel_button, self.undo_button, self.progress]
        return [
            widgets.HBox([self.picker, self.upload, self.find_button], layout=row),
            widgets.HBox([self.painter, self._result], layout=both),
            widgets.HBox([self.steps, self.grow, self.feather, self.seed], layout=row),
            widgets.HBox(buttons, layout=row),
            self.message,
        ]

    def _connect(self) -> None:
        self.picker.observe(self._pick, "value")
        self.upload.observe(self._uploaded, "value")
        self.compare.observe(lambda _: self._show_compared(), "value")
        self.find_button.on_click(lambda _: self._start(self.find_people))
        self.generate_button.on_click(lambda _: self._start(self.generate))
        self.cancel_button.on_click(lambda _: self.cancel())
        self.undo_button.on_click(lambda _: self.undo())

    def say(self, text: str, alarm: bool = False) -> None:
        """Show one line under the buttons; screen readers read it out."""
        role, colour = ("alert", ALARM) if alarm else ("status", MUTED)
        text = html.escape(text)
        self.message.value = f'<div role="{role}" style="color:var({colour})">{text}</div>'

    # -- photos ----------------------------------------------------------------------------------

    def _show_photo(self) -> None:
        photo = self.session.photo
        if photo is None:
            return self.say("upload a photo to begin")
        sample = photo.path is not None and self._samples.get(photo.path.name) == photo.path
        self._own = self._own if sample else photo
        self.picker.value = photo.path.name if sample else OWN
        self.painter.label = f"Photo {photo.path.name if photo.path else ''}".strip()
        self.painter.set_photo(photo.pixels)
        self.before.value = png(photo.pixels)
        height, width = photo.pixels.shape[:2]
        for picture in (self.before, self.after):  # as large as the painter shows the photo
            picture.layout.width = f"min(100%, {round(480 * width / height)}px)"
        self._show_result()
        self.say("paint over what is to go, or find the people, then generate")

    def _open(self, opener: Callable[..., Photo], *source: object) -> None:
        with self._working("opening the photo ..."):
            opener(*source)
        self._show_photo()

    def _pick(self, change: dict) -> None:
        wanted, shown = self._samples.get(change["new"], self._own), self.session.photo
        if wanted is None:
            self.say("there is no photo of yours yet: upload one")
        elif shown is None or (wanted is not shown and wanted != shown.path):
            self._catch(self._open, self.session.open, wanted)

    def _uploaded(self, change: dict) -> None:
        for file in change["new"]:
            upload = file["name"], bytes(file["content"])
            self._catch(self._open, self.session.open_upload, *upload)
        self.upload.value = ()  # so that the same file can be uploaded again

    # -- work ------------------------------------------------------------------------------------

    def find_people(self) -> np.ndarray:
        """Find the people and show them as the hole (undo in the painter takes it back).

        Returns:
            The hole, bool (H, W).
        """
        with self._working("looking for people ..."):
            found = self.session.find_people()
            self.painter.hole = found.person
        count = f"{len(found.people)} {'person' if len(found.people) == 1 else 'people'} found"
        remedy = "correct with brush and eraser" if found.people else "paint the hole yourself"
        self.say(f"{count}: {remedy}")
        return found.person

    def generate(self) -> Generation:
        """Fill the painted hole with the settings on the page, and show the result.

        Raises:
            Cancelled: Cancel was pressed. ValueError: no photo, or an empty hole.
        """
        with self._working("generating ..."):
            self.session.need_photo()
            hole = self.painter.hole  # a snapshot: strokes from now on belong to the next result
            settings = {name: getattr(self, name).value for name in SETTINGS}
            done = self.session.generate(hole, progress=self._advance, **settings)
            self.progress.value = self.progress.max
            self._show_result()
        notes = "".join(f"; {note}" for note in done.result.warnings)
        self.say(f"done in {done.result.seconds['total']:.1f} s{notes}")
        return done

    def cancel(self) -> None:
        """Stop the generation under way before its next network call."""
        self.session.cancel()
        self.say("cancelling ...")

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for what a button started; False if it still runs after `seconds`."""
        if self._worker is not None:
            self._worker.join(seconds)
        return self._worker is None or not self._worker.is_alive()

    def _advance(self, done: int, total: int) -> None:
        self.progress.max, self.progress.value = total, done
        self.say(f"generating: step {done + 1} of {total}")

    @contextmanager
    def _working(self, text: str) -> Iterator[None]:
        """Lock the page meanwhile; show an error on it before passing it on."""
        self._lock_page(True)
        self.progress.value = 0
        self.say(text)
        try:
            yield
        except Cancelled:
            self.progress.value = 0
            self.say("cancelled: nothing was changed")
            raise
        except Exception as error:
            self.progress.value = 0
            self.say(explain(error), alarm=True)
            raise
        finally:
            self._lock_page(False)

    def _lock_page(self, busy: bool) -> None:
        for control in (self.picker, self.upload, self.find_button, self.generate_button):
            control.disabled = busy
        self.cancel_button.disabled = not busy
        self.undo_button.disabled = busy or not self.session.generations

    def _start(self, work: Callable[[], object]) -> None:
        """Do it in a thread of its own, so that the kernel stays free; one at a time."""
        if self.wait(0):
            self._worker = threading.Thread(
                target=self._catch, args=(work,), name="playground", daemon=True
            )
            self._worker.start()

    def _catch(self, work: Callable[..., object], *arguments: object) -> None:
        """Errors of callbacks end here: they are on the page already, surprises in the log too."""
        try:
            work(*arguments)
        except (Cancelled, ValueError, OSError):
            return
        except Exception:
            logging.getLogger(__name__).exception("the playground failed")

    # -- results ---------------------------------------------------------------------------------

    def undo(self) -> Generation | None:
        """Forget the last result and go back to the one before, with its hole and settings."""
        last = self.session.undo()
        if last is not None:
            self.painter.hole = last.painted
            for name in SETTINGS:
                getattr(self, name).value = getattr(last.config, name)
        self._show_result()
        left = len(self.session.generations)
        self.say(f"{left} {'result' if left == 1 else 'results'} left")
        return last

    def picture(self) -> Image.Image:
        """Photo, hole and result side by side: stays visible where widgets are not shown."""
        photo = self.session.need_photo()
        shown = [photo.pixels, overlay(photo.pixels, self.painter.hole)]
        if self.session.generations:
            shown.append(self.session.generations[-1].result.pixels)
        return Image.open(io.BytesIO(png(np.concatenate(shown, axis=1))))

    def _show_result(self) -> None:
        results = self.session.generations
        self.undo_button.disabled = not results
        self._result.layout.display = "flex" if results else "none"
        if not results:
            self.download.value, self.after.value = "", b""
            return
        self.after.value = png(results[-1].result.pixels)
        self.compare.value = "after"
        self._show_compared()
        name, mime, content = self.session.file()
        data = f"data:{mime};base64,{base64.b64encode(content).decode()}"
        self.download.value = (
            f'<a class="jupyter-button widget-button mod-success" style="display:inline-block" '
            f'download="{html.escape(name)}" href="{data}">Download</a>'
        )

    def _show_compared(self) -> None:
        shown = self.compare.value
        self.after.layout.display = "" if shown == "after" else "none"
        self.before.layout.display = "" if shown == "before" else "none"
