import dataclasses
import errno
import os
import shutil
import subprocess

import pytest
import torch
from torch import nn

from messi_lib.runs import Run, read_stats
from messi_lib.training.budget import state_bytes
from messi_lib.training.checkpoints import folder_bytes, load_weights
from messi_lib.training.loop import train
from messi_lib.training.store import DiskFull
from tests.training.test_loop import CONFIG, batch_at, loss_fn, make_model, run_for


def big_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4000), nn.Tanh(), nn.Linear(4000, 1))


def go(folder, config, model=None, **more):
    run = Run("run", config, folder=folder)
    return train(run, model or make_model(), loss_fn, batch_at, config, quiet=True, **more), run


def test_a_state_is_as_large_as_planned(tmp_path):
    for optimizer in ("adam", "radam"):
        config = dataclasses.replace(CONFIG, steps=1, optimizer=optimizer)
        model = big_model()
        _, run = go(tmp_path / optimizer, config, model)
        size = (run.checkpoints / "state-00000001.safetensors").stat().st_size
        assert 0.97 * size < state_bytes(model) < 1.03 * size and state_bytes(model) >= size


def test_snapshots_are_spaced_on_a_logarithmic_scale(tmp_path):
    config = dataclasses.replace(CONFIG, steps=40, snapshots=4, log_every=1)
    result, run = go(tmp_path / "run", config)
    kept = sorted(path.name for path in (run.folder / "history").iterdir())
    assert kept == [f"average-{step:08d}.safetensors" for step in (5, 10, 20, 40)]
    last, facts = load_weights(run.folder / "history" / kept[-1])
    assert facts == {"kind": "average"}
    for name, value in result.ema.items():
        assert torch.equal(last[name], value.half())
    go(tmp_path / "run", dataclasses.replace(config, steps=41, snapshots=0))
    assert len(list((run.folder / "history").iterdir())) == 4  # nothing is thrown away unasked


def test_a_smaller_budget_keeps_fewer_states(tmp_path, capsys):
    config = dataclasses.replace(CONFIG, steps=10, save_every=5, optimizer="adam", snapshots=2)
    _, run = go(tmp_path / "run", dataclasses.replace(config, horizon=20), big_model())
    assert len(list(run.checkpoints.iterdir())) == 2
    tight = dataclasses.replace(config, steps=20, horizon=20, disk_budget="700KB")
    go(tmp_path / "run", tight, big_model())
    assert [path.name for path in run.checkpoints.iterdir()] == ["state-00000020.safetensors"]
    assert folder_bytes(run.folder) <= 700_000


def test_a_run_stays_within_its_budget_and_an_impossible_one_is_refused(tmp_path):
    """Looked at after every step: states, snapshots, curves and all."""
    config = dataclasses.replace(CONFIG, steps=60, snapshots=12, save_every=1, optimizer="adam")
    sizes = []
    watch = lambda model, step: sizes.append(folder_bytes(tmp_path / "run"))  # noqa: E731
    _, run = go(tmp_path / "run", dataclasses.replace(config, disk_budget="800KB"),
                big_model(), after_step=watch)  # fmt: skip
    assert max(sizes) <= 800_000
    assert len(list((run.folder / "history").iterdir())) == 5  # of 12
    assert len(list(run.checkpoints.iterdir())) == 1
    free, run = go(tmp_path / "free", config, big_model())
    assert folder_bytes(run.folder) > 800_000
    with pytest.raises(ValueError, match="disk budget 100.0 KB: this training needs at least"):
        go(tmp_path / "small", dataclasses.replace(config, disk_budget="100KB"), big_model())
    assert not list((tmp_path / "small").glob("checkpoints/*"))


def test_other_files_in_the_folder_count(tmp_path):
    config = dataclasses.replace(CONFIG, steps=60, snapshots=3, save_every=5, optimizer="adam",
                                 disk_budget="900KB")  # fmt: skip

    def litter(model, step):
        if step == 40:
            (tmp_path / "run" / "samples.png").write_bytes(bytes(500_000))

    with pytest.raises(DiskFull, match="0.9 MB is used up.*the last good state.*is kept"):
        go(tmp_path / "run", config, big_model(), after_step=litter)
    assert list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB, where this process may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1000k", "none", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_keeps_the_last_good_state_and_says_so(small_disk):
    config = dataclasses.replace(CONFIG, steps=30, save_every=5, optimizer="adam")
    other = small_disk / "other"

    def fill(model, step):
        if step == 12:
            with pytest.raises(OSError), open(other, "wb") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()

    with pytest.raises(DiskFull, match="full at step 15 .*state-00000010.* is kept. Make room"):
        go(small_disk / "run", config, big_model(), after_step=fill)
    other.unlink()
    whole, _ = go(small_disk.parent / "whole", config, big_model())
    again, run = go(small_disk / "run", config, big_model())
    assert torch.equal(whole.model[0].weight, again.model[0].weight)
    assert [line["step"] for line in read_stats(run.folder)] == list(range(5, 31, 5))
    assert not list(run.checkpoints.glob(".*"))


def test_a_quota_is_a_full_disk_too(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr("messi_lib.training.checkpoints.save_file", refuse)
    with pytest.raises(DiskFull, match="full at step 5 .*no state was saved yet"):
        run_for(tmp_path, "a", 10)


def test_half_written_files_of_a_killed_process_are_taken_away(tmp_path):
    run_for(tmp_path, "a", 5)
    torn = tmp_path / "a" / "checkpoints" / ".state-00000010.safetensors.x.tmp"
    torn.write_bytes(b"half")
    with open(tmp_path / "a" / "stats.jsonl", "a") as file:
        file.write('{"step": 7, "lo')
    result, run = run_for(tmp_path, "a", 10)
    assert not torn.exists() and result.step == 10
    assert [line["step"] for line in read_stats(run.folder)] == [5, 10]
