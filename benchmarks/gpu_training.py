"""How fast the three large generators train on a GPU, each optimisation switched on in turn.

A step is what the training loop does (`training.loop`): batch, easy consistency tuning's loss with
two forward passes and one backward, optimiser; the average of the weights is timed by itself and
counted once in `ema_every` steps. Its parts are the library's own, only checkpoints and logs are
left out. Photos are random numbers: time does not depend on them.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from gpu_basics import TERA, forward_flops, synchronise, tf32, timed, utilisation
from record import reason

from messi_lib.consistency.denoiser import build_denoiser
from messi_lib.consistency.recipes import COST, Recipe
from messi_lib.consistency.train import make_batches, make_loss
from messi_lib.profiles import ConsistencyConfig, preset
from messi_lib.training.control import StopRequests
from messi_lib.training.distributed import current
from messi_lib.training.ema import PowerEMA
from messi_lib.training.gradients import Gradients
from messi_lib.training.optimizer import learning_rate, make_optimizer, set_rate

Say = Callable[[dict], object]
# Each row adds to the one before; the last two save memory, each by itself: half of the batch at a
# time, or all activations computed twice.
ROWS: dict[str, dict] = {
    "fp32": {"precision": "fp32"},
    "tf32": {"precision": "fp32", "tf32": True},
    "bf16": {"precision": "bf16", "tf32": True},
    "channels_last": {"precision": "bf16", "tf32": True, "channels_last": True},
    "two parts": {"precision": "bf16", "tf32": True, "channels_last": True, "parts": 2},
    "recomputation": {"precision": "bf16", "tf32": True, "channels_last": True, "recompute": True},
}
COMPILED = {"precision": "bf16", "tf32": True, "channels_last": True, "compile": True}
# What the predecessor measured on an H100.
HISTORY = {
    "image_a": {"images_per_second": 27.8, "peak_gb": 80, "device": "H100"},
    "image_b": {"images_per_second": 10.4, "device": "H100"},
}
SHARE, ROOM = 0.40, 40.0  # goals: of the measured bf16 peak; GB, for image_a
SECONDS, STEPS = 4.0, 12  # of a row, at most, after its warm-up
TINY = {"image_size": 8, "model_channels": 64, "num_res_blocks": 1, "attention_resolutions": (1,),
        "num_head_channels": 32, "batch": 2}  # fmt: skip
NO_TIME = "not measured: no time"


def config_of(name: str, quick: bool) -> ConsistencyConfig:
    """The preset, in its last stage of consistency tuning; `quick`: a tiny relative of it."""
    config = preset(ConsistencyConfig, name, edm_fraction=0.0, compile=False, channels_last=False)
    if not quick:
        return config
    return dataclasses.replace(config, channel_mult=config.channel_mult[:1], **TINY)


def with_settings(config: ConsistencyConfig, settings: dict) -> ConsistencyConfig:
    """The configuration of a row."""
    rates = tuple(2**level for level in range(len(config.channel_mult)))
    return dataclasses.replace(
        config,
        precision=settings["precision"],
        channels_last=settings.get("channels_last", False),
        compile=settings.get("compile", False),
        microbatch=config.batch // settings["parts"] if "parts" in settings else 0,
        checkpoint_rates=rates if settings.get("recompute") else (),
    )


class Training:
    """A preset's network and all that its training keeps, moved by hand: `training()` is a step.

    Args:
        quick: compile with the backend that only traces: no compiler is needed.
    """

    def __init__(self, config: ConsistencyConfig, place: torch.device, quick: bool = False):
        self.config, self.at = config, config.span - 1
        torch.manual_seed(config.seed)
        with torch.device(place):  # drawn there: half a billion numbers take a CPU long
            self.denoiser = build_denoiser(config).train()
        if config.channels_last:
            self.denoiser.to(memory_format=torch.channels_last)
        recipe = Recipe(config, self.denoiser)
        self.optimizer = make_optimizer(self.denoiser, config)
        self.ema = PowerEMA(
            self.denoiser, config.ema_std, device=config.ema_device or None, every=config.ema_every
        )
        if config.compile:
            how = {"backend": "eager"} if quick else {"options": {"fallback_random": True}}
            self.denoiser.compile(**how)
        loss = make_loss(config, recipe)
        self.gradients = Gradients("benchmark", self.denoiser, loss, config, current(), {})
        rng = np.random.default_rng(0)
        size = config.image_size
        photos = rng.integers(0, 256, (2 * config.batch, size, size, 3), dtype=np.uint8)
        self.batch_at = make_batches(config, photos)
        self.stop = StopRequests(None)

    def __call__(self) -> float:
        """A step of the optimiser, without the average; returns the loss."""
        set_rate(self.optimizer, learning_rate(self.config, self.at))
        stats, _ = self.gradients(self.batch_at(self.at), self.at, self.stop)
        self.optimizer.step()
        return stats["loss"]

    def average(self) -> None:
        """What the loop does every `ema_every` steps."""
        self.ema.update(self.denoiser, self.config.ema_every)


def pace(config: ConsistencyConfig, place: torch.device, quick: bool) -> dict[str, object]:
    """Seconds and memory of a step, by the settings of a configuration.

    Raises:
        torch.OutOfMemoryError, ValueError: it does not fit, not even one image at a time.
    """
    began = time.perf_counter()
    training = Training(config, place, quick)
    for _ in range(3 if config.compile else 2):  # a second, since moments appear in the first
        training()
    training.average()
    synchronise(place)
    warm = time.perf_counter() - began
    cuda = place.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(place)
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < STEPS and sum(seconds) < SECONDS and not quick):
        seconds.append(timed(training, place))
    average = timed(training.average, place)
    step = statistics.median(seconds)
    return {
        "images_per_second": config.batch / (step + average / config.ema_every),
        "step_seconds": round(step, 4),
        "average_seconds": round(average, 4),
        "warm_up_seconds": round(warm, 1),
        "steps": len(seconds),
        "images_at_a_time": training.gradients.size,
        "peak_gb": round(torch.cuda.max_memory_allocated(place) / 1e9, 2) if cuda else None,
        "reserved_gb": round(torch.cuda.max_memory_reserved(place) / 1e9, 2) if cuda else None,
    }


def judged(name: str, line: dict) -> dict[str, dict]:
    """Goals and whether a row of a GPU reaches them."""
    goal: dict[str, float] = {}
    reached: dict[str, bool] = {}
    if line["utilisation"] is not None:
        goal["utilisation"], reached["utilisation"] = SHARE, line["utilisation"] >= SHARE
    if name == "image_a":
        goal["reserved_gb"], reached["reserved_gb"] = ROOM, line["reserved_gb"] < ROOM
    return {"goal": goal, "reached": reached}


def measure_row(
    name: str, row: str, settings: dict, place: torch.device, flops: int, peak: float | None,
    quick: bool,
) -> dict[str, object]:  # fmt: skip
    """One line: a preset with one set of settings.

    Args:
        flops: of a forward pass for one image.
        peak: operations per second, or None.
    """
    config = with_settings(config_of(name, quick), settings)
    line: dict = {"part": "training", "preset": name, "row": row, "batch": config.batch,
                  "image_size": config.image_size, "settings": settings}  # fmt: skip
    try:
        with tf32(settings.get("tf32", False)):
            line |= pace(config, place, quick)
    except (torch.OutOfMemoryError, ValueError) as error:
        line["result"] = f"does not fit: {reason(error)}"
    gc.collect()  # outside the except: its frames would keep the activations
    if place.type == "cuda":
        torch.cuda.empty_cache()
    if "result" in line:
        return line
    rate = line["images_per_second"]
    cost = COST[config.objective]
    line["images_per_second"] = round(rate, 2)
    line["forward_gflop"] = round(flops / 1e9, 3)
    line["teraflops"] = round(rate * flops * cost / TERA, 4)
    line["utilisation"] = round(utilisation(rate, flops, cost, peak), 4) if peak else None
    line["history"] = HISTORY.get(name)
    if place.type == "cuda" and not quick:
        line |= judged(name, line)
    return line


def run(
    name: str, rows: dict[str, dict], say: Say, place: torch.device, peak: float | None,
    deadline: float, quick: bool,
) -> None:  # fmt: skip
    """All rows of a preset for which there is time; each is said as soon as it is known.

    Args:
        peak: bf16 operations per second of this GPU; None: unknown, so no share is computed.
        deadline: of `time.time()`.
    """
    longest, flops = 0.0, forward_flops(config_of(name, quick))
    for row, settings in rows.items():
        began = time.time()
        if began + longest > deadline:
            say({"part": "training", "preset": name, "row": row, "result": NO_TIME})
            continue
        try:
            say(measure_row(name, row, settings, place, flops, peak, quick))
        except Exception as error:  # the other rows are worth measuring
            say({"part": "training", "preset": name, "row": row, "failed": reason(error)})
        longest = max(longest, time.time() - began)
