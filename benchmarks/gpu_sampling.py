"""How many images a second the 256 px generators draw, in 1, 2 and 40 steps.

Networks with random weights: time does not depend on them. `fp32` is float32 without TF32. `bf16`
is what `messi sample` does on a GPU, autocast and TF32, with channels-last weights besides.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import time

import torch
from gpu_basics import tf32, timed
from gpu_training import NO_TIME, Say, config_of
from record import reason

from messi_lib.consistency.denoiser import Denoiser, build_denoiser
from messi_lib.consistency.sampling import sample_multistep, step_sigmas
from messi_lib.training.optimizer import autocast

GOAL = 50.0  # images a second, in 2 steps at 256 px on an H200
HISTORY = {"images_per_second": 1.0, "steps": 40, "device": "H100"}  # the predecessor, image_a
# Preset, images at a time, whether under autocast, steps: what matters most comes first.
RUNS = [
    ("gpu", 32, True, 2),
    ("image_a", 16, True, 2),
    ("gpu", 32, True, 1),
    ("gpu", 32, True, 40),
    ("image_a", 16, True, 40),
    ("image_a", 16, True, 1),
    ("gpu", 32, False, 2),
    ("image_a", 16, False, 2),
]


def generator_of(name: str, half: bool, place: torch.device, quick: bool) -> Denoiser:
    """A preset's denoiser as it is loaded for sampling."""
    torch.manual_seed(0)
    with torch.device(place):
        denoiser = build_denoiser(config_of(name, quick)).eval().requires_grad_(False)
    return denoiser.to(memory_format=torch.channels_last) if half else denoiser


def draw(denoiser: Denoiser, n: int, steps: int, half: bool, place: torch.device) -> torch.Tensor:
    """n images, (n, 3, S, S)."""
    noise = torch.Generator().manual_seed(0)
    half_precision = autocast("bf16", place) if half else contextlib.nullcontext()
    with half_precision:
        return sample_multistep(denoiser, n, step_sigmas(steps, denoiser), noise)


def measure(
    denoiser: Denoiser, n: int, steps: int, half: bool, place: torch.device, quick: bool
) -> dict[str, object]:
    """Images a second: the median of up to five times, after one to warm up.

    Raises:
        ArithmeticError: values that are no numbers.
    """
    with tf32(half):
        images = draw(denoiser, n, 1, half, place)
        if not torch.isfinite(images).all():
            raise ArithmeticError("the samples hold values that are no numbers")
        seconds: list[float] = []
        while not seconds or (len(seconds) < 5 and sum(seconds) < 3 and not quick):
            seconds.append(timed(lambda: draw(denoiser, n, steps, half, place), place))
    return {
        "images_per_second": round(n / statistics.median(seconds), 2),
        "seconds": round(statistics.median(seconds), 4),
        "times": len(seconds),
    }


def run(say: Say, place: torch.device, deadline: float, quick: bool) -> None:
    """All rows for which there is time."""
    kept: tuple[str, bool] | None = None
    for name, n, half, steps in RUNS:
        n = 2 if quick else n
        line = {"part": "sampling", "preset": name, "row": "bf16" if half else "fp32",
                "steps": steps, "batch": n}  # fmt: skip
        if time.time() > deadline:
            say(line | {"result": NO_TIME})
            continue
        try:
            if kept != (name, half):
                denoiser = None
                gc.collect()
                denoiser, kept = generator_of(name, half, place, quick), (name, half)
            line |= {"image_size": denoiser.image_size}
            line |= measure(denoiser, n, steps, half, place, quick)
        except Exception as error:  # the others are worth measuring
            say(line | {"failed": reason(error)})
            continue
        if name == "image_a":
            line["history"] = HISTORY
        if place.type == "cuda" and not quick and steps == 2:
            line["goal"] = {"images_per_second": GOAL}
            line["reached"] = {"images_per_second": line["images_per_second"] >= GOAL}
        say(line)
