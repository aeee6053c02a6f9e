"""The command line: help, one-line errors, exit statuses, and small runs of the commands."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from messi_lib import cli
from messi_lib.cli import COMMANDS, explain, main, one_line, parse
from messi_lib.profiles import ConsistencyConfig, ReplaceConfig, SegmentationConfig, preset


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def complaint(capsys) -> str:
    """The one line on standard error."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("messi: ")
    return lines[0]


@pytest.fixture(autouse=True)
def _smoke(monkeypatch):
    monkeypatch.setenv("MESSI_PROFILE", "smoke")
    monkeypatch.delenv("MESSI_DEBUG", raising=False)


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


def test_a_group_lists_its_commands(capsys):
    assert run("train") == 0
    shown = capsys.readouterr().out
    assert "train segmentation" in shown and "train consistency" in shown
    assert "replace" not in shown.split("\n", 1)[1]


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


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0 truncated"])
def test_an_unreadable_photo_is_named(content, tmp_path, models, capsys):
    photo = tmp_path / "bad.jpg"
    photo.write_bytes(content)
    segmenter, generator = models
    out = tmp_path / "out"
    status = run("replace", photo, "--out", out, "--segmenter", segmenter, "--model", generator)
    assert status == 2
    assert str(photo) in complaint(capsys)
    assert not out.exists() or not list(out.rglob("*.*")), "nothing half-written"


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


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Both models, trained for a few steps and exported by the commands themselves."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MESSI_RUNS", str(folder / "runs"))
        patch.setenv("MESSI_PROFILE", "smoke")
        files = []
        for kind in ("segmentation", "consistency"):
            small = ["--steps", "4", "--save-every", "2", "--images", "8", "--batch", "4"]
            assert run("train", kind, "--run", kind, *small) == 0
            files.append(folder / f"{kind}.safetensors")
            assert run("export", kind, "--run", kind, "--out", files[-1]) == 0
    return files


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two procedural photos, written by the command."""
    out = tmp_path_factory.mktemp("pitch") / "people"
    assert run("data", "pitch", "--kind", "people", "--n", 2, "--size", 96, "--out", out) == 0
    return out


def test_pitch_writes_people_and_subject(photos, tmp_path, capsys):
    assert len(json.loads((photos / "instances.json").read_text())["images"]) == 2
    out = tmp_path / "subject"
    command = ["data", "pitch", "--kind", "subject", "--n", 2, "--size", 64, "--out", out]
    assert run(*command) == 0
    assert Image.open(out / "000001.png").size == (64, 64)
    capsys.readouterr()
    assert run(*command) == 2, "results are not mixed"
    assert "not an empty folder" in complaint(capsys)


def test_replace_keeps_what_is_outside_the_hole(photos, models, tmp_path, capsys):
    segmenter, generator = models
    out = tmp_path / "out"
    status = run(
        "replace", photos / "images", "--out", out, "--segmenter", segmenter, "--model", generator,
        "--steps", 1, "--people", "largest", "--threshold", 0.01,
    )  # fmt: skip
    assert status == 0
    assert str(out) in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    assert len(report) == 2
    changed = 0
    for entry in report:
        before = np.asarray(Image.open(entry["photo"]))
        after = np.asarray(Image.open(entry["output"]))
        hole = np.asarray(Image.open(entry["hole"]).convert("L")) > 0
        assert before.shape == after.shape
        assert np.array_equal(before[~hole], after[~hole])
        changed += int((before != after).any(-1).sum())
    assert changed > 0, "this segmenter sees people everywhere: something must have changed"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--shard 0/4", "shard='0/4'"),
        ("--workers 0", "workers=0"),
        ("--hole {photo}", "one hole for 2 photos"),
        ("--solver magic", "solver 'magic'"),
        ("--blend glue", "blend='glue'"),
        ("--candidates 0", "candidates=0"),
        ("--format psd", "psd"),
        ("--people some", "people='some'"),
    ],
)
def test_bad_options_of_replace(options, expected, photos, models, tmp_path, capsys):
    photo = photos / "images" / "000001.png"
    options = options.format(photo=photo).split()
    assert run("replace", photos / "images", "--out", tmp_path / "out", *options) == 2
    assert expected in complaint(capsys)
    assert not (tmp_path / "out").exists()


def test_all_ways_to_ask_for_more_of_replace(photos, models, tmp_path, capsys):
    segmenter, generator = models
    hole = tmp_path / "hole.png"
    white = np.zeros((96, 96), np.uint8)
    white[30:60, 30:60] = 255
    Image.fromarray(white).save(hole)
    photo, out = photos / "images" / "000001.png", tmp_path / "out"
    command = [
        "replace", photo, "--out", out, "--segmenter", segmenter, "--model", generator, "--steps",
        1, "--hole", hole, "--grow", 0, "--candidates", 2, "--report", "--blend", "poisson",
        "--no-detail", "--solver", "replacement",
    ]  # fmt: skip
    assert run(*command) == 0
    assert (out / "report.html").exists() and (out / "candidates" / "000001.png").exists()
    before = (out / photo.name).read_bytes()
    assert run(*command, "--skip-existing", "--seed", 9) == 0
    assert "1 of 1 photos were done before" in capsys.readouterr().out
    assert (out / photo.name).read_bytes() == before
    assert run("replace", photo, photo.with_name("000002.png"), "--out", tmp_path / "two",
               "--segmenter", segmenter, "--model", generator, "--steps", 1, "--workers", 2,
               "--shard", "2/2") == 0  # fmt: skip
    assert [p.name for p in (tmp_path / "two").glob("*.png")] == ["000002.png"]


def test_one_bad_photo_among_several_sets_the_status(photos, models, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.png").write_bytes((photos / "images" / "000001.png").read_bytes())
    (folder / "bad.png").write_bytes(b"no image")
    segmenter, generator = models
    out = tmp_path / "out"
    status = run("replace", folder, "--out", out, "--segmenter", segmenter, "--model", generator)
    assert status == 2
    line = complaint(capsys)
    assert "1 of 2 photos" in line and "bad.png" in line
    assert (out / "good.png").exists() and not (out / "bad.png").exists()


def test_sample_draws_the_same_images_for_the_same_seed(models, tmp_path):
    for name in ("a", "b"):
        assert run("sample", "--model", models[1], "--n", 3, "--out", tmp_path / name) == 0
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "000001.png", "000002.png", "000003.png",
    ]  # fmt: skip
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    first, second = (np.asarray(Image.open(tmp_path / "a" / f"00000{i}.png")) for i in (1, 2))
    assert not np.array_equal(first, second)
    assert (tmp_path / "a_sheet.png").exists()


def test_a_run_is_sampled_as_far_as_it_has_come(models, tmp_path, monkeypatch, capsys):
    """Also one that was stopped, and has exported nothing."""
    folder = models[1].parent / "runs"
    monkeypatch.setenv("MESSI_RUNS", str(folder))
    export = folder / "consistency" / "generator.safetensors"
    hidden = export.rename(export.with_suffix(".hidden"))
    command = ["sample", "--run", "consistency", "--n", 2, "--sigmas", 80, 0.8]
    assert run(*command, "--out", tmp_path / "a") == 0
    hidden.rename(export)
    assert "after 4 steps" in capsys.readouterr().out
    assert (tmp_path / "a" / "000002.png").exists()


def test_generators_leave_in_the_layout_of_the_hub(models, tmp_path, monkeypatch):
    from messi_lib.consistency.hub import from_pretrained

    monkeypatch.setenv("MESSI_RUNS", str(models[1].parent / "runs"))
    command = ["export", "consistency", "--run", "consistency", "--layout", "hub"]
    assert run(*command, "--out", tmp_path / "shared") == 0
    assert (tmp_path / "shared" / "README.md").exists()
    assert from_pretrained(tmp_path / "shared").config.steps == 4


@pytest.mark.parametrize(("kind", "count"), [("consistency", 832_973), ("inpainter", 837_581)])
def test_a_dry_run_counts_and_writes_nothing(kind, count, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path))
    assert run("train", kind, "--run", "a", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert f"{count:,} parameters" in shown and "activations" in shown
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["consistency", "--condition-channels", 4], "messi train inpainter"),
        (["inpainter", "--segmenter", "a.safetensors"], "--segmenter is for photos"),
        (["inpainter", "--photos", "p", "--backgrounds", "b"], "--backgrounds is for the drawn"),
        (["inpainter", "--start", "gone.safetensors"], "gone.safetensors is missing"),
        (["inpainter", "--images", 4], "larger than the data set (4 images)"),
        (["inpainter", "--collages", 2], "--collages 2"),
    ],
)
def test_trainings_that_cannot_be_done_leave_no_folder(
    options, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "data"))
    assert run("train", *options, "--run", "a") == 2
    assert words in complaint(capsys)
    assert not (tmp_path / "runs" / "a").exists()


def test_sampling_in_parts_gives_different_images(models, tmp_path):
    command = ["sample", "--model", models[1], "--n", 2, "--batch", 1, "--out", tmp_path / "a"]
    assert run(*command, "--sampler", "heun", "--steps", 2) == 0
    first, second = (np.asarray(Image.open(tmp_path / "a" / f"00000{i}.png")) for i in (1, 2))
    assert not np.array_equal(first, second)


def test_training_on_a_folder_goes_on_where_it_stopped(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path))
    command = ["train", "consistency", "--run", "r", "--photos", photos / "images"]
    command += ["--crop", "centre", "--batch", 2, "--save-every", 2]
    assert run(*command, "--steps", 2) == 0
    assert "2 crops of 16 px from 2 photos (0 face, 0 person, 2 centre)" in capsys.readouterr().out
    assert run(*command, "--steps", 4) == 0
    shown = capsys.readouterr().out
    assert "step 4/4" in shown and "step 2/4" not in shown
    assert (tmp_path / "r" / "generator.safetensors").exists()
    assert run(*command, "--steps", 4, "--lr", 1) == 2
    assert "another configuration (lr: " in complaint(capsys)


def test_training_on_coco_annotations_measures_on_others(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path))
    files = ["--annotations", photos / "instances.json", "--images-dir", photos / "images"]
    files += ["--val-annotations", photos / "instances.json"]
    command = ["train", "segmentation", "--run", "s", *files, "--steps", 2, "--batch", 2]
    assert run(*command, "--save-every", 2, "--log-every", 2) == 0
    assert "validation IoU" in capsys.readouterr().out
    target = tmp_path / "best.safetensors"
    assert run("export", "segmentation", "--run", "s", "--out", target, "--which", "best") == 0
    assert target.stat().st_size > 1000


def test_fid_prints_json(tmp_path, capsys):
    for kind, seed in (("a", 0), ("b", 1)):
        out = tmp_path / kind
        command = ["data", "pitch", "--kind", "subject", "--n", 4, "--size", 64, "--out", out]
        assert run(*command, "--seed", seed) == 0
    capsys.readouterr()
    folders = [tmp_path / "a", tmp_path / "b"]
    assert run("evaluate", "fid", *folders, "--extractor", "random-conv") == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["n_a"] == result["n_b"] == 4 and result["fid_random-conv"] > 0
    assert printed.err.startswith("warning: ")


@pytest.mark.parametrize(
    ("arguments", "target", "expected"),
    [
        (["notebooks", "02", "--profile", "smoke", "--set", "a=1", "--save"],
         "messi_lib.notebook_runner.run_notebooks",
         {"profile": "smoke", "settings": {"a": 1}, "save": True, "dry_run": False}),
        (["demo"], "messi_lib.notebook_runner.demo", {"profile": "smoke"}),
        (["doctor"], "messi_lib.doctor.doctor", {}),
        (["playground", "--port", "1234", "--no-browser"], "messi_lib.playground.server.serve",
         {"port": 1234, "browser": False}),
    ],
)  # fmt: skip
def test_commands_hand_over(arguments, target, expected, monkeypatch):
    seen = {}

    def replacement(*positional, **named):
        seen.update(named)
        return 7

    monkeypatch.setattr(target, replacement)
    assert run(*arguments) == 7, "the status is passed on"
    assert seen == expected


def test_the_installed_command_answers():
    script = Path(sys.executable).with_name("messi")
    if not script.exists():
        pytest.skip("messi is not installed beside this interpreter")
    done = subprocess.run([script, "nonsense"], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2 and done.stderr.startswith("messi: unknown command 'nonsense'")
    assert cli.main is main
