"""Several notebooks after one another, runs that go on, and the demonstration."""

from __future__ import annotations

import json

import nbformat
import pytest
from small_notebooks import notebook, texts, write

from messi_lib.notebook_runner import batch, run_notebook

# --- several ------------------------------------------------------------------------------------


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """Two notebooks as `notebooks/`, runs in `runs/`; the first prints, the second fails."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for module in ("parameters", "execute", "batch"):
        monkeypatch.setattr(f"messi_lib.notebook_runner.{module}.notebooks_dir", lambda: folder)
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path / "runs"))
    write(folder, "print('one', steps)", name="01_one.ipynb")
    write(folder, "1 / 0", name="02_two.ipynb", parameters="profile = None\nwidth = 3")
    return folder


def test_a_failure_does_not_stop_the_next_and_sets_the_status(suite, capsys):
    assert batch.run_notebooks(["02", "01"], profile="smoke") == 1
    printed = capsys.readouterr()
    assert "02_two  FAILED" in printed.out and "01_one  ok" in printed.out
    assert printed.err == "messi: 02_two: cell 3 (Tiny): ZeroDivisionError: division by zero\n"
    (summary,) = (suite.parent / "runs" / "notebooks").glob("*-smoke/summary.json")
    assert [row["ok"] for row in json.loads(summary.read_text())] == [False, True]


def test_a_parameter_that_one_notebook_lacks_stops_all_before_the_start(suite):
    with pytest.raises(ValueError, match="unknown parameter of 02_two 'steps'"):
        batch.run_notebooks(profile="smoke", settings={"steps": 1})
    assert not (suite.parent / "runs").exists()


def test_a_named_run_goes_on_at_the_first_notebook_that_is_not_done(suite, capsys):
    folder = suite.parent / "runs" / "notebooks" / "job7"
    assert batch.run_notebooks([], "job7", profile="smoke") == 1
    first = (folder / "01_one" / "result.json").stat().st_mtime_ns
    write(suite, "print('mended')", name="02_two.ipynb")
    capsys.readouterr()
    assert batch.run_notebooks([], "job7", profile="smoke", dry_run=True) == 0
    printed = capsys.readouterr().out
    assert "01_one  (done before)" in printed and "02_two  (kernel" in printed

    assert batch.run_notebooks([], "job7", profile="smoke") == 0
    printed = capsys.readouterr().out
    assert "01_one  done before" in printed and "02_two  done before" not in printed
    assert (folder / "01_one" / "result.json").stat().st_mtime_ns == first, "it did not run again"
    assert texts(folder / "02_two" / "02_two.ipynb") == "mended\n"
    summary = json.loads((folder / "summary.json").read_text())
    assert [(row["notebook"], row["ok"]) for row in summary] == [("01_one", True), ("02_two", True)]


@pytest.fixture
def done(suite, monkeypatch):
    """Calls `run_notebooks` on 01 as the run `job7`; says whether the notebook ran. No kernel."""

    def run(**options) -> bool:
        ran = []

        def pretend(path, folder, *, profile, settings, terminal):
            ran.append(path.stem)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / path.name).write_bytes(path.read_bytes())
            result = batch.Result(path.stem, profile, ok=True, executed=str(folder / path.name))
            result.parameters = {"profile": profile, **settings}
            result.source = batch.fingerprint(batch.read_notebook(path))
            batch.write_json(folder / "result.json", vars(result))
            return result

        monkeypatch.setattr(batch, "run_notebook", pretend)
        assert batch.run_notebooks(["01"], "job7", **{"profile": "smoke", **options}) == 0
        return bool(ran)

    assert run() and not run(), "the second time there is nothing to do"
    return run


def test_other_parameters_or_another_profile_run_again(done):
    assert done(settings={"seed": 3}) and not done(settings={"seed": 3})
    assert done(profile="laptop")


def test_changed_cells_run_again_and_new_outputs_do_not(done, suite):
    path = suite / "01_one.ipynb"
    changed = nbformat.read(path, as_version=4)
    changed.cells[2].outputs = [nbformat.v4.new_output("stream", text="of --save")]
    nbformat.write(changed, path)
    assert not done()
    changed.cells[2].source += "\n"
    nbformat.write(changed, path)
    assert done()


@pytest.mark.parametrize("content", [{"ok": False}, {"interrupted": True, "ok": False}, {"x": 1}])
def test_a_notebook_that_did_not_end_well_runs_again(done, suite, content):
    stored = suite.parent / "runs" / "notebooks" / "job7" / "01_one" / "result.json"
    stored.write_text(json.dumps(json.loads(stored.read_text()) | content))
    assert done()
    stored.write_text("{")  # half written, or of another program
    assert done()


def test_a_run_that_is_killed_leaves_no_result_of_an_earlier_one(tmp_path, monkeypatch):
    source = write(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("{}")

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr("messi_lib.notebook_runner.execute._in_thread", killed)
    with pytest.raises(SystemExit):
        run_notebook(source, tmp_path / "out", profile="smoke")
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b"])
def test_a_run_is_called_by_a_plain_name(suite, name):
    with pytest.raises(ValueError, match="--run .*use letters, digits"):
        batch.run_notebooks(["01"], name, profile="smoke")
    assert not (suite.parent / "runs").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(suite, capsys):
    status = batch.run_notebooks(["01"], profile="smoke", settings={"steps": 1}, dry_run=True)
    printed = capsys.readouterr().out
    assert status == 0
    assert "steps = 1  [set]" in printed and "rate = 0.5  [default]" in printed
    assert "profile = 'smoke'  [set]" in printed
    assert not (suite.parent / "runs").exists()


def test_saving_writes_a_clean_notebook_back(suite):
    source = suite / "01_one.ipynb"
    assert batch.run_notebooks(["01"], profile="laptop", save=True) == 0
    saved = nbformat.read(source, as_version=4)
    assert texts(source) == "one None\n"
    assert [c.execution_count for c in saved.cells if c.cell_type == "code"] == [1, 2]
    written = notebook("print('one', steps)")
    assert [c.source for c in saved.cells] == [c.source for c in written.cells]
    assert saved.metadata.kernelspec.name == "python3"
    assert "papermill" not in source.read_text()


def test_a_failed_notebook_is_not_saved(suite):
    before = (suite / "02_two.ipynb").read_bytes()
    assert batch.run_notebooks(["02"], profile="laptop", save=True) == 1
    assert (suite / "02_two.ipynb").read_bytes() == before


@pytest.mark.parametrize(("profile", "settings"), [("smoke", {}), ("laptop", {"seed": 1})])
def test_outputs_for_readers_come_from_the_notebook_as_it_stands(suite, profile, settings):
    with pytest.raises(ValueError, match="--save keeps outputs"):
        batch.run_notebooks(["01"], profile=profile, settings=settings, save=True)


# --- outputs ------------------------------------------------------------------------------------


DEMO_CELL = """
from pathlib import Path
import os
folder = Path(os.environ["MESSI_RUNS"]) / run_name
folder.mkdir(parents=True, exist_ok=True)
for name in FILES:
    (folder / name).write_text("x")
"""


def test_the_demo_says_what_it_made_and_where(suite, capsys):
    files = ["before_1.png", "after_1.png", "after_2.png", "metrics.json"]
    write(suite, f"FILES = {files}", DEMO_CELL, name="00_start_here.ipynb")
    folder = suite.parent / "runs" / "demo"
    folder.mkdir(parents=True)
    (folder / "after_stale.png").write_text("of an earlier run")
    assert batch.demo(profile="smoke") == 0
    made = {p.name for p in folder.iterdir()}
    assert {*files, "report.html", "00_start_here.ipynb"} <= made
    assert "after_stale.png" not in made
    printed = capsys.readouterr().out
    assert str(folder) in printed and "after_*.png (2 pictures)" in printed


def test_the_demo_fails_when_a_promised_file_is_missing(suite, capsys):
    write(suite, "FILES = ['before_1.png']", DEMO_CELL, name="00_start_here.ipynb")
    assert batch.demo(profile="smoke") == 1
    assert "left no after_*.png, metrics.json" in capsys.readouterr().err
