"""Several notebooks after one another, and the demonstration: what the commands call.

A run with a name can be stopped and goes on: a notebook counts as done when it ran to its end with
the same parameters and from the same cells. Changes of the library are not noticed: another name,
or none, runs everything.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ..runs import runs_dir
from .execute import Result, resolve, run_notebook
from .output import html_report, save_back, write_json
from .parameters import (
    find_notebooks,
    fingerprint,
    notebooks_dir,
    parameters_of,
    read_notebook,
)
from .watch import stop_signals

DEMO = "00_start_here"
_MADE_BY_DEMO = ("before_*.png", "after_*.png", "metrics.json", "report.html", f"{DEMO}.ipynb")


def run_notebooks(
    names: list[str] | tuple[str, ...] = (),
    run: str | None = None,
    *,
    profile: str,
    settings: dict[str, Any] | None = None,
    save: bool = False,
    dry_run: bool = False,
) -> int:
    """Run notebooks one after the other; a failure does not keep the next from running.

    Args:
        names: see `find_notebooks`; empty: all.
        run: name of the run, whose folder is `runs_dir()/notebooks/<run>`; notebooks that it has
            done before are skipped. None: a new folder called after the time.
        settings: parameters for every one of them.
        save: write outputs back into `notebooks/`.
        dry_run: only print what would be run.

    Returns:
        exit status: 0, 1 when a notebook failed, 130 after Ctrl-C, SIGTERM or SIGUSR1.

    Raises:
        ValueError: bad names, run, profile or parameters, before the first one runs.
    """
    settings = settings or {}
    if save and profile == "smoke":
        raise ValueError("--save keeps outputs for readers: use a larger profile than smoke")
    if save and settings:
        raise ValueError("--save keeps outputs of the notebook as it stands: leave out --set")
    paths = find_notebooks(names)
    values = [resolve(path, profile, settings) for path in paths]
    folder = run_folder(run, profile)
    before = {}
    if run is not None:
        found = [done_before(p, folder / p.stem, v) for p, v in zip(paths, values, strict=True)]
        before = {result.notebook: result for result in found if result}
    if dry_run:
        _print_plan(paths, values, folder, before)
        return 0
    results: list[Result] = []
    with stop_signals():  # for the moments between two notebooks
        for path in paths:
            if path.stem in before:
                print(f"{path.stem}  done before", flush=True)
                result = before[path.stem]
            else:
                result = run_notebook(
                    path, folder / path.stem, profile=profile, settings=settings,
                    terminal=sys.stdout,
                )  # fmt: skip
            results.append(result)
            if result.ok and save:
                save_back(Path(result.executed), path)
            write_json(folder / "summary.json", [_row(r) for r in results])
            if result.interrupted:
                break
    _print_summary(results, folder, before)
    if any(r.interrupted for r in results):
        return 130
    return 0 if all(r.ok for r in results) else 1


def run_folder(run: str | None, profile: str) -> Path:
    """Folder of a run: `runs_dir()/notebooks/<run>`; without a name, of the time and the profile.

    Raises:
        ValueError: a name that is no plain folder name.
    """
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{profile}" if run is None else run
    if not name or name[0] == "." or not all(c.isalnum() or c in "-_." for c in name):
        raise ValueError(f"--run {name!r}: use letters, digits, '-', '_' and '.' only")
    return runs_dir() / "notebooks" / name


def done_before(path: Path, folder: Path, values: dict[str, Any]) -> Result | None:
    """The result that an earlier run of the notebook `path` left in `folder`, if it counts.

    Args:
        folder: the notebook's own folder inside the run's.
        values: the parameters that would be injected now.

    Returns:
        None when the notebook has to run: never run, failed, interrupted, or run otherwise.
    """
    try:
        result = Result(**json.loads((folder / "result.json").read_text()))
    except (OSError, ValueError, TypeError):  # none yet, or of a version with other fields
        return None
    same = result.parameters == values and result.source == fingerprint(read_notebook(path))
    executed = folder / path.name  # not as stored: the folder may have moved with its disk
    if not (result.ok and same and executed.is_file()):
        return None
    result.executed = str(executed)
    return result


def _row(result: Result) -> dict:
    keys = ("notebook", "profile", "ok", "error", "seconds", "peak_mb")
    return {key: getattr(result, key) for key in keys}


def _print_plan(
    paths: list[Path], values: list[dict], folder: Path, before: dict[str, Result]
) -> None:
    for path, injected in zip(paths, values, strict=True):
        if path.stem in before:
            print(f"{path.stem}  (done before)")
            continue
        print(f"{path.stem}  (kernel python3 of {sys.executable}, in {notebooks_dir()})")
        for name, parameter in parameters_of(read_notebook(path), path.stem).items():
            mark = "set" if name in injected else "default"
            print(f"    {name} = {injected.get(name, parameter.default)!r}  [{mark}]")
    print(f"would write to {folder}")


def _print_summary(results: list[Result], folder: Path, before: dict[str, Result]) -> None:
    width = max(len(r.notebook) for r in results)
    print()
    for r in results:
        state = "ok" if r.ok else "interrupted" if r.interrupted else "FAILED"
        note = "  (done before)" if r.notebook in before else ""
        print(f"{r.notebook:<{width}}  {state:<6}  {r.seconds:7.1f} s  {r.peak_mb:6.0f} MB{note}")
    print(f"executed notebooks and logs: {folder}")
    sys.stdout.flush()
    for r in results:
        if r.error:
            print(f"messi: {r.error}", file=sys.stderr)


def demo(*, profile: str) -> int:
    """Run the first notebook on the photos that ship and leave a report in `runs_dir()/demo`.

    Returns:
        exit status: 0, 1 when a cell failed or a promised file is missing, 130 after Ctrl-C.
    """
    (source,) = find_notebooks([DEMO])
    folder = runs_dir() / "demo"
    resolve(source, profile, {"run_name": "demo"})
    for pattern in _MADE_BY_DEMO:  # what is listed at the end is of this run
        for old in folder.glob(pattern):
            old.unlink()
    result = run_notebook(
        source, folder, profile=profile, settings={"run_name": "demo"}, terminal=sys.stdout
    )
    if not result.ok:
        print(f"messi: {result.error}; see {folder / 'log.txt'}", file=sys.stderr)
        return 130 if result.interrupted else 1
    html_report(Path(result.executed), folder / "report.html")
    made = {pattern: sorted(folder.glob(pattern)) for pattern in _MADE_BY_DEMO}
    missing = [pattern for pattern, files in made.items() if not files]
    if missing:
        print(f"messi: {DEMO} left no {', '.join(missing)} in {folder}", file=sys.stderr)
        return 1
    print(f"\nMade in {result.seconds:.0f} s, in {folder}:")
    for pattern, files in made.items():
        sizes = sum(file.stat().st_size for file in files) / 1024
        name = files[0].name if len(files) == 1 else f"{pattern} ({len(files)} pictures)"
        print(f"  {name:<30} {sizes:7.0f} KB")
    print(f"Open {folder / 'report.html'} in a browser to see the photos before and after.")
    return 0
