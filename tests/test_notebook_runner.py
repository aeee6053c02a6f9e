"""The batch runner on small notebooks made here: parameters, failures, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nbformat
import pytest
from small_notebooks import notebook, texts, write

from messi_lib.notebook_runner import (
    check_parameters,
    find_notebooks,
    parameters_of,
    parse_settings,
    run_notebook,
)
from messi_lib.notebook_runner.kernel import Log

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
    for name in ("01_data", "02_segmentation", "notes", "solutions"):
        write(tmp_path, name=f"{name}.ipynb")
    first, second, solutions = (
        tmp_path / f"{n}.ipynb" for n in ("01_data", "02_segmentation", "solutions")
    )
    assert find_notebooks() == [first, second, solutions]
    assert find_notebooks(["solutions"]) == find_notebooks(["sol"]) == [solutions]
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
    name = "quote \" and ' and \\ and {brace}"
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
