"""A run that was stopped, killed or given more steps is the run that never stopped."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from messi_lib.cli import main
from messi_lib.commands.models import planned
from messi_lib.profiles import ConsistencyConfig, preset
from messi_lib.runs import Run, read_stats
from messi_lib.training.checkpoints import load_weights, save_weights
from messi_lib.training.loop import train
from tests.training.test_loop import CONFIG, batch_at, loss_fn, make_model, run_for

ROOT = Path(__file__).resolve().parents[2]


def state(folder: Path, step: int = 20) -> dict[str, torch.Tensor]:
    return load_weights(folder / "checkpoints" / f"state-{step:08d}.safetensors")[0]


def assert_equal(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize(("model", "kills"), [("generator", 20), ("segmenter", 12)])
def test_killed_at_any_time_it_goes_on_bit_for_bit(tmp_path, model, kills):
    """Weights, average and moments after 20 steps, whatever `kill -9` interrupted."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MESSI_DEVICE": "cpu"}
    command = [sys.executable, "-m", "tests.training.killed", model, str(kills), str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told[:2] == ["torn", "torn"] and told[-1] == "finished", told
    assert told.count("killed") == kills, told
    whole = state(tmp_path / "whole")
    runs = [folder for folder in tmp_path.glob("killed*") if folder.is_dir()]
    assert runs
    for run in runs:
        assert_equal(state(run), whole)
        losses = [(line["step"], line["loss"]) for line in read_stats(run)]
        assert losses == [(line["step"], line["loss"]) for line in read_stats(tmp_path / "whole")]
        assert not list((run / "checkpoints").glob(".*"))
    # The half of a run is the beginning of the whole one.
    assert [line["loss"] for line in read_stats(tmp_path / "ten")] == [
        line["loss"] for line in read_stats(tmp_path / "whole")[:10]
    ]


@pytest.mark.parametrize("part", ["consistency", "segmentation"])
def test_six_steps_and_then_twelve_are_twelve(tmp_path, monkeypatch, capsys, part):
    """By the commands that users type; the schedules know the plan of the profile."""
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path))
    monkeypatch.setenv("MESSI_DEVICE", "cpu")
    more = ["--images", "32", "--lr-schedule", "cosine", "--log-every", "1", "--batch", "4"]
    command = ["train", part, "--profile", "smoke", *more]
    assert main([*command, "--run", "parts", "--steps", "6"]) == 0
    said = capsys.readouterr().out
    assert "step 6 of 12 planned; --steps 12 goes on" in said
    assert main([*command, "--run", "parts", "--steps", "12"]) == 0
    assert main([*command, "--run", "whole"]) == 0
    assert_equal(state(tmp_path / "parts", 12), state(tmp_path / "whole", 12))
    assert "so far" not in capsys.readouterr().out
    # A shorter plan is another run, and has to be asked for.
    assert main([*command, "--run", "short", "--steps", "6", "--horizon", "6"]) == 0
    assert "planned" not in capsys.readouterr().out
    first, last = read_stats(tmp_path / "short")[-1], read_stats(tmp_path / "parts")[5]
    assert first["lr"] < 0.5 * last["lr"]


def test_a_damaged_state_is_passed_over_and_said(tmp_path, capsys):
    """One bit of one weight, in a file that is complete otherwise."""
    run_for(tmp_path, "a", 10)
    newest = tmp_path / "a" / "checkpoints" / "state-00000010.safetensors"
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    result, _ = run_for(tmp_path, "a", 20)
    assert "state-00000010.safetensors was changed after it was written" in capsys.readouterr().out
    whole, _ = run_for(tmp_path, "whole", 20)
    assert result.step == 20
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, result.model.state_dict()[name])


def test_no_readable_state_is_not_a_beginning(tmp_path):
    run_for(tmp_path, "a", 10)
    states = sorted((tmp_path / "a" / "checkpoints").iterdir())
    for path in states:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="no state in .* can be read: move them away"):
        run_for(tmp_path, "a", 20)
    assert sorted((tmp_path / "a" / "checkpoints").iterdir()) == states


@pytest.mark.parametrize("budget", ["", "12KB"])
def test_a_damaged_state_takes_no_place_of_a_good_one(tmp_path, budget):
    """Going on from an older state must not delete what it writes for being the older one."""
    tight = {"save_every": 4, "disk_budget": budget, "optimizer": "adam"}
    run_for(tmp_path, "a", 12, **tight)
    folder = tmp_path / "a" / "checkpoints"
    names = [path.name for path in sorted(folder.iterdir())]
    assert len(names) == (1 if budget else 2)
    if budget:  # the only one is damaged: move it away, begin anew
        (folder / names[0]).rename(tmp_path / "moved")
        (tmp_path / "moved").rename(folder / "state-00000099.safetensors")
        (folder / "state-00000099.safetensors").write_bytes(b"nothing")
        with pytest.raises(ValueError, match="can be read"):
            run_for(tmp_path, "a", 12, **tight)
        (folder / "state-00000099.safetensors").unlink()
    else:
        newest = folder / names[-1]
        newest.write_bytes(newest.read_bytes()[:100])
    run_for(tmp_path, "a", 10, **tight)
    assert [path.name for path in sorted(folder.iterdir())][-1] == "state-00000010.safetensors"
    assert run_for(tmp_path, "a", 12, **tight)[0].step == 12


def test_what_is_no_state_is_said(tmp_path):
    run_for(tmp_path, "a", 5)
    other = tmp_path / "a" / "checkpoints" / "state-00000009.safetensors"
    save_weights(other, {"weight": torch.ones(2)}, {"kind": "generator"})
    with pytest.raises(ValueError, match="state-00000009.safetensors is no state of a training"):
        run_for(tmp_path, "a", 10)


def test_a_start_that_failed_does_not_take_the_name(tmp_path):
    with pytest.raises(ValueError, match="lr_schedule"):
        run_for(tmp_path, "a", 10, lr_schedule="cosin")
    run_for(tmp_path, "a", 5, lr_schedule="cosine", horizon=10)
    assert json.loads((tmp_path / "a" / "config.json").read_text())["lr_schedule"] == "cosine"
    with pytest.raises(ValueError, match="lr_schedule: cosine -> constant"):
        run_for(tmp_path, "a", 10, lr_schedule="constant", horizon=10)


@pytest.mark.parametrize("stop", [6, 7])
def test_a_rare_average_is_the_same_wherever_the_run_was_stopped(tmp_path, stop):
    rare = {"ema_every": 4, "log_every": 3, "save_every": 3, "horizon": 12}
    whole, _ = run_for(tmp_path, "whole", 12, **rare)
    run_for(tmp_path, "parts", stop, **rare)
    parts, _ = run_for(tmp_path, "parts", 12, **rare)
    for name, value in whole.ema.items():
        assert torch.equal(value, parts.ema[name]), name


def test_measuring_comes_after_saving(tmp_path):
    """What may fail or take long must not cost the state that was due."""

    def fails(line, model, ema):
        raise ValueError("no room for the picture")

    run = Run("a", folder=tmp_path / "a")
    with pytest.raises(ValueError, match="no room"):
        train(run, make_model(), loss_fn, batch_at, CONFIG, on_log=fails, quiet=True)
    assert (run.checkpoints / "state-00000005.safetensors").is_file()


def test_a_gradient_that_is_no_number_changes_no_weight(tmp_path):
    def bad(model, batch, generator, step):
        loss, stats = loss_fn(model, batch, generator, step)
        if step == 7:  # finite itself; its derivative is not
            loss = loss + 0 * torch.sqrt((model[0].weight * 0).sum())
        return loss, stats

    rare = dataclasses.replace(CONFIG, log_every=100, save_every=100)
    run = Run("bad", rare, folder=tmp_path / "bad")
    with pytest.raises(ValueError, match="gradient's norm is nan at step 7.*state-00000007"):
        train(run, make_model(), bad, batch_at, rare, quiet=True)
    with pytest.raises(ValueError, match="at step 7"):
        train(run, make_model(), bad, batch_at, rare, quiet=True)


def test_running_statistics_of_a_step_that_is_done_again_count_once(tmp_path):
    def make():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4))

    def loss_of(model, batch, generator, step):
        out = model(batch).square().sum(1)
        if len(batch) > 2 and hungry:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (out - 1).square().mean(), {}

    counts = []
    for hungry in (True, False):
        config = dataclasses.replace(CONFIG, steps=5, microbatch=0 if hungry else 2)
        run = Run("bn", config, folder=tmp_path / str(hungry))
        model = train(run, make(), loss_of, batch_at, config, quiet=True).model
        counts.append((int(model[1].num_batches_tracked), model[1].running_mean))
    assert counts[0][0] == counts[1][0] == 10
    assert torch.equal(counts[0][1], counts[1][1])


def test_a_run_of_a_notebook_goes_on_by_command(tmp_path, monkeypatch):
    """A run without a plan of its own has its steps for one; beyond a cosine nothing is left."""
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path))
    config = preset(ConsistencyConfig, "smoke", steps=12, lr_schedule="cosine")
    assert planned(dataclasses.replace(config, steps=8), "smoke", "none").horizon == 12
    run = Run("made", config)
    run.checkpoints.mkdir()
    (run.checkpoints / "state-00000012.safetensors").touch()
    again = planned(config, "smoke", "made")
    assert again.horizon == 12
    Run("made", again)
    with pytest.raises(ValueError, match="--steps 20 is beyond the 12 that run 'made'"):
        planned(dataclasses.replace(config, steps=20), "smoke", "made")


def test_too_little_memory_halves_what_is_computed_at_a_time(tmp_path, capsys):
    """The batch, and with it the gradient, stay; the step is done again, nothing is lost."""
    sizes = []

    def hungry(model, batch, generator, step):
        sizes.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (model[0](batch).sum(1) - 1).square().mean(), {}

    def modest(model, batch, generator, step):
        return (model[0](batch).sum(1) - 1).square().mean(), {}

    run = Run("hungry", folder=tmp_path / "hungry")
    result = train(run, make_model(), hungry, batch_at, CONFIG, quiet=True)
    assert sizes[:2] == [4, 2] and set(sizes[2:]) == {1} and len(sizes) == 2 + 4 * 20
    said = capsys.readouterr().out
    assert "out of memory with 4 images at a time: going on with 2, batch 4 as before" in said
    one = dataclasses.replace(CONFIG, microbatch=1)
    run = Run("modest", folder=tmp_path / "modest")
    small = train(run, make_model(), modest, batch_at, one, quiet=True)
    assert torch.equal(result.model[0].weight, small.model[0].weight)


def test_one_image_too_many_is_said(tmp_path):
    def starving(model, batch, generator, step):
        raise torch.OutOfMemoryError("CUDA out of memory")

    run = Run("starving", folder=tmp_path / "starving")
    with pytest.raises(ValueError, match="out of memory with 1 images.*checkpoint_rates"):
        train(run, make_model(), starving, batch_at, CONFIG, quiet=True)
    with pytest.raises(ValueError, match="microbatch=-3"):
        train(run, make_model(), loss_fn, batch_at, dataclasses.replace(CONFIG, microbatch=-3))
