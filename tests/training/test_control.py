import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from messi_lib.runs import Run
from messi_lib.training.control import STOP, StopRequests, locked
from messi_lib.training.loop import train
from tests.training.test_loop import CONFIG, batch_at, loss_fn, make_model, run_for

ROOT = Path(__file__).resolve().parents[2]
LONG = dataclasses.replace(CONFIG, steps=20)


def stop_at(tmp_path, action, name="run"):
    """Train, and after the update of step 7 let something ask for an end."""
    run = Run(name, LONG, folder=tmp_path / name)
    after = lambda model, step: action(run) if step == 6 else None  # noqa: E731
    return train(run, make_model(), loss_fn, batch_at, LONG, after_step=after, quiet=True), run


def same_as_whole(tmp_path, run):
    whole, _ = run_for(tmp_path, "whole", 20)
    went_on = train(run, make_model(), loss_fn, batch_at, LONG, quiet=True)
    assert went_on.step == 20 and not went_on.stopped
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, went_on.model.state_dict()[name]), name


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_step_in_hand_and_saves(tmp_path, number):
    before = signal.getsignal(number)
    result, run = stop_at(tmp_path, lambda run: os.kill(os.getpid(), number))
    assert result.step == 8 and result.stopped == number.name
    assert (run.checkpoints / "state-00000008.safetensors").is_file()
    assert signal.getsignal(number) == before
    same_as_whole(tmp_path, run)


def test_the_file_does_the_same_and_does_not_stop_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr("messi_lib.training.control._POLL_SECONDS", 0)
    result, run = stop_at(tmp_path, lambda run: (run.folder / STOP).touch())
    assert result.step == 8 and result.stopped == "the file STOP"
    assert not (run.folder / STOP).exists()
    (run.folder / STOP).touch()  # left over from a job that was killed
    same_as_whole(tmp_path, run)


def test_ctrl_c_saves_before_it_interrupts(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        stop_at(tmp_path, lambda run: os.kill(os.getpid(), signal.SIGINT))
    run = Run("run", LONG, folder=tmp_path / "run")
    assert (run.checkpoints / "state-00000008.safetensors").is_file()
    same_as_whole(tmp_path, run)


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    with StopRequests(tmp_path) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert stop.poll() and stop.interrupted
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)


def test_a_request_in_the_last_step_changes_nothing(tmp_path):
    run = Run("last", LONG, folder=tmp_path / "last")
    ask = lambda model, step: os.kill(os.getpid(), signal.SIGTERM) if step == 18 else None  # noqa
    result = train(run, make_model(), loss_fn, batch_at, LONG, after_step=ask, quiet=True)
    assert result.step == 20 and not result.stopped


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from messi_lib.training.control import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"trained by process {holder.pid} on .*STOP"):
            with locked(tmp_path):
                pass
        with pytest.raises(ValueError, match=f"trained by process {holder.pid}"):
            train(Run("r", folder=tmp_path), make_model(), loss_fn, batch_at, CONFIG, quiet=True)
    finally:
        holder.kill()
        holder.wait()
    with locked(tmp_path):  # the system let go of it
        pass
