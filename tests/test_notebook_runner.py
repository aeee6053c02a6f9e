"""The batch runner on small notebooks made here: parameters, failures, signals, cleaning."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from messi_lib.notebook_runner import (
    batch,
    check_parameters,
    clean_notebook,
    find_notebooks,
    html_report,
    parameters_of,
    parse_settings,
    run_notebook,
    save_back,
)
from messi_lib.notebook_runner.kernel import Log
from messi_lib.notebook_runner.output import MAX_BYTES, WIDGET_VIEW, lighter

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


# --- parameters ---------------------------------------------------------------------------------


def test_settings_keep_json_types():
    settings = parse_settings(
        ["steps=10", "lr=1e-3", "flip=true", "kit=pink", "code=007", 'quoted="7"', "none=null",
         "nan=NaN", "empty=", "formula=a=b", "sizes=[1, 2]"]
    )  # fmt: skip
    assert settings == {
        "steps": 10, "lr": 1e-3, "flip": True, "kit": "pink", "code": "007", "quoted": "7",
        "none": None, "nan": "NaN", "empty": "", "formula": "a=b", "sizes": [1, 2],
    }  # fmt: skip
    assert isinstance(settings["steps"], int) and isinstance(settings["lr"], float)


@pytest.mark.parametrize("setting", ["steps", "=1", "a-b=1", "1a=2"])
def test_a_setting_that_is_none_is_rejected(setting):
    with pytest.raises(ValueError, match="name=value"):
        parse_settings([setting])


def test_a_setting_given_twice_is_rejected():
    with pytest.raises(ValueError, match="steps is given twice"):
        parse_settings(["steps=1", "steps=2"])


def test_parameters_are_read_from_the_syntax_tree():
    found = parameters_of(notebook())
    assert list(found) == ["profile", "run_name", "seed", "rate", "flip", "steps", "anything"]
    assert found["run_name"].default == "tiny" and found["run_name"].types == (str,)
    assert found["steps"].types == (int, type(None))
    assert found["anything"].types == ()


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"stepz": 3}, "unknown parameter of tiny 'stepz' .did you mean 'steps'"),
        ({"seed": "zero"}, "seed='zero' is str, expected int"),
        ({"seed": True}, "seed=True is bool, expected int"),
        ({"seed": 1.5}, "expected int"),
        ({"flip": 1}, "expected bool"),
        ({"run_name": 3}, "expected str"),
        ({"steps": "many"}, "expected int or NoneType"),
    ],
)
def test_unknown_names_and_other_types_are_errors(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_parameters(notebook(), values, "tiny")


def test_fitting_values_are_accepted():
    values = {"seed": 3, "rate": 1, "steps": None, "anything": [1], "run_name": "x", "flip": False}
    check_parameters(notebook(), values)


@pytest.mark.parametrize("parameters", ["a = b", "a, b = 1, 2", "import os", "a = 1 + x"])
def test_a_parameters_cell_with_anything_else_is_rejected(parameters):
    with pytest.raises(ValueError, match="in the parameters cell is no"):
        parameters_of(notebook(parameters=parameters))


def test_the_parameters_cell_must_be_there_once():
    none = notebook()
    del none.cells[1]
    twice = notebook()
    twice.cells.append(twice.cells[1])
    for wrong, count in ((none, 0), (twice, 2)):
        with pytest.raises(ValueError, match=f"{count} cells are tagged 'parameters'"):
            parameters_of(wrong)


def test_notebooks_are_found_by_number_name_and_path(tmp_path, monkeypatch):
    monkeypatch.setattr("messi_lib.notebook_runner.parameters.notebooks_dir", lambda: tmp_path)
    for name in ("01_data", "02_segmentation", "notes"):
        write(tmp_path, name=f"{name}.ipynb")
    first, second = (tmp_path / f"{n}.ipynb" for n in ("01_data", "02_segmentation"))
    assert find_notebooks() == [first, second]
    assert find_notebooks(["02", "01_data.ipynb"]) == [second, first]
    assert find_notebooks([str(tmp_path / "notes.ipynb")]) == [tmp_path / "notes.ipynb"]
    with pytest.raises(ValueError, match="unknown notebook '02_segmantation' .did you mean"):
        find_notebooks(["02_segmantation"])
    with pytest.raises(ValueError, match="unknown notebook '0'"):  # fits two
        find_notebooks(["0"])


# --- execution ----------------------------------------------------------------------------------


def test_a_run_leaves_one_folder_with_everything(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSI_RUNS", "relative")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    source = write(
        tmp_path,
        "import os, sys\nprint(profile, os.environ['MESSI_PROFILE'], repr(run_name), seed, steps)",
        "print(sys.executable)\nprint(os.getcwd())\nprint(os.environ['MESSI_RUNS'])",
        "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()",
        "## 1 Work",
        "ballast = bytearray(80_000_000)\nimport time\ntime.sleep(1)",
        name="tiny {a} name.ipynb",
    )
    name = 'quote " and \' and \\ and {brace}'
    settings = {"run_name": name, "seed": 7, "steps": 3}
    folder = tmp_path / "out {b}"
    before = dict(os.environ)
    result = run_notebook(source, folder, profile="smoke", settings=settings, terminal=sys.stdout)

    assert result.ok and result.error is None
    lines = texts(result.executed).splitlines()
    assert lines[0] == f"smoke smoke {name!r} 7 3"
    assert lines[1] == sys.executable, "the kernel must be this interpreter"
    assert Path(lines[2]).name == "notebooks", "the working directory must be fixed"
    assert lines[3] == str(tmp_path / "relative"), "a relative folder means the caller's"
    assert dict(os.environ) == before

    stored = json.loads((folder / "params.json").read_text())
    assert stored["parameters"] == {"profile": "smoke", **settings}
    stored = json.loads((folder / "result.json").read_text())
    assert stored["ok"] is True and stored["seconds"] > 1
    assert 80 < stored["peak_mb"] < 5000
    assert stored["versions"]["python"] == sys.version.split()[0]
    figure = nbformat.read(result.executed, as_version=4).cells[5].outputs[0]
    assert "image/png" in figure.data, "figures are shown whatever backend the user has chosen"
    work = [c for c in stored["cells"] if c["section"] == "1 Work"]
    assert [c["cell"] for c in work] == [7] and work[0]["seconds"] > 1
    log = (folder / "log.txt").read_text()
    assert "1 Work" in log and lines[0] in log
    assert capsys.readouterr().out == log, "what is logged is streamed"


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ("raise ValueError('too small\\nsecond line')", "ValueError: too small"),
        ("raise SystemExit(0)", "the notebook left here"),
        ("import os\nos._exit(3)", "the kernel died"),
    ],
)
def test_a_failing_cell_is_named_in_one_line(tmp_path, cell, complaint):
    source = write(tmp_path, "## 2 Losses", "print('fine')", cell, "print('never')")
    result = run_notebook(source, tmp_path / "out", profile="smoke")
    assert not result.ok
    assert result.error.startswith(f"tiny: cell 5 (2 Losses): {complaint}")
    assert "\n" not in result.error
    assert texts(result.executed).startswith("fine\n"), "the executed part is kept"
    assert "never" not in texts(result.executed)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["error"] == result.error
    assert result.error in (tmp_path / "out" / "log.txt").read_text()


def test_nothing_is_written_when_a_parameter_is_wrong(tmp_path):
    source = write(tmp_path)
    with pytest.raises(ValueError, match="unknown profile 'smok' .did you mean 'smoke'"):
        run_notebook(source, tmp_path / "out", profile="smok")
    with pytest.raises(ValueError, match="stepz"):
        run_notebook(source, tmp_path / "out", profile="smoke", settings={"stepz": 1})
    assert not (tmp_path / "out").exists()


def stopped(tmp_path: Path, source: Path, number: int, grace: float = 240.0) -> dict:
    """What `result.json` says of a run that got a signal after its cell had printed "begun"."""
    program = f"""
        import sys
        from pathlib import Path
        from messi_lib.notebook_runner import run_notebook
        result = run_notebook(Path({str(source)!r}), Path({str(tmp_path / "out")!r}),
                              profile="smoke", terminal=sys.stdout, grace={grace})
        sys.exit(130 if result.interrupted else 0)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )
    try:
        for line in process.stdout:
            if "begun" in line:
                break
        time.sleep(0.3)
        process.send_signal(number)
        assert process.wait(timeout=90) == 130
    finally:
        process.kill()
        process.stdout.close()
    return json.loads((tmp_path / "out" / "result.json").read_text())


# As torchrun: a launcher, and a worker in a session of its own that goes on when the launcher dies.
LAUNCHER = """
import subprocess, sys
command = [sys.executable, "worker.py", *sys.argv[1:]]
sys.exit(subprocess.run(command, start_new_session=True).returncode)
"""
WORKER = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "worker.pid").write_text(str(os.getpid()))

def save(*_):
    if sys.argv[2] == "polite":
        time.sleep(1)  # more than a launcher that was interrupted would get
        (folder / "saved").write_text("x")
        sys.exit(0)

signal.signal(signal.SIGTERM, save)
print("begun", flush=True)
while True:
    time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("number", "manners", "grace"),
    [(signal.SIGUSR1, "polite", 60), (signal.SIGTERM, "deaf", 2)],
)
def test_a_request_to_stop_ends_the_cell_and_the_training_that_it_has_started(
    tmp_path, number, manners, grace
):
    """The training first: a cell that is interrupted in `subprocess.run` kills the launcher."""
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    (tmp_path / "worker.py").write_text(WORKER)
    source = write(
        tmp_path,
        f"""
        import subprocess, sys, time
        process = subprocess.Popen(
            [sys.executable, "launcher.py", {str(tmp_path)!r}, {manners!r}],
            cwd={str(tmp_path)!r}, stdout=subprocess.PIPE, text=True)
        print(process.stdout.readline())
        print("launcher:", process.wait())
        time.sleep(100)
        print("not reached")
        """,
        "print('next cell')",
    )
    stored = stopped(tmp_path, source, number, grace)
    assert stored["interrupted"] and stored["error"] == "tiny: interrupted"
    printed = texts(tmp_path / "out" / "tiny.ipynb")
    polite = manners == "polite"
    assert printed == "begun\n\n" + "launcher: 0\n" * polite, "what the cell had printed is kept"
    assert (tmp_path / "saved").exists() == polite
    worker = Path("/proc", (tmp_path / "worker.pid").read_text())
    assert not worker.exists() or ") Z " in (worker / "stat").read_text(), "an orphan is left"


def test_the_log_keeps_the_last_state_of_a_progress_bar(tmp_path):
    path = tmp_path / "log.txt"
    with open(path, "w") as file:
        log = Log(file)
        log.write("\r 10%\r 50%")
        log.write("\r100%\n\x1b[31mred\x1b[0m\nhalf")
        log.heading("next")
    lines = [line.strip() for line in path.read_text().splitlines()]
    assert lines == ["100%", "red", "half", "0:00  next"]


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
