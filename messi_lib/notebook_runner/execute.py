"""Run notebooks headless through papermill, one folder per run.

Traps of papermill 2.7 that are taken out here: `{}` in a path is formatted; a notebook that leaves
early (`SystemExit`) counts as complete; signals never reach the kernel, so that Ctrl-C kills it and
what the cell had printed is lost; the kernel's name comes from the file.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from ..profiles import PROFILES, unknown
from ..runs import to_json
from .kernel import Log, kernel_environment
from .output import write_json
from .parameters import check_parameters, fingerprint, notebooks_dir, read_notebook
from .watch import KernelWatch, stop_signals

CELL_SECONDS = {"smoke": 300}  # limit of one cell; none in profiles that are meant to take long
# How long an interrupted cell may take to save its state. Less than the five minutes before a time
# limit at which the scripts in `cluster/` ask for it: the notebook has to be saved too.
GRACE_SECONDS = 240.0


@dataclass
class Result:
    """What one run of one notebook came to; stored as `result.json` in its folder."""

    notebook: str
    profile: str
    ok: bool = False
    error: str | None = None  # one line: which cell, which exception
    interrupted: bool = False
    seconds: float = 0.0
    peak_mb: float = 0.0  # resident memory of the kernel and its children
    executed: str = ""  # the executed notebook
    versions: dict[str, str] = field(default_factory=dict)
    cells: list[dict] = field(default_factory=list)  # code cells: number, section, seconds
    parameters: dict[str, Any] = field(default_factory=dict)  # as injected
    source: str = ""  # the notebook's `fingerprint`


def resolve(path: Path, profile: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The parameters to inject into one notebook: the user's and `profile`, nothing else.

    Raises:
        ValueError: unknown profile or parameter, a value of another type, no parameters cell.
    """
    if profile not in PROFILES:
        raise unknown("profile", profile, list(PROFILES))
    values = {"profile": profile, **settings}
    check_parameters(read_notebook(path), values, path.stem)
    return values


def run_notebook(
    path: Path,
    folder: Path,
    *,
    profile: str,
    settings: dict[str, Any] | None = None,
    terminal: TextIO | None = None,
    grace: float = GRACE_SECONDS,
) -> Result:
    """Execute one notebook and leave `<name>.ipynb`, `params.json`, `log.txt`, `result.json`.

    Args:
        folder: where to; made if missing, files of an earlier run are replaced.
        settings: parameters to override, checked against the parameters cell.
        terminal: where to stream section headings and printed lines; `None`: only to the log.
        grace: seconds that an interrupted cell may take to end before its kernel is killed.

    A failing cell is no exception: the result says which cell failed and how.

    Raises:
        ValueError: unknown profile, parameter or type, before anything is written.
    """
    values = resolve(path, profile, settings or {})
    folder.mkdir(parents=True, exist_ok=True)
    path, folder = path.resolve(), folder.resolve()  # papermill changes the working directory
    target = folder / path.name
    write_json(folder / "params.json", {"notebook": path.name, "parameters": values})
    (folder / "result.json").unlink(missing_ok=True)  # of an earlier run: this one may be killed
    result = Result(path.stem, profile, executed=str(target), versions=_versions())
    result.parameters, result.source = values, fingerprint(read_notebook(path))
    began = time.perf_counter()
    with open(folder / "log.txt", "w") as file, kernel_environment(profile):
        log = Log(file, terminal)
        log.heading(f"{path.stem}  profile {profile}")
        with KernelWatch() as watch:
            stop, idle = threading.Event(), threading.Event()
            engine = _engine(path.stem, log, result.cells, stop, idle)
            work = functools.partial(_papermill, path, target, values, engine, log)
            error = _in_thread(work, watch, stop, idle, grace)
        result.interrupted = stop.is_set()
        result.seconds = round(time.perf_counter() - began, 1)
        result.peak_mb = round(watch.peak_mb)
        result.error = _explain(path.stem, target, result, error)
        result.ok = result.error is None
        for line in getattr(error, "traceback", None) or []:
            Log(file).write(line + "\n")
        log.heading(result.error or f"{path.stem}  done, {result.peak_mb:.0f} MB at most")
    write_json(folder / "result.json", to_json(asdict(result)))
    return result


def _versions() -> dict[str, str]:
    names = ("torch", "torchvision", "timm", "numpy", "papermill", "ipykernel")
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}}


def _papermill(path: Path, target: Path, values: dict, engine: type, log: Log) -> None:
    from papermill import execute_notebook
    from papermill.engines import papermill_engines
    from traitlets.config import Config

    logging.getLogger("papermill").setLevel(logging.ERROR)  # its warnings are our errors
    papermill_engines.register("messi", engine)
    escaped = str.maketrans({"{": "{{", "}": "}}"})  # papermill formats its paths
    execute_notebook(
        str(path).translate(escaped),
        str(target).translate(escaped),
        parameters=values,
        engine_name="messi",
        kernel_name="python3",
        language="python",
        cwd=str(notebooks_dir() if notebooks_dir().is_dir() else path.parent),
        progress_bar=False,
        stdout_file=log,
        stderr_file=log,
        # On a shared machine others could listen to a kernel that talks in plain text.
        config=Config(KernelManager={"transport_encryption": "auto"}),
        execution_timeout=CELL_SECONDS.get(values["profile"]),
    )


def _engine(
    name: str, log: Log, cells: list[dict], stop: threading.Event, idle: threading.Event
) -> type:
    """A papermill engine that announces sections, times code cells and can be stopped.

    After `stop` it starts no cell; `idle` is set while none runs.
    """
    from papermill.engines import NBClientEngine

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            section, began = "", 0.0
            starts, ends = nb_man.cell_start, nb_man.cell_complete
            injected = _injected(nb_man.nb)

            def start(cell, cell_index=None, **more):
                nonlocal section, began
                idle.clear()
                if stop.is_set():
                    raise KeyboardInterrupt
                heading = re.search(r"^#{1,2} +(.+)", cell.source, flags=re.MULTILINE)
                if cell.cell_type == "markdown" and heading:
                    section = heading[1].strip()
                    log.heading(f"{name}  {section}")
                began = time.perf_counter()
                return starts(cell, cell_index, **more)

            def complete(cell, cell_index=None, **more):
                idle.set()
                if cell.cell_type == "code":
                    number = cell_index + (cell_index < injected)  # as in the notebook itself
                    seconds = round(time.perf_counter() - began, 3)
                    cells.append({"cell": number, "section": section, "seconds": seconds})
                return ends(cell, cell_index=cell_index, **more)

            nb_man.cell_start, nb_man.cell_complete = start, complete
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    return Engine


def _injected(notebook: Any) -> int:
    """Index of the cell that papermill adds behind the parameters cell."""
    for index, cell in enumerate(notebook.cells):
        if "injected-parameters" in cell.metadata.get("tags", []):
            return index
    return len(notebook.cells)


def _in_thread(
    work: Callable[[], None],
    watch: KernelWatch,
    stop: threading.Event,
    idle: threading.Event,
    grace: float,
) -> Any:
    """Run `work` beside the main thread and return its exception, or None.

    In the main thread the notebook client would answer Ctrl-C by killing the kernel. Here Ctrl-C,
    SIGTERM and SIGUSR1 interrupt the running cell and what it has started, and the notebook is
    saved. What has not ended after `grace` seconds, or at the second signal, is killed.
    """
    outcome: list[BaseException] = []
    done = threading.Event()  # an interrupted Thread.join takes a running thread for a dead one

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            outcome.append(error)
        finally:
            done.set()

    def ask() -> None:
        # Half of the time for the programs of the cell, and half for the cell. One that only waited
        # for them ends by itself; a kernel that is interrupted just then would hang.
        waited = watch.stop_programs(grace / 2)
        if not idle.wait(2 if waited else 0):
            watch.interrupt()

    patience = 0.0
    with stop_signals():
        threading.Thread(target=guarded, daemon=True).start()
        while not done.is_set():
            try:
                done.wait(0.2)
                if stop.is_set() and time.monotonic() > patience:
                    watch.kill()
            except KeyboardInterrupt:
                if stop.is_set():
                    watch.kill()
                    continue
                patience = time.monotonic() + grace
                stop.set()
                threading.Thread(target=ask, daemon=True).start()
    return outcome[0] if outcome else None


def _explain(name: str, target: Path, result: Result, error: Any) -> str | None:
    """One line for what went wrong, or None."""
    if result.interrupted:
        return f"{name}: interrupted"
    cell = _left_out(target) if error is None else None
    if error is None and cell is None:
        return None
    last = result.cells[-1] if result.cells else {"cell": 0, "section": ""}
    where = f"{name}: cell {last['cell']}" + (f" ({last['section']})" if last["section"] else "")
    if error is None:
        return f"{where}: the notebook left here, before its end (SystemExit)"
    if hasattr(error, "ename"):  # papermill: an exception in the cell
        first = (str(error.evalue).strip().splitlines() or [""])[0]
        return f"{where}: {error.ename}: {first}".rstrip(": ")
    kind = type(error).__name__
    if kind == "DeadKernelError":
        return f"{where}: the kernel died (out of memory?)"
    if kind == "CellTimeoutError":
        return f"{where}: took longer than {CELL_SECONDS[result.profile]} s"
    return f"{where}: {kind}: {(str(error).strip().splitlines() or [''])[0]}"


def _left_out(target: Path) -> int | None:
    """Index of the first code cell that was not executed although nothing says to skip it."""
    for index, cell in enumerate(read_notebook(target).cells):
        skipped = "skip-execution" in cell.metadata.get("tags", [])
        empty = cell.cell_type != "code" or not cell.source.strip()
        if not empty and not skipped and cell.execution_count is None:
            return index
    return None
