"""A training that is killed again and again; started by `test_resume` in a process of its own.

Imports are paid once: every attempt is a fork of this process, killed after a random time, so also
while it writes a state. The last attempt is left alone.
"""

import dataclasses
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from messi_lib.consistency.train import train_consistency
from messi_lib.profiles import ConsistencyConfig, preset
from messi_lib.runs import Run
from messi_lib.segmentation.train import train_segmentation
from messi_lib.training import checkpoints
from tests.segmentation.toys import Squares, tiny_config

STEPS = 20
GENERATOR = preset(
    ConsistencyConfig, "smoke", image_size=8, batch=4, steps=STEPS, log_every=1, save_every=1,
    dropout=0.2, ect_dropout=0.2, augment=0.3, optimizer="adam", channels_last=True, snapshots=4,
)  # fmt: skip
SEGMENTER = tiny_config(batch=4, steps=STEPS, log_every=1, save_every=1, strong_augment=True)
GENERATOR_PHOTOS = np.random.default_rng(0).integers(0, 255, (16, 8, 8, 3), dtype=np.uint8)


def go(model: str, folder: Path, steps: int = STEPS) -> None:
    if model == "generator":
        config = dataclasses.replace(GENERATOR, steps=steps, horizon=STEPS)
        train_consistency(Run("g", config, folder=folder), config, GENERATOR_PHOTOS, quiet=True)
    else:
        config = dataclasses.replace(SEGMENTER, steps=steps, horizon=STEPS)
        train_segmentation(Run("s", config, folder=folder), config, Squares(), quiet=True)


def die_writing(tensors: dict, path: Path, metadata: dict) -> None:
    """In the place of `save_file`: half a file, and the end."""
    save_file(tensors, path, metadata)
    os.truncate(path, path.stat().st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)


def attempt(model: str, folder: Path, seconds: float, writing: bool = False) -> str:
    """What became of a training that was given so much time.

    Args:
        writing: it dies in the middle of the first file that it writes.
    """
    child = os.fork()
    if child == 0:
        try:
            if writing:
                checkpoints.save_file = die_writing
            go(model, folder)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done and os.WIFSIGNALED(status):
            return "torn"
        if done:
            return "finished" if status == 0 else "failed"
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "killed"


def main(model: str, kills: int, folder: Path) -> None:
    torch.set_num_threads(1)  # a fork has no copies of other threads
    go(model, folder / "ten", 10)
    chance = random.Random(len(model))
    began = time.monotonic()
    go(model, folder / "whole")
    whole = time.monotonic() - began
    run = folder / "killed"
    outcomes: list[str] = []
    for steps in (0, 7):  # the first state of a run, and one after others
        if steps:
            go(model, run, steps)
        outcomes.append(attempt(model, run, 120, writing=True))
        assert list(run.glob("*/.*.tmp")), "no file was left half written"
    while outcomes.count("killed") < kills:
        # Also much shorter than a step takes, and often enough in the middle of a write.
        outcomes.append(attempt(model, run, chance.uniform(0.02, 0.25) * whole))
        if outcomes[-1] == "failed":
            break
        if outcomes[-1] == "finished":
            os.rename(run, folder / f"killed-{len(outcomes)}")
    outcomes.append(attempt(model, run, 120))
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
