"""Folders, run records, atomic files, devices and derived randomness."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from messi_lib import runs
from messi_lib.runs import Run, atomic_write, read_stats, seed_generator, to_json


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("MESSI_DEVICE", raising=False)


# --- folders ------------------------------------------------------------------------------------


def test_the_root_is_the_repository():
    assert (runs.root() / "messi_lib" / "runs.py").is_file()
    assert (runs.root() / "pyproject.toml").is_file()


def test_folders_follow_the_environment(tmp_path, monkeypatch):
    assert runs.runs_dir() == tmp_path / "runs"
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "data"))
    assert runs.data_dir() == tmp_path / "data"
    assert runs.cache_dir() == tmp_path / "data" / "cache"
    monkeypatch.delenv("MESSI_RUNS")
    monkeypatch.delenv("MESSI_DATA")
    assert runs.runs_dir() == runs.root() / "runs"
    assert runs.cache_dir() == runs.root() / "data" / "cache"


def test_what_ships_is_in_the_repository_wherever_data_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path))
    assert runs.weights_dir() == runs.root() / "data" / "weights"
    assert runs.samples_dir() == runs.root() / "data" / "samples"


# --- devices and randomness ---------------------------------------------------------------------


def test_the_device_can_be_chosen(monkeypatch):
    assert runs.device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setenv("MESSI_DEVICE", "cpu")
    assert runs.device() == torch.device("cpu")
    monkeypatch.setenv("MESSI_DEVICE", "toaster")
    with pytest.raises(ValueError, match="MESSI_DEVICE='toaster' is no device: use cpu"):
        runs.device()


def test_float32_products_use_tf32_on_a_gpu_only_and_are_told_once(monkeypatch):
    told = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", told.append)
    monkeypatch.setattr(runs, "_allow_tf32", functools.cache(runs._allow_tf32.__wrapped__))
    monkeypatch.setenv("MESSI_DEVICE", "cpu")
    runs.device()
    monkeypatch.delenv("MESSI_DEVICE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    runs.device()
    assert told == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runs.device() == torch.device("cuda")
    monkeypatch.setenv("MESSI_DEVICE", "cuda:1")
    assert runs.device() == torch.device("cuda:1")
    assert told == ["high"]


def draw(*key) -> float:
    return float(torch.rand(1, generator=seed_generator(*key)))


def test_derived_generators_depend_on_everything_and_nothing_else():
    first = draw(0, "step", 3)
    torch.manual_seed(99)
    torch.rand(5)
    assert draw(0, "step", 3) == first, "nothing that happened before matters"
    others = [(1, "step", 3), (0, "step", 4), (0, "noise", 3), (0, "step"), (0, 3, "step")]
    assert len({first, *(draw(*key) for key in others)}) == 6
    assert seed_generator(0).device.type == "cpu"


def test_derived_generators_are_the_same_on_every_machine():
    """Numbers of a resumed run, and of another machine's, rest on this."""
    seed = seed_generator(0, "step", 3).initial_seed()
    assert seed == seed_generator(0, "step", 3).initial_seed()
    assert 0 <= seed < 2**63
    digest_based = {seed_generator(s, "a").initial_seed() for s in range(100)}
    assert len(digest_based) == 100


# --- files --------------------------------------------------------------------------------------


def test_files_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "er" / "file.txt"
    assert atomic_write(path, "first") == path and path.read_text() == "first"
    atomic_write(path, b"\x00second")
    assert path.read_bytes() == b"\x00second"
    assert path.stat().st_mode & 0o777 == 0o644

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(OSError, match="No space"):
        atomic_write(path, "third")
    assert path.read_bytes() == b"\x00second"
    assert os.listdir(path.parent) == ["file.txt"], "no temporary file is left"


def test_writers_at_the_same_time_do_not_mix(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([i]) * 100_000 for i in range(8)]
    threads = [threading.Thread(target=atomic_write, args=(path, c)) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["file"]


@dataclasses.dataclass(frozen=True)
class Config:
    """A configuration as trainings have them."""

    steps: int = 10
    lr: float = 0.1
    size: tuple[int, int] = (2, 3)


def test_everything_becomes_plain_json():
    value = {
        1: Config(),
        "array": np.arange(2, dtype=np.int64),
        "scalar": np.float32(0.5),
        "tensor": torch.tensor([1.0, float("nan")]),
        "path": Path("a"),
        "bad": float("inf"),
        "flag": np.bool_(True),
    }
    assert to_json(value) == {
        "1": {"steps": 10, "lr": 0.1, "size": [2, 3]},
        "array": [0, 1],
        "scalar": 0.5,
        "tensor": [1.0, None],
        "path": "a",
        "bad": None,
        "flag": True,
    }
    json.dumps(to_json(value), allow_nan=False)


# --- runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "a\n", "x:y"])
def test_names_that_are_no_folder_are_rejected(name, tmp_path):
    with pytest.raises(ValueError, match="run name"):
        Run(name)
    assert not (tmp_path / "runs").exists()


def has_a_state(run):
    run.checkpoints.mkdir()
    (run.checkpoints / "state-00000005.safetensors").touch()


def test_a_run_of_an_older_version_goes_on_with_the_defaults_of_later_settings(tmp_path):
    run = Run("old", Config())
    path = run.folder / "config.json"
    stored = json.loads(path.read_text())
    stored.pop("lr")  # as if that setting did not exist then
    path.write_text(json.dumps(stored))
    has_a_state(run)
    Run("old", Config())
    with pytest.raises(ValueError, match=r"lr: 0.1 -> 0.2"):
        Run("old", Config(lr=0.2))


def test_a_run_keeps_its_configuration(tmp_path):
    run = Run("a", Config())
    assert run.folder == tmp_path / "runs" / "a"
    stored = json.loads((run.folder / "config.json").read_text())
    assert stored == {"steps": 10, "lr": 0.1, "size": [2, 3]}
    Run("a", Config(lr=0.3))  # nothing has been trained: free to change
    assert json.loads((run.folder / "config.json").read_text())["lr"] == 0.1
    has_a_state(run)
    longer = Config(steps=20)
    Run("a", longer).keep_config(longer)  # going on for longer is the same run
    assert json.loads((run.folder / "config.json").read_text())["steps"] == 20
    with pytest.raises(ValueError, match=r"another configuration \(lr: 0.1 -> 0.2\)"):
        Run("a", Config(lr=0.2))
    assert json.loads((run.folder / "config.json").read_text())["lr"] == 0.1


def test_a_run_can_lie_anywhere(tmp_path):
    run = Run("a", folder=tmp_path / "elsewhere")
    assert run.folder == tmp_path / "elsewhere" and run.folder.is_dir()
    assert run.checkpoints == run.folder / "checkpoints"


def test_metrics_are_merged():
    run = Run("a")
    run.metrics(loss=np.float64(0.5), note="x")
    assert run.metrics(loss=0.25, fid=torch.tensor(3)) == {"loss": 0.25, "note": "x", "fid": 3}
    assert json.loads((run.folder / "metrics.json").read_text())["fid"] == 3
    assert Run("a").metrics() == {"loss": 0.25, "note": "x", "fid": 3}


def test_statistics_are_lines_and_curves():
    run = Run("a")
    assert run.log(1, loss=0.5, bad=float("nan"))["loss"] == 0.5
    run.log(2, loss=torch.tensor(0.25))
    assert [(s["step"], s["loss"]) for s in read_stats(run.folder)] == [(1, 0.5), (2, 0.25)]
    assert read_stats(run.folder)[0]["bad"] is None
    assert list((run.folder / "tensorboard").iterdir())


def test_reading_survives_a_torn_line_and_a_resumed_run():
    run = Run("a")
    with open(run.folder / "stats.jsonl", "w") as file:
        for step, loss in ((1, 1.0), (3, 3.0), (2, 2.0), (3, 3.5)):
            file.write(json.dumps({"step": step, "loss": loss}) + "\n")
        file.write('{"step": 4, "lo')
    assert [(s["step"], s["loss"]) for s in read_stats(run.folder)] == [(1, 1), (2, 2), (3, 3.5)]


def test_a_run_that_never_started_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="stats.jsonl is missing: has this run"):
        read_stats(tmp_path)
