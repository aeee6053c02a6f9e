"""Executed notebooks: clean, light, and as a report in one file."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from small_notebooks import notebook, write

from messi_lib.notebook_runner import clean_notebook, html_report, save_back
from messi_lib.notebook_runner.output import MAX_BYTES, WIDGET_VIEW, lighter


def test_cleaning_removes_widgets_timings_and_paths():
    made = notebook("x", "y")
    made.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}
    made.metadata["papermill"] = {"input_path": "/somewhere"}
    cell = made.cells[2]
    cell.execution_count = 9
    cell.metadata.update(tags=["check"], papermill={"duration": 1}, execution={"iopub": 1})
    view = {WIDGET_VIEW: {"model_id": "1"}, "text/plain": "Slider()"}
    new = nbformat.v4.new_output
    cell.outputs = [
        new("display_data", data=dict(view)),
        new("display_data", data={**view, "image/png": "abc"}),
        new("stream", text=f"wrote {Path.home()}/x and {sys.prefix}/lib\n"),
        new("execute_result", data={"text/plain": f"'{sys.prefix}'"}, execution_count=9),
    ]
    clean = clean_notebook(made)
    assert "widgets" not in clean.metadata and "papermill" not in clean.metadata
    assert clean.cells[2].metadata == {"tags": ["check"]}
    picture, printed, value = clean.cells[2].outputs
    assert set(picture.data) == {"text/plain", "image/png"}
    assert str(Path.home()) not in printed.text and sys.prefix not in printed.text
    assert value.data["text/plain"] == "'<environment>'"
    assert clean.cells[2].execution_count == value.execution_count == 1
    nbformat.validate(clean)


def png(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def pixels_of(data: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), dtype=float)


def test_pictures_become_lighter_and_look_the_same():
    rng = np.random.default_rng(0)
    photo = np.linspace(40, 200, 96)[:, None, None] + rng.normal(0, 6, (96, 96, 1))
    photo = (photo + np.array([0, 12, 25])).clip(0, 255).astype(np.uint8)
    kind, light = lighter(png(photo))
    assert kind == "image/jpeg" and len(light) < 0.5 * len(png(photo))
    error = pixels_of(light) - photo
    assert np.abs(error).mean() < 4 and abs(error.mean()) < 1

    chart = np.full((120, 160, 3), 255, np.uint8)
    chart[10:20] = (200, 30, 40)
    chart[rng.random((120, 160)) < 0.2] = (20, 60, 200)
    kind, light = lighter(png(chart))
    assert kind == "image/png" and len(light) < len(png(chart))
    assert (pixels_of(light) == chart).all(), "few colours stay exact"

    glass = np.dstack([photo, np.full((96, 96), 128, np.uint8)])
    assert lighter(png(glass)) == ("image/png", png(glass)), "transparency stays"
    assert lighter("abc") == ("image/png", "abc")


def test_cleaning_makes_pictures_lighter():
    made = notebook("x")
    noise = np.random.default_rng(1).integers(90, 120, (96, 96, 3), dtype=np.uint8)
    made.cells[2].outputs = [nbformat.v4.new_output("display_data", data={"image/png": png(noise)})]
    (output,) = clean_notebook(made).cells[2].outputs
    ((kind, data),) = output.data.items()
    assert kind == "image/jpeg" and len(data) < 0.6 * len(png(noise))
    nbformat.validate(made)


def test_a_notebook_too_large_to_commit_is_not_saved(tmp_path):
    source, executed = write(tmp_path, "x"), tmp_path / "executed.ipynb"
    before = source.read_bytes()
    large = notebook("x")
    large.cells[2].outputs = [nbformat.v4.new_output("stream", text="a" * MAX_BYTES)]
    nbformat.write(large, executed)
    with pytest.raises(ValueError, match="tiny.ipynb would have 1.0 MB"):
        save_back(executed, source)
    assert source.read_bytes() == before


def test_the_report_is_one_file_with_the_pictures_inside(tmp_path):
    made = notebook("secret_code()")
    made.cells[2].outputs = [nbformat.v4.new_output("display_data", data={"image/png": "iVBORw0"})]
    nbformat.write(made, tmp_path / "a.ipynb")
    report = html_report(tmp_path / "a.ipynb", tmp_path / "report.html").read_text()
    assert "data:image/png;base64,iVBORw0" in report
    assert "secret_code" not in report
    html_report(tmp_path / "a.ipynb", tmp_path / "report.html", show_code=True)
    assert "secret_code" in (tmp_path / "report.html").read_text()
