"""Two processes with gloo do what one does; the processes are started once for all tests here."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from messi_lib.runs import read_stats
from messi_lib.training.checkpoints import load_weights
from messi_lib.training.distributed import Ranks, current
from messi_lib.training.parts import parts, portion
from tests.training import ranks as job

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MESSI_DEVICE": "cpu"}
    done = subprocess.run(
        [*command, "-m", "tests.training.ranks", str(folder)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return folder


@pytest.fixture(autouse=True)
def on_one_thread_of_the_cpu(monkeypatch):
    """As the two processes: the order of sums decides on weights whose true gradient is zero."""
    monkeypatch.setenv("MESSI_DEVICE", "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def told(folder: Path, part: str) -> list[dict]:
    return [json.loads((folder / f"{part}-{rank}.json").read_text()) for rank in (0, 1)]


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_weights(folder / "checkpoints" / "state-00000020.safetensors")[0]


def assert_same_run(ours: Path, theirs: Path) -> None:
    for one, other in zip(read_stats(ours), read_stats(theirs), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
    mine, others = state(ours), state(theirs)
    assert mine.keys() == others.keys()
    for name, value in mine.items():
        if not name.startswith("optimizer."):
            torch.testing.assert_close(value, others[name], atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("model", ["generator", "segmenter"])
def test_two_processes_train_as_one_with_dropout_and_augmentation(two, tmp_path, model):
    """Twenty steps with half the batch each; one process computes the same parts in turn."""
    getattr(job, model)(tmp_path / model)
    assert_same_run(two / model, tmp_path / model)
    losses = [line["loss"] for line in read_stats(tmp_path / model)]
    assert len(set(losses)) == 20  # and each step differs from the one before


def test_another_number_of_processes_goes_on(two, tmp_path):
    """Ten steps on two processes, ten more on one: the run that one process makes alone."""
    long = dataclasses.replace(job.GENERATOR, horizon=20)
    job.generator(two / "changed", long)
    job.generator(tmp_path / "alone", long)
    assert_same_run(two / "changed", tmp_path / "alone")


def test_every_image_goes_to_one_process(two):
    first, second = told(two, "shares")
    assert [entry[1:] for entry in first["seen"]] == [[0, 2]] * 20
    assert [entry[1:] for entry in second["seen"]] == [[2, 4]] * 20
    assert [entry[0] for entry in first["seen"]] == list(range(20))
    assert first["weights"] == second["weights"]
    for size in (1, 2, 4):
        shares = [Ranks(rank, size).share(8) for rank in range(size)]
        assert sorted(i for share in shares for i in range(8)[share]) == list(range(8))


def test_processes_begin_with_the_same_weights(two):
    first, second = told(two, "unseeded")
    assert first == second


def test_a_loss_that_breaks_on_one_process_stops_all_of_them(two):
    first, second = told(two, "broken")
    assert "another rank is not finite at step 7" in first["error"]
    assert "the loss is nan at step 7" in second["error"]
    names = sorted(path.name for path in (two / "broken" / "checkpoints").iterdir())
    assert names == ["state-00000005.safetensors", "state-00000007.safetensors"]


def test_weights_that_differ_are_not_saved(two):
    for fact in told(two, "astray"):
        assert "the ranks hold different weights (0." in fact["error"]
    names = [path.name for path in (two / "astray" / "checkpoints").iterdir()]
    assert names == ["state-00000005.safetensors"]


def test_disagreement_and_uneven_batches_are_refused(two):
    for fact in told(two, "config"):
        assert "ranks disagree on the configuration" in fact["error"]
    for fact in told(two, "odd"):
        assert "batch=5 cannot be shared equally by 2 processes" in fact["error"]


def test_what_fails_on_one_process_fails_on_all(two):
    """None is left waiting for the others; each has one line."""
    first, second = told(two, "unread")
    assert second["error"] == "a photo cannot be read" and "another rank failed" in first["error"]
    first, second = told(two, "measured")
    assert first["error"] == "the disk is full" and "another rank failed" in second["error"]
    for fact in told(two, "idle"):
        assert "1.weight and 1 more parameters take no part in the loss" in fact["error"]


def test_all_stop_together_when_one_is_asked(two):
    first, second = told(two, "asked")
    assert first["step"] == second["step"] == 8  # asked after step 7: the one in hand is finished
    assert {first["stopped"], second["stopped"]} == {"another rank", "SIGTERM"}
    for fact, whole in zip(told(two, "went_on"), told(two, "shares")):
        assert fact["step"] == 20
        torch.testing.assert_close(torch.tensor(fact["weights"]), torch.tensor(whole["weights"]))


def test_parts_are_numbered_over_all_processes():
    batch = torch.arange(12)
    alone = [(p.number, p.images.tolist()) for p in parts(batch, 3, Ranks())]
    shared = []
    for rank in (0, 1):
        ranks = Ranks(rank, 2)
        mine = batch[ranks.share(12)]
        shared += [(p.number, p.images.tolist()) for p in parts(mine, 3, ranks)]
    assert alone == shared and [number for number, _ in alone] == [0, 1, 2, 3]
    seeds = {part.generator(0, 5).initial_seed() for part in parts(batch, 3, Ranks())}
    assert len(seeds) == 4


def test_portions():
    assert portion(32, 0, Ranks()) == 32 and portion(32, 5, Ranks()) == 5
    assert portion(32, 0, Ranks(0, 4)) == 8 and portion(32, 4, Ranks(0, 4)) == 4
    assert portion(32, 16, Ranks(0, 4)) == 8
    with pytest.raises(ValueError, match="microbatch=5 does not divide the 8 images"):
        portion(32, 5, Ranks(0, 4))
    with pytest.raises(ValueError, match="microbatch=-1"):
        portion(32, -1, Ranks())


def test_half_a_job_is_explained(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ValueError, match="WORLD_SIZE=2 without MASTER_ADDR"):
        current()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert current() == Ranks()
