"""Small notebooks, made here, and what they print."""

from __future__ import annotations

import textwrap
from pathlib import Path

import nbformat

PARAMETERS = """\
profile = None
run_name = "tiny"  # a comment with = in it
seed = 0
rate = 0.5
flip = True
steps: int | None = None
anything = None"""


def notebook(*cells: str, parameters: str = PARAMETERS):
    """A notebook: a title, a parameters cell, then `cells` (those that begin with # are text)."""
    made = nbformat.v4.new_notebook()
    made.metadata["kernelspec"] = {"name": "no-such-kernel", "display_name": "x", "language": "r"}
    made.cells.append(nbformat.v4.new_markdown_cell("# Tiny"))
    made.cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    for cell in cells:
        kind = nbformat.v4.new_markdown_cell if cell[0] == "#" else nbformat.v4.new_code_cell
        made.cells.append(kind(textwrap.dedent(cell).strip()))
    return made


def write(folder: Path, *cells: str, name: str = "tiny.ipynb", **options) -> Path:
    """The notebook of `notebook(...)` as a file."""
    path = folder / name
    nbformat.write(notebook(*cells, **options), path)
    return path


def texts(path: Path | str) -> str:
    """Everything that the executed notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = [o for c in cells if c.cell_type == "code" for o in c.outputs]
    return "".join(o.get("text", "") for o in outputs)
