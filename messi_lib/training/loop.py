"""One training loop for every chapter: a chapter hands it a network, a loss and batches by
position.

The randomness of a step comes from `(seed, step)` alone and data by position, so the same command
run again goes on where the run stopped and gives the same weights as a run that never stopped.
Several processes share each batch (`distributed`), one computes it in parts (`parts`): the numbers
are the same.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..profiles import TrainConfig
from ..runs import Run
from .control import StopRequests, locked
from .distributed import Ranks, current
from .ema import PowerEMA
from .feed import BatchAt, batches
from .optimizer import autocast, learning_rate, make_optimizer, set_rate
from .parts import Part, parts, portion
from .store import Export, Store

LossFn = Callable[[nn.Module, Any, torch.Generator, int], tuple[Tensor, dict[str, float]]]


class NonFiniteLoss(ValueError):
    """Raised by a loss function that can say where it broke; the loop adds the step and saves."""


@dataclass
class TrainResult:
    """What a training leaves in memory; its files are in the run's folder."""

    model: nn.Module
    ema: dict[str, Tensor]  # averaged weights, a state dict of `model`
    step: int
    seconds: float
    stats: list[dict] = field(default_factory=list)
    stopped: str = ""  # who asked to stop before the last step
    split: dict[str, float] = field(default_factory=dict)  # seconds by what they were spent on


class _Loss(nn.Module):
    """The loss as a module, so that `DistributedDataParallel` can wrap it.

    What it wraps is this; a second forward pass inside the loss (a target, a partner without
    gradient) goes through the plain network.
    """

    def __init__(self, model: nn.Module, loss_fn: LossFn):
        super().__init__()
        self.model, self.loss_fn = model, loss_fn

    def forward(self, images: Any, generator: torch.Generator, step: int):
        return self.loss_fn(self.model, images, generator, step)


def train(
    run: Run,
    model: nn.Module,
    loss_fn: LossFn,
    batch_at: BatchAt,
    config: TrainConfig,
    *,
    on_log: Callable[[dict, nn.Module, PowerEMA], None] | None = None,
    lr_scales: Mapping[str, float] | None = None,
    after_step: Callable[[nn.Module, int], None] | None = None,
    slow: Mapping[str, nn.Module] | None = None,
    export: Export | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train until `config.steps`, from the run's newest state when it has one.

    Args:
        loss_fn: `(model, batch, generator, step) -> (scalar loss, statistics)`, the loss a mean
            over the images. All randomness must come from `generator` (or the global one, which is
            seeded alike), never from outside.
        batch_at: `step -> batch`, the same batch whenever it is asked. With several processes it is
            asked `(step, share)`, for the images of that slice only.
        on_log: called every `log_every` steps with the logged line, the model and its average; with
            several processes on the first one only.
        lr_scales: as in `make_optimizer`.
        after_step: called with the model and the step (from 0) after each update of the weights.
        slow: further networks whose weights belong to the run's state, by name: a target network.
        export: `(path, averaged weights)`, writes a snapshot; None: plain half-precision weights.

    Raises:
        ValueError: a non-finite loss (with the step; the state before it is saved), a bad
            configuration, a full disk, another process that trains this run, ranks that disagree.
        KeyboardInterrupt: Ctrl-C, after the step, its state saved.
    """
    ranks = current()
    ranks.agree("the configuration", json.dumps(asdict(config), default=str, sort_keys=True))
    with contextlib.ExitStack() as held:
        problem: ValueError | None = None
        if ranks.main:
            try:
                held.enter_context(locked(run.folder))
            except ValueError as error:
                problem = error
        if ranks.any(problem is not None)[0]:
            raise problem or ValueError(f"run {run.name!r} is in use: see rank 0")
        stop = held.enter_context(StopRequests(run.folder if ranks.main else None))
        loop = _Loop(run, model, loss_fn, config, ranks, lr_scales, after_step, slow, export)
        loop.quiet = quiet or not ranks.main
        loop.on_log = on_log
        return loop.go(batch_at, stop)


class _Loop:
    """The state of one call of `train`."""

    quiet = False
    on_log: Callable[[dict, nn.Module, PowerEMA], None] | None = None

    def __init__(
        self, run: Run, model: nn.Module, loss_fn: LossFn, config: TrainConfig, ranks: Ranks,
        lr_scales: Mapping[str, float] | None, after_step: Callable | None,
        slow: Mapping[str, nn.Module] | None, export: Export | None,
    ):  # fmt: skip
        self.run, self.model, self.config, self.ranks = run, model, config, ranks
        self.after_step = after_step
        slow = dict(slow or {})
        self.place = next(model.parameters()).device
        self.size = portion(config.batch, config.microbatch, ranks)
        if config.channels_last:
            for network in (model, *slow.values()):
                network.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(model, config, lr_scales)
        self.ema = PowerEMA(
            model, config.ema_std, device=config.ema_device or None, every=config.ema_every
        )
        self.store = Store(run, config, model, self.ema, self.optimizer, slow, export)
        self.start = self.ema.last = self.store.load()
        ranks.agree("the step of the newest state", self.start)
        ranks.send(model, *slow.values())  # equal already, unless a network was made unseeded
        if config.compile:  # in place: names stay; eager random numbers: dropout masks agree
            model.compile(options={"fallback_random": True})
        self.loss = ranks.wrap(_Loss(model, loss_fn))
        self.split: dict[str, float] = {}
        self.seen: dict[str, list[float]] = {}  # a stage may have its own statistics

    @contextlib.contextmanager
    def clock(self, what: str) -> Iterator[None]:
        """Add the time of the block to `split`; on a GPU that is the time to ask for the work."""
        began = time.perf_counter()
        yield
        self.split[what] = self.split.get(what, 0.0) + time.perf_counter() - began

    def go(self, batch_at: BatchAt, stop: StopRequests) -> TrainResult:
        config, ranks = self.config, self.ranks
        share = (ranks.share(config.batch),) if ranks.size > 1 else ()
        steps = range(self.start, config.steps)
        feed = batches(lambda step: batch_at(step, *share), steps, config.workers)
        result = TrainResult(self.model, self.ema.weights, self.start, 0.0, split=self.split)
        self.model.train()
        began = last = time.perf_counter()
        first = self.start
        for step in steps:
            with self.clock("data"):
                batch = next(feed)
            lr = learning_rate(config, step)
            set_rate(self.optimizer, lr)
            stopping = self.update(batch, step, stop)
            done = result.step = step + 1
            logging = done % config.log_every == 0 or done == config.steps or stopping
            saving = done % config.save_every == 0 or done == config.steps or stopping
            with self.clock("average"):
                ranks.average_buffers(self.model)
                self.ema.update(self.model, done, now=logging or saving)
            if logging:
                now = time.perf_counter()
                rate = (done - first) * config.batch / (now - last)
                line = self.log(done, lr, rate)
                result.stats.append(line)
                if not self.quiet:
                    left = (now - began) / (done - self.start) * (config.steps - done)
                    _report(line, config.steps, left)
                if self.on_log is not None and ranks.main:
                    self.on_log(line, self.model, self.ema)
                    self.model.train()
                last, first = time.perf_counter(), done
            if saving:
                ranks.check_same(self.model)
                self.store.save(done)
            self.store.snapshot(done)
            if stopping and done < config.steps:
                result.stopped = stop.asked or "another rank"
                stop.honoured()
                if stop.interrupted:
                    raise KeyboardInterrupt
                if not self.quiet:
                    print(f"{result.stopped}: stopped at step {done} of {config.steps}, the state "
                          "is saved; the same command goes on", flush=True)  # fmt: skip
                break
        result.seconds = time.perf_counter() - began
        return result

    def update(self, batch: Any, step: int, stop: StopRequests) -> bool:
        """One step of the optimiser; returns whether it is to be the last for now.

        When memory does not suffice, the step is done again with half as many images at a time.
        """
        config, several = self.config, self.ranks.size > 1
        # Ranks that compute together cannot start again one by one: they rehearse their first step.
        rehearsing = several and step == self.start and self.place.type == "cuda"
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            stats: dict[str, float] = {}
            try:
                if rehearsing:
                    self.rehearse(batch, step)
                    rehearsing = False
                    continue
                stopping = self.gradient(batch, step, stop, stats)
                break
            except torch.OutOfMemoryError as error:
                self.halve(error, possible=rehearsing or not several)
            except NonFiniteLoss as error:
                raise ValueError(
                    f"run {self.run.name!r}: {error} at step {step}; {self.store.keep(step)}. "
                    f"Start a new run with a lower lr than {config.lr:g}, or with clip=1"
                ) from error
        with self.clock("optimizer"):
            self.optimizer.step()
            if self.after_step is not None:
                self.after_step(self.model, step)
        for name, value in stats.items():
            self.seen.setdefault(name, []).append(value)
        return stopping

    def gradient(self, batch: Any, step: int, stop: StopRequests, stats: dict[str, float]) -> bool:
        """Leave the gradient of the whole batch in the weights; see `update` for the answer."""
        config, ranks = self.config, self.ranks
        stopping = False
        for part in parts(batch, self.size, ranks):
            problem: NonFiniteLoss | None = None
            # Gradients travel once a step, in the last backward pass.
            quiet = ranks.size > 1 and not part.last
            with self.loss.no_sync() if quiet else contextlib.nullcontext():
                with self.clock("forward"):
                    try:
                        loss, values = self.evaluate(part, step)
                    except NonFiniteLoss as error:
                        problem = error
                if problem is not None or part.last:  # a rank alone in a backward pass would wait
                    broken, stopping = ranks.any(problem is not None, stop.poll())
                    if broken:
                        raise problem or NonFiniteLoss("the loss on another rank is not finite")
                with self.clock("backward"):
                    (loss * part.share).backward()
            for name, value in {"loss": float(loss.detach()), **values}.items():
                stats[name] = stats.get(name, 0.0) + part.share * value
        if config.clip or (step + 1) % config.log_every == 0:
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip or float("inf"))
            stats["gradient_norm"] = float(norm)
            if not torch.isfinite(norm):
                raise NonFiniteLoss(f"the gradient's norm is {norm.item()}")
        return stopping

    def evaluate(self, part: Part, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss and statistics of a part."""
        generator = part.generator(self.config.seed, step)
        with autocast(self.config.precision, self.place):
            loss, values = self.loss(part.images, generator, step)
        if not torch.isfinite(loss):
            raise NonFiniteLoss(f"the loss is {loss.item()}")
        return loss, values

    def rehearse(self, batch: Any, step: int) -> None:
        """A step without an update, to see on all ranks together whether memory suffices."""
        problem: torch.OutOfMemoryError | None = None
        try:
            with self.loss.no_sync(), contextlib.suppress(NonFiniteLoss):
                for part in parts(batch, self.size, self.ranks):
                    self.evaluate(part, step)[0].backward()
        except torch.OutOfMemoryError as error:
            problem = error
        if self.ranks.any(problem is not None)[0]:
            raise problem or torch.OutOfMemoryError("out of memory on another rank")

    def halve(self, error: torch.OutOfMemoryError, possible: bool) -> None:
        """Compute half as many images at a time from now on; the batch stays as it is."""
        mine = self.config.batch // self.ranks.size
        sizes = [n for n in range(1, self.size // 2 + 1) if self.ranks.size == 1 or mine % n == 0]
        if not possible or not sizes:
            more = "a larger GPU, or checkpoint_rates, which recompute activations"
            fewer = f"microbatch={max(self.size // 2, 1)}, which gives the same batch in more parts"
            raise ValueError(
                f"run {self.run.name!r}: out of memory with {self.size} images of the batch at a "
                f"time: use {fewer if sizes else more}"
            ) from error
        print(
            f"out of memory with {self.size} images at a time: going on with {sizes[-1]}, batch "
            f"{self.config.batch} as before",
            flush=True,
        )
        self.size = sizes[-1]
        self.optimizer.zero_grad(set_to_none=True)
        if self.place.type == "cuda":
            torch.cuda.empty_cache()

    def log(self, done: int, lr: float, rate: float) -> dict:
        """Means since the last line, over all ranks; written by the first."""
        means = {name: sum(values) / len(values) for name, values in self.seen.items()}
        self.seen = {}
        means = self.ranks.mean(means)
        means |= {"lr": lr, "ema_beta": self.ema.decay(done), "memory_gb": _peak_memory(self.place)}
        return self.store.log(done, **means, images_per_second=rate)


def _peak_memory(place: torch.device) -> float:
    """Most memory so far, in GB: of the GPU, or of this process."""
    if place.type == "cuda":
        return torch.cuda.max_memory_allocated(place) / 1e9
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024) / 1e9


def _report(line: dict, steps: int, left: float) -> None:
    hidden = ("time", "images_per_second", "ema_beta")
    shown = "  ".join(
        f"{name} {value:.4g}"
        for name, value in line.items()
        if isinstance(value, float) and name not in hidden
    )
    print(
        f"step {line['step']}/{steps}  {shown}  {line['images_per_second']:.0f} images/s  "
        f"{left / 60:.1f} min left",
        file=sys.stdout,
        flush=True,
    )
