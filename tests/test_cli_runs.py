"""Small runs of the commands: photos in, files and one line out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_line import complaint, run
from PIL import Image

pytestmark = pytest.mark.usefixtures("smoke")

# --- errors -------------------------------------------------------------------------------------


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


def test_samples_are_drawn_in_the_precision_of_the_training(tmp_path, monkeypatch):
    """A GPU's context, made on the CPU: what is drawn in bf16 is float32 again in the end."""
    import torch

    from messi_lib.training import optimizer

    asked = []

    def half(precision, place):
        asked.append((precision, place.type))
        return torch.autocast("cpu", dtype=torch.bfloat16)

    command = ["sample", "--n", 2, "--batch", 1]  # the generator that ships: its images are sharp
    assert run(*command, "--out", tmp_path / "full") == 0
    monkeypatch.setattr(optimizer, "drawing_autocast", half)
    assert run(*command, "--out", tmp_path / "half") == 0
    assert asked == [("auto", "cpu")] * 2
    full, rounded = (
        np.asarray(Image.open(tmp_path / name / "000001.png")).astype(int)
        for name in ("full", "half")
    )
    assert 0 < np.abs(full - rounded).max() < 16


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


def test_a_figure_is_trained_and_laid_into_a_photo(tmp_path, monkeypatch):
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "data"))
    assert run("train", "layer", "--run", "figure", "--steps", 4) == 0
    made = tmp_path / "runs" / "figure" / "generator.safetensors"
    photo, hole = np.full((40, 60, 3), (90, 160, 60), np.uint8), np.zeros((40, 60), np.uint8)
    hole[10:34, 20:36] = 255
    for name, pixels in {"photo": photo, "hole": hole}.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    command = ["replace", tmp_path / "photo.png", "--hole", tmp_path / "hole.png", "--model", made]
    assert run(*command, "--out", tmp_path / "out") == 0
    result = np.asarray(Image.open(tmp_path / "out" / "photo.png"))
    changed = (result != photo).any(2)
    assert changed[10:34, 20:36].any(), "a figure after four steps: specks, but there"
    assert not changed[:, 50:].any() and not changed[:, :8].any()


COUNTS = {"consistency": 832_973, "inpainter": 837_581, "layer": 839_889}


@pytest.mark.parametrize(("kind", "count"), COUNTS.items())
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
        (["inpainter", "--collages", 0.2], "--collages needs --backgrounds"),
        (["layer", "--channels", 3], "channels=3: messi train layer has 4"),
        (["consistency", "--channels", 4], "messi train layer"),
        (["layer", "--photos", "p", "--close-ups", 0.5], "--close-ups is for the drawn"),
        (["layer", "--close-ups", 2], "--close-ups 2"),
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


ALONE = [("sample", "--n", 1), ("evaluate", "generator", "--real", ".")]


@pytest.mark.parametrize("command", ALONE)
def test_a_generator_for_holes_draws_nothing_alone(command, tmp_path, capsys):
    from messi_lib.inpainting.weights import shipped_path

    out = tmp_path / "out"
    assert run(*command, "--model", shipped_path("layer"), "--out", out) == 2
    assert "draws into holes of photos" in complaint(capsys)
    assert not out.exists()
