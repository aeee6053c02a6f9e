"""The kernel's surroundings: always this interpreter, its output streamed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@contextlib.contextmanager
def kernel_environment(profile: str) -> Iterator[None]:
    """Environment variables for the kernel, put back afterwards.

    A temporary kernel called `python3`, first on Jupyter's path, starts this interpreter whatever
    is installed for the user; connection files and IPython's profile are temporary too, so that no
    one's start-up files take part and nothing is left in the home folder. Relative `$MESSI_RUNS`
    and `$MESSI_DATA` keep the caller's meaning although the kernel works elsewhere. Progress bars
    would freeze in the file, so they are off.
    """
    from ipykernel.kernelspec import write_kernel_spec

    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="messi-kernel-") as folder:
        spec = Path(write_kernel_spec(Path(folder) / "kernels" / "python3")) / "kernel.json"
        content = json.loads(spec.read_text())
        content["argv"][0] = sys.executable
        spec.write_text(json.dumps(content))
        os.environ["JUPYTER_PATH"] = os.pathsep.join(
            [folder, *filter(None, [before.get("JUPYTER_PATH")])]
        )
        os.environ["JUPYTER_RUNTIME_DIR"] = str(Path(folder) / "runtime")
        os.environ["IPYTHONDIR"] = str(Path(folder) / "ipython")
        os.environ["MESSI_PROFILE"] = profile
        os.environ.setdefault("TQDM_DISABLE", "1")
        os.environ.pop("MPLBACKEND", None)  # any backend but the kernel's own leaves no figures
        for name in ("MESSI_RUNS", "MESSI_DATA"):
            if before.get(name):
                os.environ[name] = str(Path(before[name]).resolve())
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


class Log:
    """Whole lines to a log file and to the terminal; of a progress bar's redraws only the last."""

    def __init__(self, file: TextIO, terminal: TextIO | None = None):
        self._file, self._terminal, self._rest = file, terminal, ""
        self._began = time.perf_counter()

    def write(self, text: str) -> None:
        """Called by papermill with whatever a cell prints; indented."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._line("        " + _ANSI.sub("", line.rstrip("\r").rpartition("\r")[2]))

    def flush(self) -> None:
        """Part of the file interface that papermill expects."""
        self._file.flush()

    def heading(self, text: str) -> None:
        """A line of the runner's own, with the minutes and seconds since the start."""
        if self._rest:
            self.write("\n")
        minutes, seconds = divmod(int(time.perf_counter() - self._began), 60)
        self._line(f"{minutes:3d}:{seconds:02d}  {text}")

    def _line(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()
        if self._terminal is not None:
            print(line, file=self._terminal, flush=True)
