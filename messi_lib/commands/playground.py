"""`messi playground`: paint holes and fill them, in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import FlagCreatePairsOff

Flag = FlagCreatePairsOff[bool]


@dataclass(frozen=True, kw_only=True)
class Playground:
    """Paint holes and fill them, in the browser.

    Serves this machine only; the printed address has the token. Ctrl+C ends it.
    """

    photo: Path | None = None  # a photo to begin with; None: one of those that ship
    run: str | None = None  # generator of this run in runs/; None: the one that ships
    model: Path | None = None  # file of a generator, instead of --run
    segmenter: Path | None = None  # weights that find people, or maskrcnn; None: those that ship
    lab: Flag = False  # open the notebook of chapter 07 in JupyterLab instead
    port: int | None = None  # number to listen on; None: a free one
    no_browser: Flag = False  # only print the address

    def __call__(self) -> int:
        from ..playground.server import serve, serve_lab

        options = self._options()
        shown = dict(port=self.port, browser=not self.no_browser)
        if not self.lab:
            return serve(**options, **shown)
        if options:
            raise ValueError(
                f"--lab opens the notebook as it is: leave {', '.join(options)} out, and set the "
                "notebook's parameters in its first cells"
            )
        return serve_lab(**shown)

    def _options(self) -> dict[str, str]:
        """Arguments of the page's `Playground`. What is missing is told before anything starts."""
        from ..photos import load_photo
        from ..runs import runs_dir

        if self.run is not None and self.model is not None:
            raise ValueError("--run and --model both name a generator: give one of them")
        options = {}
        if self.photo is not None:
            load_photo(self.photo)
            options["photo"] = str(self.photo.resolve())
        if self.run is not None:
            if not (runs_dir() / self.run / "config.json").is_file():
                raise FileNotFoundError(f"there is no run {self.run!r} in {runs_dir()}")
            options["run"] = str((runs_dir() / self.run).resolve())
        for name, file in {"denoiser": self.model, "segmenter": self.segmenter}.items():
            if file is None:
                continue
            if not file.is_file() and (name, str(file)) != ("segmenter", "maskrcnn"):
                raise FileNotFoundError(f"{file} is missing: give a file of weights")
            options[name] = str(file.resolve() if file.is_file() else file)
        return options
