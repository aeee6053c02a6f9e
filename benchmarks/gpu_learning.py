"""Does training work on a GPU? A short one that is judged as it goes, and two checks.

- `learning`: a generator of 64 px learns drawn photos of the number 10; FID and KID to photos that
  it never saw, over time. Where the Inception weights are missing a network with random weights
  judges: its name stands in the line, and its numbers are no FID.
- `resume`: a run that was stopped half-way and went on, against one that was not, and against the
  same one again, with PyTorch's deterministic kernels where it has them.
- `precision`: the losses of one run in bf16 and in fp32, same seed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from gpu_basics import tf32
from gpu_training import Say

from messi_lib.consistency.denoiser import Denoiser
from messi_lib.consistency.noise import karras_sigmas
from messi_lib.consistency.ode import sample_ode
from messi_lib.consistency.recipes import stage_of
from messi_lib.consistency.sampling import sample_multistep
from messi_lib.consistency.train import averaged, train_consistency
from messi_lib.consistency.watch import EDM_STEPS, MIDDLE
from messi_lib.data.pitch import subject_scene
from messi_lib.evaluation import features
from messi_lib.evaluation.frechet import frechet_distance
from messi_lib.evaluation.kernel import kid
from messi_lib.images import grid, to_uint8, write_png
from messi_lib.profiles import ConsistencyConfig, preset
from messi_lib.runs import Run, seed_generator
from messi_lib.training.loop import TrainResult

HELD_OUT = 900_000  # seeds from here on are seen by no training
# 1,024 positions, 25M parameters, 8.5 GFLOP a pass: a player should show within a minute.
LEARNER = {"image_size": 64, "model_channels": 96, "num_res_blocks": 2, "batch": 64,
           "lr": 5e-4, "clip": 1.0}  # fmt: skip
# bf16 has 8 bits, so each product is off by up to 0.4 %; most of that averages out: on a CPU the
# losses of 60 steps were off by 0.02 % on average, those of the last quarter by 0.04 %.
TOLERANCE = 0.01


# --- learning -----------------------------------------------------------------------------------


def _scene(task: tuple[int, int, int]) -> np.ndarray:
    seed, index, size = task
    return subject_scene(seed, index, size).image


def photos(n: int, size: int, seed: int) -> np.ndarray:
    """Drawn photos of the number 10, uint8 (n, size, size, 3), by all cores.

    Call it before anything runs on the GPU: a process that uses one must not be forked.
    """
    tasks = [(seed, index, size) for index in range(n)]
    with multiprocessing.get_context("fork").Pool(min(os.cpu_count() or 1, 16)) as pool:
        return np.stack(pool.map(_scene, tasks, chunksize=16))


def extractor() -> features.Extractor:
    """Inception where its weights are on this machine, else one with random weights: no download.

    The latter needs pytorch-fid for Inception's layers; without it four random layers judge.
    """
    cached = any((features.hub_folder() / name).is_file() for name in features.CACHED_NAMES)
    layers = importlib.util.find_spec("pytorch_fid") is not None
    if layers and (cached or importlib.util.find_spec(features.PACKAGE) is not None):
        return features.load_extractor("inception")
    return features.load_extractor("random-inception" if layers else "random-conv")


def draw(denoiser: Denoiser, config: ConsistencyConfig, n: int, step: int) -> torch.Tensor:
    """Samples as the network makes them best at this stage, (n, 3, S, S) in [-1, 1]."""
    noise = seed_generator(0, "gpu")
    if stage_of(config, step - 1) < 0:
        return sample_ode(denoiser, n, karras_sigmas(EDM_STEPS), noise)
    return sample_multistep(denoiser, n, [config.sigma_max, MIDDLE], noise)


def learning(say: Say, out: Path, deadline: float, quick: bool) -> None:
    """Train until shortly before the deadline, and judge five times on the way."""
    size, n = (16, 16) if quick else (64, 256)
    if quick:
        config = preset(ConsistencyConfig, "smoke", steps=10, fid_every=0, save_every=1000)
    else:
        config = preset(ConsistencyConfig, "overnight", **LEARNER, warmup=100, sample_every=0)
    images, held_out = photos((2 if quick else 8) * n, size, 0), photos(n, size, HELD_OUT)
    judge = features.load_extractor("random-conv") if quick else extractor()
    real = judge(held_out, batch=64)
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        if not quick:  # how far does one come in this time? Tuning costs a third more than EDM
            trial = dataclasses.replace(config, steps=40, log_every=20, save_every=1000)
            done = train_consistency(Run("trial", folder=f"{folder}/a"), trial, images, quiet=True)
            rate = done.stats[-1]["images_per_second"]
            steps = int(0.6 * (deadline - time.time()) * rate / config.batch)
            config = dataclasses.replace(config, steps=max(100, steps // 5 * 5), save_every=10**9)
        config = dataclasses.replace(config, log_every=config.steps // 5)

        def look(line: dict, denoiser: Denoiser, ema: object) -> None:
            drawn = draw(averaged(denoiser, ema.weights), config, n, line["step"])
            seen = judge(to_uint8(drawn), batch=64)
            value, error = kid(seen, real)
            write_png(grid(drawn[:32], columns=8), out / f"learning-{line['step']:06d}.png")
            say({
                "part": "learning", "step": line["step"], "steps": config.steps, "size": size,
                "batch": config.batch, "seconds": round(time.time() - began, 1),
                "stage": "edm" if stage_of(config, line["step"] - 1) < 0 else "ect",
                "images_per_second": round(line["images_per_second"], 1),
                "extractor": judge.name, "n": n, "kid": round(value, 4),
                "kid_error": round(error, 4), "fid": round(float(frechet_distance(seen, real)), 2),
            })  # fmt: skip

        run = Run("learning", folder=f"{folder}/b")
        train_consistency(run, config, images, on_log=look, quiet=True)


# --- checks -------------------------------------------------------------------------------------


def small(quick: bool, steps: int) -> tuple[ConsistencyConfig, np.ndarray]:
    """A small generator through both stages, and photos for it."""
    name = "smoke" if quick else "laptop"
    config = preset(ConsistencyConfig, name, steps=steps, horizon=steps, log_every=1,
                    save_every=1000)  # fmt: skip
    size = config.image_size
    rng = np.random.default_rng(0)
    return config, rng.integers(0, 256, (2 * config.batch, size, size, 3), dtype=np.uint8)


def difference(one: TrainResult, other: TrainResult) -> float:
    """The largest difference of a weight or of an averaged weight."""
    pairs = [(one.model.state_dict(), other.model.state_dict()), (one.ema, other.ema)]
    return max(
        float((a[name].double() - b[name].double()).abs().max()) for a, b in pairs for name in a
    )


def resume(quick: bool) -> dict[str, object]:
    """A run that was stopped and went on, and whether it differs from one that was not by no more
    than that one from itself."""
    steps = 4 if quick else 20
    config, images = small(quick, steps)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with tempfile.TemporaryDirectory() as folder:

            def go(name: str, until: int) -> TrainResult:
                part = dataclasses.replace(config, steps=until)
                return train_consistency(
                    Run(name, part, folder=f"{folder}/{name}"), part, images, quiet=True
                )

            straight, again = go("straight", steps), go("again", steps)
            go("resumed", steps // 2)
            resumed = go("resumed", steps)
    finally:
        torch.use_deterministic_algorithms(False)
    off, itself = difference(resumed, straight), difference(again, straight)
    return {
        "steps": steps,
        "stopped_at": steps // 2,
        "largest_difference": off,
        "from_run_to_run": itself,
        "bit_for_bit": off == 0,
        "passed": off <= 2 * itself,  # twice: two runs that are not exact drift apart at random
    }


def precision(quick: bool) -> dict[str, object]:
    """Losses in bf16 (autocast) against fp32 (no TF32), step by step: relative differences, their
    mean and that of the last quarter, of which both must stay below the tolerance."""
    steps = 6 if quick else 60
    config, images = small(quick, steps)
    losses: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("fp32", "bf16"):
            part = dataclasses.replace(config, precision=kind)
            with tf32(False):
                run = Run(kind, part, folder=f"{folder}/{kind}")
                done = train_consistency(run, part, images, quiet=True)
            losses[kind] = np.array([line["loss"] for line in done.stats])
    apart = np.abs(losses["bf16"] / losses["fp32"] - 1)
    last = float(apart[-(steps // 4) :].mean())
    return {
        "steps": steps,
        "mean_difference": float(apart.mean()),
        "last_quarter_difference": last,
        "tolerance": TOLERANCE,
        # Equal losses would mean that bf16 was never switched on.
        "passed": bool(apart.max() > 0 and apart.mean() < TOLERANCE and last < TOLERANCE),
        "losses": {kind: [round(float(v), 5) for v in values] for kind, values in losses.items()},
    }
