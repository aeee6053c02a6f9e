"""The command line: help, options, one-line errors and exit statuses."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import complaint, run
from PIL import Image

from messi_lib import cli
from messi_lib.cli import COMMANDS, explain, main, one_line, parse
from messi_lib.profiles import ConsistencyConfig, ReplaceConfig, SegmentationConfig, preset

pytestmark = pytest.mark.usefixtures("smoke")

# --- help ---------------------------------------------------------------------------------------


def test_help_names_every_command_and_loads_nothing_heavy():
    program = (
        "import sys; from messi_lib.cli import main; status = main(['--help']);"
        "print([m for m in ('torch', 'numpy', 'papermill', 'timm') if m in sys.modules]);"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    *shown, heavy = done.stdout.splitlines()
    assert shown[-1].startswith("Start here: messi demo")
    assert heavy == "[]", "help must answer at once"
    for name in COMMANDS:
        assert any(line.startswith(f"  {name} ") for line in shown), name
    assert max(map(len, shown)) <= 100


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_without_starting_anything(name, capsys):
    with pytest.raises(SystemExit) as ended:
        run(*name.split(), "--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert COMMANDS[name].__doc__.split(".")[0].split("\n")[0] in " ".join(shown.split())
    for field in dataclasses.fields(COMMANDS[name]):
        inputs = ("photos", "names", "folders", "dir_a", "dir_b")
        positional = field.name in inputs and "train" not in name
        if field.name != "encoder_args" and not positional:
            assert "--" + field.name.replace("_", "-") in shown


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("replace", "PHOTO [PHOTO ...]"),
        ("data subject", "FOLDER [FOLDER ...]"),
        ("evaluate fid", "DIR_A DIR_B"),
        ("notebooks", "[NAME ...]"),
    ],
)
def test_help_names_the_inputs_and_no_empty_default(name, inputs, capsys):
    with pytest.raises(SystemExit):
        run(*name.split(), "--help")
    shown = capsys.readouterr().out
    assert inputs in shown.splitlines()[0] and "(default: )" not in shown


def test_a_group_lists_its_commands(capsys):
    assert run("train") == 0
    shown = capsys.readouterr().out
    assert "Start here" not in shown
    assert "train segmentation" in shown and "train consistency" in shown
    assert not any(line.startswith("  replace ") for line in shown.splitlines())


def test_no_arguments_and_version(capsys):
    assert run() == 0
    assert "usage: messi COMMAND" in capsys.readouterr().out
    assert run("--version") == 0
    assert capsys.readouterr().out == "messi 0.1.0\n"


# --- options ------------------------------------------------------------------------------------


def test_defaults_of_a_training_come_from_its_profile():
    for profile in ("smoke", "laptop"):
        made = parse("train consistency", ["--run", "a", f"--profile={profile}"])
        fields = [f.name for f in dataclasses.fields(ConsistencyConfig)]
        config = ConsistencyConfig(**{name: getattr(made, name) for name in fields})
        assert config == preset(ConsistencyConfig, profile)
    made = parse("train segmentation", ["--run", "a", "--profile", "laptop", "--steps", "3"])
    assert made.steps == 3
    assert made.encoder_args == preset(SegmentationConfig, "laptop").encoder_args


def test_the_environment_names_the_profile(monkeypatch):
    monkeypatch.setenv("MESSI_PROFILE", "laptop")
    assert parse("demo", []).profile == "laptop"
    assert parse("demo", ["--profile", "smoke"]).profile == "smoke"
    assert parse("replace", ["a", "--out", "b"]).steps == preset(ReplaceConfig, "laptop").steps
    monkeypatch.setenv("MESSI_PROFILE", "nonsense")
    assert isinstance(parse("doctor", []), COMMANDS["doctor"]), "the doctor must always start"


def test_options_reach_their_fields():
    made = parse("replace", ["a", "b", "--out", "c", "--people", "1,3", "--format", "png"])
    assert made.photos == (Path("a"), Path("b")) and made.out == Path("c")
    assert made.people == "1,3" and made.format == "png" and made.model is None
    made = parse("notebooks", ["02", "05", "--set", "a=1", "--set", "b=x y", "--dry-run"])
    assert made.names == ("02", "05") and made.set == ("a=1", "b=x y")
    assert made.dry_run and not made.save


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("frobnicate", "unknown command 'frobnicate'"),
        ("train consitency", "did you mean 'train consistency'"),
        ("demo --profile smok", "unknown profile 'smok' (did you mean 'smoke'?): use one of smoke"),
        ("demo --profile", "unknown profile 'None'"),
        ("train consistency --run a --stepz 3", "--stepz, 3 (did you mean --steps?)"),
        ("train consistency --run a --steps x", "--steps: invalid literal for int"),
        ("train consistency", "missing: --run STR"),
        ("replace a", "missing: --out PATH"),
        ("data pitch --kind fox --n 1 --out a", "'fox'"),
        ("demo --profile laptop --loud", "Unrecognized options: --loud"),
        ("replace --out a", "no input: give photos or folders"),
        ("replace missing.jpg --out a", "missing.jpg does not exist"),
        ("replace a --out b --workers x", "--workers: invalid literal for int"),
        ("notebooks --set steps", "write name=value"),
        ("export consistency --run none --out a", "is the run's name right?"),
        ("export segmentation --run none --out a", "is the run's name right?"),
        ("sample --model missing.safetensors --out a", "missing.safetensors are missing"),
        ("sample --model a --run b --out a", "give one of them"),
        ("sample --n 0 --out a", "n=0"),
        ("sample --sigmas 0.8 80 --n 1 --out a", "must descend"),
        ("export consistency --run none", "give --out, where to write, or --push"),
        ("train consistency --run a --objective ectt --images 8", "did you mean 'ect'"),
        ("train consistency --run a --objective cd --images 8", "distils a diffusion model"),
        ("train consistency --run a --images 4", "batch=8 is larger than the data set (4 images)"),
        ("data pitch --kind people --kit pink --n 1 --out a", "--kit is for --kind subject"),
        ("train segmentation --run a --annotations x", "belong together"),
        ("train segmentation --run a --val-annotations x", "--val-annotations and --splits need"),
        ("evaluate fid missing_a missing_b", "missing_a does not exist"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path / "runs"))
    assert run(*arguments.split()) == 2
    assert expected in complaint(capsys)
    assert not list(tmp_path.rglob("*")), "nothing half-written"


def test_an_empty_folder_and_an_output_that_cannot_be(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run("replace", tmp_path / "empty", "--out", tmp_path / "out") == 2
    assert "empty holds no photos" in complaint(capsys)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "file").write_text("in the way")
    assert run("replace", tmp_path / "a.png", "--out", tmp_path / "file" / "out") == 2
    assert "cannot be written" in complaint(capsys)


def test_missing_weights_are_named_with_the_remedy(tmp_path, monkeypatch, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    missing = tmp_path / "no.safetensors"
    assert run("replace", tmp_path / "a.png", "--out", tmp_path / "o", "--segmenter", missing) == 2
    line = complaint(capsys)
    assert str(missing) in line and "messi train segmentation" in line
    assert not (tmp_path / "o").exists()


def test_errors_of_the_system_say_what_to_do():
    error = PermissionError(13, "Permission denied", "/x/y")
    assert explain(error) == (
        "/x/y: Permission denied (choose another place, or change its permissions)"
    )
    assert explain(OSError(28, "No space left on device")).endswith("choose another disk)")
    assert explain(FileNotFoundError("weights a\nare missing")) == "weights a are missing"
    assert explain(ValueError()) == "ValueError"


def raising(error: BaseException):
    @dataclasses.dataclass
    class Command:
        """Raises."""

        def __call__(self) -> int:
            raise error

    return Command


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("two\nlines"), 2, "messi: two lines\n"),
        (OSError(28, "No space left on device", "f"), 2, "messi: f: No space left on device"),
        (KeyboardInterrupt(), 130, "messi: interrupted\n"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), 2, "smaller --batch"),
    ],
)
def test_statuses(error, status, line, monkeypatch, capsys):
    monkeypatch.setitem(COMMANDS, "doctor", raising(error))
    assert run("doctor") == status
    assert line in capsys.readouterr().err


def test_a_bug_is_not_dressed_up_as_bad_input(monkeypatch):
    monkeypatch.setitem(COMMANDS, "doctor", raising(TypeError("a bug")))
    with pytest.raises(TypeError, match="a bug"):
        run("doctor")


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("MESSI_DEBUG", "1")
    monkeypatch.setitem(COMMANDS, "doctor", raising(ValueError("bad input")))
    with pytest.raises(ValueError, match="bad input"):
        run("doctor")


def test_a_reader_that_leaves_is_no_error():
    command = [sys.executable, "-c", "import sys; from messi_lib.cli import main; sys.exit(main())"]
    process = subprocess.Popen(
        [*command, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() in (0, 120, 141)
    process.stderr.close()


BOX = """
╭─ Unrecognized ──╮
│ Unrecognized    │
│ options: --a, 3 │
│ ─────────────── │
│ Perhaps you     │
│ meant:          │
│     --ab INT    │
╰─────────────────╯
"""


PLAIN_BOX = """ Unrecognized
 -----------------
  Unrecognized
  options: --a, 3
  ---------------
  Perhaps you
  meant:
      --ab INT
"""


@pytest.mark.parametrize("box", [BOX, PLAIN_BOX])
def test_the_box_of_an_error_becomes_one_line(box):
    expected = "Unrecognized options: --a, 3 (did you mean --ab?); see messi demo --help"
    assert one_line(box, "demo") == expected


# --- small runs ---------------------------------------------------------------------------------


def test_the_installed_command_answers():
    script = Path(sys.executable).with_name("messi")
    if not script.exists():
        pytest.skip("messi is not installed beside this interpreter")
    done = subprocess.run([script, "nonsense"], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2 and done.stderr.startswith("messi: unknown command 'nonsense'")
    assert cli.main is main
