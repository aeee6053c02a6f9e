"""What becomes of an executed notebook: cleaned for the repository, or a report for reading.

Outputs are committed so that readers see results without running anything, but neither widget state
(GitHub refuses notebooks with half of it), nor timings, nor this machine's paths.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..runs import atomic_write, root

MAX_BYTES = 1_000_000
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_CELL_FILE = re.compile(re.escape(tempfile.gettempdir()) + r"/ipykernel_\d+/\d+\.py")
_RUNNER_TAGS = ("injected-parameters", "papermill-error-cell-tag")
_CELL_METADATA = ("tags", "jupyter", "scrolled", "collapsed")


def write_json(path: Path, value: Any) -> Path:
    """`value` as indented JSON, atomically."""
    return atomic_write(path, json.dumps(value, indent=2) + "\n")


def _machine_paths() -> list[tuple[str, str]]:
    """Prefixes of paths on this machine, longest first, and what is shown instead."""
    shown = {str(root()): ".", sys.prefix: "<environment>", str(Path.home()): "~"}
    for name in ("MESSI_RUNS", "MESSI_DATA"):
        if os.environ.get(name):
            shown[str(Path(os.environ[name]).resolve())] = f"${name}"
    return sorted(shown.items(), key=lambda item: -len(item[0]))


def _without_paths(value: Any) -> Any:
    """The same text (or list or dict of texts) with no path of this machine in it."""
    if isinstance(value, str):
        for prefix, instead in _machine_paths():
            if len(prefix) > 1:
                value = value.replace(prefix, instead)
        return _CELL_FILE.sub("<cell>", value)
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items()}
    return value


def lighter(picture: str) -> tuple[str, str]:
    """A base64 PNG as (kind, base64 data): the lightest of three that look the same.

    The file itself, one with a palette of 256 colours, or a JPEG where it is full of photos and at
    least a fifth lighter so. What is no PNG, or has transparent parts, stays as it is.
    """
    from PIL import Image

    try:
        before = base64.b64decode(picture)
        image = Image.open(io.BytesIO(before))
        opaque = image.mode == "RGB" or image.mode == "RGBA" and image.getextrema()[3][0] == 255
    except (OSError, ValueError, SyntaxError):
        return "image/png", picture
    if not opaque:
        return "image/png", picture
    image = image.convert("RGB")
    palette, photo = io.BytesIO(), io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(palette, "PNG", optimize=True)
    image.save(photo, "JPEG", quality=85, optimize=True)
    best = min(before, palette.getvalue(), key=len)
    if photo.tell() < 0.8 * len(best):
        return "image/jpeg", base64.b64encode(photo.getvalue()).decode()
    return "image/png", base64.b64encode(best).decode()


def _clean_output(output: Any) -> Any | None:
    """One output without its widget view; None when nothing is left to show."""
    if "data" in output:
        if WIDGET_VIEW in output["data"]:
            del output["data"][WIDGET_VIEW]
            if set(output["data"]) <= {"text/plain"}:  # the widget's repr says nothing
                return None
        for kind, content in list(output["data"].items()):
            if kind == "image/png":
                del output["data"][kind]
                kind, content = lighter(content)
            elif not kind.startswith("image/"):
                content = _without_paths(content)
            output["data"][kind] = content
        output["metadata"] = {}
    for key in ("text", "evalue", "traceback"):
        if key in output:
            output[key] = _without_paths(output[key])
    return output


def clean_notebook(notebook: Any) -> Any:
    """An executed notebook (nbformat 4) as it may be committed; changes it in place.

    Gone are the cells that the runner added, widget state and views, metadata of papermill and of
    cell timing, and this machine's paths; executed cells are counted from 1 without gaps, and
    pictures take as few bytes as they can.
    """
    import nbformat

    notebook.cells = [
        cell
        for cell in notebook.cells
        if not set(_RUNNER_TAGS) & set(cell.metadata.get("tags", []))
    ]
    count = 0
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in _CELL_METADATA if key in cell.metadata}
        )
        if cell.cell_type != "code":
            continue
        if cell.execution_count is not None:
            count += 1
            cell.execution_count = count
        cell.outputs = [kept for output in cell.outputs if (kept := _clean_output(output))]
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = cell.execution_count
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        }
    )
    return notebook


def save_back(executed: Path, source: Path) -> Path:
    """Replace the notebook `source` by its cleaned executed copy.

    Raises:
        ValueError: the result would be too large to commit.
    """
    import nbformat

    text = nbformat.writes(clean_notebook(nbformat.read(executed, as_version=4)))
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(
            f"{source.name} would have {len(text.encode()) / 1e6:.1f} MB with its outputs, at most "
            f"{MAX_BYTES / 1e6:.0f} MB is kept: draw fewer or smaller pictures"
        )
    return atomic_write(source, text.rstrip("\n") + "\n")


def html_report(executed: Path, target: Path, *, show_code: bool = False) -> Path:
    """The executed notebook as one HTML file with its pictures inside."""
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        exclude_input=not show_code, exclude_input_prompt=True, exclude_output_prompt=True
    )
    body, _ = exporter.from_notebook_node(
        nbformat.read(executed, as_version=4), {"metadata": {"name": executed.stem}}
    )
    return atomic_write(target, body)
