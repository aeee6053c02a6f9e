"""`Playground`: pick a photo, paint or find people, generate, choose, compare, undo, download.

Callbacks of widgets may run beside the cells of the notebook (JupyterLab gives them a thread of
their own), so nothing here touches pyplot, and slow work runs in a worker that the page can cancel.
"""

from __future__ import annotations

import html
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
from ..runs import Run, runs_dir, samples_dir
from .generation import Generation
from .page import OWN, Controls
from .painter import MaskPainter, working_copy
from .session import Cancelled, Finder, Session, model_of
from .viewer import ResultViewer

SETTINGS = ("solver", "steps", "seed", "grow", "feather")  # of ReplaceConfig, a widget each
FIRST = "stadium.jpg"  # shown at the beginning: one whole person
MUTED, ALARM = "--jp-ui-font-color2", "--jp-error-color1"


def explain(error: Exception) -> str:
    """One line for the page: what was wrong and what to do."""
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU's memory is full: close other notebooks, or restart with MESSI_DEVICE=cpu"
    if isinstance(error, (ValueError, OSError)) and text:
        return text
    return f"{type(error).__name__}: {text or 'no details'} (restart the kernel and try once more)"


def sample_photos() -> dict[str, Path]:
    """The photos that ship, by name, FIRST first; none where the folder is missing or empty."""
    try:
        photos = {path.name: path for path in list_photos([samples_dir()])}
    except (FileNotFoundError, ValueError):
        return {}
    return dict(sorted(photos.items(), key=lambda item: item[0] != FIRST))


def run_of(source: object) -> Run | Path | None:
    """The run that `Playground(source)` means, if it means one: a Run, its folder, or its name."""
    if isinstance(source, Run):
        return source
    if not isinstance(source, (str, Path)) or Path(source).is_file():
        return None
    folders = (Path(source), runs_dir() / source)
    return next((one for one in folders if (one / "config.json").is_file()), None)


class Playground(widgets.VBox):
    """The playground. Show it by naming it in a cell's last line.

    `find_people()` and `generate()` do in a cell what the buttons do on the page, but wait for the
    end and raise what went wrong. `painter.hole` is the hole, `session.current` the result,
    `session.rounds` all results so far; `session.segmenter` may be replaced by another finder.

    Args:
        photo: a Photo, a file or uint8 (H, W, 3); None: the first of the samples, if there are any.
            Or a run, as below.
        segmenter, denoiser: models or weights files; None: those that ship, loaded when needed.
        config: where the settings start; None: the preset of the current profile.
        run: a `Run`, its folder or its name, whose generator is used.

    Raises:
        FileNotFoundError, ValueError: a photo or a run that cannot be read.
    """

    def __init__(
        self,
        photo: Photo | Run | Path | str | np.ndarray | None = None,
        segmenter: Finder | Path | str | None = None,
        denoiser: Denoiser | Path | str | None = None,
        config: ReplaceConfig | None = None,
        *,
        run: Run | Path | str | None = None,
    ):
        if run_of(photo) is not None:
            photo, run = None, photo
        if run is not None:
            if run_of(run) is None:
                raise FileNotFoundError(f"no run {run}: give a Run, its folder or its name")
            denoiser = model_of(run_of(run)) if denoiser is None else denoiser
        self.session = Session(photo, segmenter=segmenter, denoiser=denoiser, config=config)
        self.painter = MaskPainter()
        self.viewer = ResultViewer(self.session.file, lambda e: self.say(explain(e), alarm=True))
        self._own: Photo | None = None  # the last photo that is none of the samples
        self._worker: threading.Thread | None = None
        self._samples = sample_photos()
        self.controls = Controls(self.session.config, self._samples, self.painter, self.viewer)
        super().__init__(self.controls.rows)
        self.add_class("messi-playground")
        if self.session.photo is None and self._samples:
            self.session.open(next(iter(self._samples.values())))
        self._show_photo()
        self._connect()

    def _connect(self) -> None:
        on = self.controls
        on.picker.observe(self._pick, "value")
        on.upload.observe(self._uploaded, "value")
        on.find.on_click(lambda _: self._start(self.find_people))
        on.generate.on_click(lambda _: self._start(self.generate))
        on.cancel.on_click(lambda _: self.cancel())
        on.undo.on_click(lambda _: self.undo())
        self.viewer.observe(self._choose, "chosen")

    def say(self, text: str, alarm: bool = False) -> None:
        """Show one line under the buttons; screen readers read it out."""
        role, colour = ("alert", ALARM) if alarm else ("status", MUTED)
        text = html.escape(text)
        self.controls.message.value = (
            f'<div class="messi-message" role="{role}" style="color:var({colour})">{text}</div>'
        )

    # -- photos ----------------------------------------------------------------------------------

    def _show_photo(self) -> None:
        photo = self.session.photo
        if photo is None:
            self._show_results()
            return self.say("upload a photo to begin")
        sample = photo.path is not None and self._samples.get(photo.path.name) == photo.path
        self._own = self._own if sample else photo
        self.controls.picker.value = photo.path.name if sample else OWN
        self.painter.label = f"Photo {photo.path.name if photo.path else ''}".strip()
        self.painter.set_photo(photo.pixels)
        self.viewer.show_photo(photo.pixels)
        self._show_results()
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
        self.controls.upload.value = ()  # so that the same file can be uploaded again

    # -- work ------------------------------------------------------------------------------------

    def find_people(self) -> np.ndarray:
        """Find the people and show them as the hole (undo in the painter takes it back).

        Returns:
            The hole, bool (H, W).
        """
        with self._working("looking for people ..."):
            found = self.session.find_people()
            with self.painter.hold_sync():
                self.painter.people = found.people
                self.painter.hole = found.person
        count = f"{len(found.people)} {'person' if len(found.people) == 1 else 'people'} found"
        remedy = "click on them to leave or take them, or correct by brush"
        self.say(f"{count}: {remedy if found.people else 'paint the hole yourself'}")
        return found.person

    def generate(self) -> Generation:
        """Fill the painted hole with the settings on the page, and show the results.

        Returns:
            The first of the candidates; all are in `session.rounds[-1]`.

        Raises:
            Cancelled: Cancel was pressed. ValueError: no photo, or an empty hole.
        """
        controls = self.controls
        with self._working("generating ...", cancellable=True):
            self.session.need_photo()
            strength = self.painter.strength  # a snapshot: later strokes are for the next result
            settings = {name: getattr(controls, name).value for name in SETTINGS}
            many = controls.candidates.value
            done = self.session.generate(
                strength,
                candidates=many,
                people=self.painter.people,
                progress=self._advance,
                **settings,
            )
            controls.progress.value = controls.progress.max
            self._show_results()
        seconds = sum(one.seconds["total"] for one in done)
        notes = "".join(f"; {note}" for note in done[0].warnings)
        self.say(f"done in {seconds:.1f} s{': choose one below' if many > 1 else ''}{notes}")
        return done[0]

    def cancel(self) -> None:
        """Stop the generation under way before its next network call."""
        if not self.controls.cancel.disabled:  # it would meet the next generation
            self.session.cancel()
            self.say("cancelling ...")

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for what a button started; False if it still runs after `seconds`."""
        if self._worker is not None:
            self._worker.join(seconds)
        return self._worker is None or not self._worker.is_alive()

    def _advance(self, done: int, total: int) -> None:
        self.controls.progress.max, self.controls.progress.value = total, done
        self.say(f"generating: step {done + 1} of {total}")

    @contextmanager
    def _working(self, text: str, cancellable: bool = False) -> Iterator[None]:
        """Lock the page meanwhile; show an error on it before passing it on."""
        self._lock_page(True, cancellable)
        self.controls.progress.value = 0
        self.say(text)
        try:
            yield
        except Cancelled:
            self.controls.progress.value = 0
            self.say("cancelled: nothing was changed")
            raise
        except Exception as error:
            self.controls.progress.value = 0
            self.say(explain(error), alarm=True)
            raise
        finally:
            self._lock_page(False)

    def _lock_page(self, busy: bool, cancellable: bool = False) -> None:
        self.controls.lock(busy, bool(self.session.rounds), cancellable)

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
        """Forget the last round and go back to the one before, with its hole and settings."""
        last = self.session.undo()
        if last is not None:
            shown = last.painted if last.painted.dtype == bool else last.painted / np.float32(255)
            self.painter.strength = shown
            for name in SETTINGS:
                getattr(self.controls, name).value = getattr(last.config, name)
            self.controls.candidates.value = len(self.session.rounds[-1])
        self._show_results()
        self._lock_page(False)
        left = len(self.session.rounds)
        self.say(f"{left} {'result' if left == 1 else 'results'} left")
        return last

    def picture(self) -> Image.Image:
        """Photo, hole and result side by side: stays visible where widgets are not shown."""
        photo = self.session.need_photo()
        shown = [photo.pixels, overlay(photo.pixels, self.painter.hole)]
        if self.session.current is not None:
            shown.append(self.session.current.pixels)
        return working_copy(np.concatenate(shown, axis=1))

    def _show_results(self) -> None:
        made = self.session.rounds
        self.controls.result.layout.display = "" if made else "none"
        if made:
            close_ups = [one.close_up() for one in made[-1]]
            self.viewer.show_results(
                close_ups, self.session.chosen, self.session.current.pixels, self._caption()
            )

    def _choose(self, change: dict) -> None:
        if change["new"] != self.session.chosen and self.session.rounds:
            self._catch(self.session.choose, change["new"])
            self.viewer.show_one(self.session.current.pixels, self._caption())

    def _caption(self) -> str:
        count = len(self.session.rounds)
        return f"result {count}, seed {self.session.current.config.seed}"
