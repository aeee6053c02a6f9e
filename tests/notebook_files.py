"""The notebooks of the suite as the tests see them: where they are, their parts, one run of one."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = [
    "00_start_here", "01_data", "02_segmentation", "03_consistency_training", "04_fid",
    "05_inpainting", "06_latent_cross_attention", "07_playground",
]  # fmt: skip
NOTEBOOKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in CHAPTERS]
SOLUTIONS = ROOT / "notebooks" / "solutions.ipynb"

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_and_solutions = pytest.mark.parametrize(
    "path", [*NOTEBOOKS, SOLUTIONS], ids=lambda path: path.stem
)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code(notebook) -> list:
    return [c for c in notebook.cells if c.cell_type == "code"]


def prose(notebook) -> str:
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


def texts(cell) -> list[str]:
    """What a cell has printed or shown, pictures and widgets left out."""
    found = []
    for output in cell.outputs:
        data = output.get("data", {})
        pictures = any(kind.startswith("image/") or "widget" in kind for kind in data)
        found += [output.get("text", "")] + ([] if pictures else [str(v) for v in data.values()])
    return [text for text in found if text.strip()]


def nbval(path: Path, runs: Path) -> tuple[subprocess.CompletedProcess, float]:
    """Run a notebook in the smoke profile, and the CPU seconds that it took.

    `--nbval-lax`: every cell has to run through, and what a cell tagged `nbval-check-output` prints
    has to be what is committed. Files go to the folder `runs`.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no"]
    command += ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", str(path)]
    environment = {**os.environ, "MESSI_PROFILE": "smoke", "MESSI_RUNS": str(runs)}
    environment.pop("MPLBACKEND", None)  # the kernel has its own, which shows figures
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done, spent
