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
from messi_lib.runs import Run, read_stats
from messi_lib.training.checkpoints import load_weights
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
    assert told["outcomes"].count("killed") == kills and told["outcomes"][-1] == "finished", told
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
