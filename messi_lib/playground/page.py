"""What is on the playground's page: its widgets, their names for screen readers, their order."""

from __future__ import annotations

from collections.abc import Iterable

import ipywidgets as widgets

from ..inpainting.solvers import SOLVERS
from ..profiles import ReplaceConfig
from .painter import MaskPainter
from .viewer import ResultViewer

OWN = "(own photo)"
MOST = 8  # candidates
SOLVER_NAMES = {"automatic": "", **{name: name for name in SOLVERS}}


def group(*children: widgets.Widget, kind: str) -> widgets.HBox:
    """Children in a row that wraps; `kind` names its look in page.css."""
    box = widgets.HBox(children)
    box.add_class(f"messi-{kind}")
    return box


class Controls:
    """The widgets by name, and `rows`, how they lie on the page.

    Args:
        start: where the settings stand at first.
        samples: names of the photos to pick from.
    """

    def __init__(
        self,
        start: ReplaceConfig,
        samples: Iterable[str],
        painter: MaskPainter,
        viewer: ResultViewer,
    ):
        named = {
            "style": {"description_width": "72px"},
            "layout": widgets.Layout(width="252px"),
        }
        self.picker = widgets.Dropdown(
            options=[OWN, *samples],
            description="photo",
            value=OWN,
            style={"description_width": "auto"},
            layout=widgets.Layout(width="210px"),
        )
        self.upload = widgets.FileUpload(
            accept="image/*", description="Upload a photo", icon="", tooltip="a photo of yours"
        )
        self.upload.add_class("messi-upload")
        self.find = widgets.Button(
            description="Find people", tooltip="the people become the hole; click one to keep them"
        )
        self.solver = widgets.Dropdown(
            options=SOLVER_NAMES, value=start.solver, description="solver", **named
        )
        self.steps = widgets.IntSlider(
            start.steps, 1, max(40, start.steps), description="steps", **named
        )
        self.candidates = widgets.IntSlider(
            start.candidates, 1, max(MOST, start.candidates), description="candidates", **named
        )
        self.seed = widgets.BoundedIntText(start.seed, 0, 2**31 - 1, description="seed", **named)
        share = {"min": 0.0, "step": 0.01, **named}
        most = {"grow": max(0.3, start.grow), "feather": max(0.2, start.feather)}
        self.grow, self.feather = (
            widgets.FloatSlider(getattr(start, name), max=most[name], description=name, **share)
            for name in most
        )
        self.generate = widgets.Button(
            description="Generate", button_style="primary", tooltip="fill the hole"
        )
        self.cancel = widgets.Button(description="Cancel", disabled=True, tooltip="stop the work")
        self.undo = widgets.Button(
            description="Undo result", disabled=True, tooltip="back to the result before"
        )
        self.progress = widgets.IntProgress(0, 0, 1, layout=widgets.Layout(width="150px"))
        self.message = widgets.HTML()
        self.result = group(viewer, kind="result")
        settings = [self.solver, self.steps, self.candidates, self.seed, self.grow, self.feather]
        work = [self.find, self.generate, self.cancel, self.undo, self.progress]
        self.rows = [
            group(self.picker, self.upload, *work, kind="row"),
            self.message,
            group(painter, self.result, kind="stages"),
            group(*settings, kind="settings"),
        ]

    def lock(self, busy: bool, undoable: bool, cancellable: bool = False) -> None:
        """What may be pressed while something is at work, and when not."""
        for control in (self.picker, self.upload, self.find, self.generate):
            control.disabled = busy
        self.cancel.disabled = not cancellable
        self.undo.disabled = busy or not undoable
