"""The gradient of a whole batch: part by part, on all processes, whatever memory allows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..profiles import TrainConfig
from .control import StopRequests
from .distributed import Ranks
from .optimizer import autocast
from .parts import Part, parts, portion

LossFn = Callable[[nn.Module, Any, torch.Generator, int], tuple[Tensor, dict[str, float]]]


class NonFiniteLoss(ValueError):
    """Raised by a loss function that can say where it broke; the loop adds the step and saves."""


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


@contextlib.contextmanager
def clock(split: dict[str, float], what: str) -> Iterator[None]:
    """Add the time of the block to `split`; on a GPU that is the time to ask for the work."""
    began = time.perf_counter()
    yield
    split[what] = split.get(what, 0.0) + time.perf_counter() - began


class Gradients:
    """Called with a batch, it leaves the gradient of its mean loss in the weights.

    Args:
        name: of the run, for messages.
        split: takes the seconds of forward and backward passes.

    Attributes:
        size: images that are computed at a time.

    Raises:
        ValueError: a batch that cannot be divided as wished.
    """

    def __init__(
        self, name: str, model: nn.Module, loss_fn: LossFn, config: TrainConfig, ranks: Ranks,
        split: dict[str, float],
    ):  # fmt: skip
        self.name, self.model, self.config, self.ranks, self.split = (
            name, model, config, ranks, split,
        )  # fmt: skip
        self.place = next(model.parameters()).device
        self.size = portion(config.batch, config.microbatch, ranks)
        self.loss = ranks.wrap(_Loss(model, loss_fn))
        # Ranks that compute together cannot start again one by one: they rehearse their first step.
        self._rehearsing = ranks.size > 1

    def __call__(
        self, batch: Any, step: int, stop: StopRequests
    ) -> tuple[dict[str, float], bool]:
        """Statistics of the step, and whether some rank has been asked to stop after it.

        When memory does not suffice, the step is done again with half as many images at a time.

        Raises:
            NonFiniteLoss: on all ranks. ValueError: not even one image fits.
        """
        statistics = _running_statistics(self.model)
        while True:
            self.model.zero_grad(set_to_none=True)
            short: torch.OutOfMemoryError | None = None
            try:
                if not self._rehearsing:
                    return self.compute(batch, step, stop)
                self.rehearse(batch, step)
            except torch.OutOfMemoryError as error:
                short = error.with_traceback(None)  # or its frames would keep the activations
            except NonFiniteLoss:
                _restore(statistics)
                raise
            _restore(statistics)
            if short is None:
                self._rehearsing = False
            else:
                self.halve(short, possible=self._rehearsing or self.ranks.size == 1)

    def compute(
        self, batch: Any, step: int, stop: StopRequests
    ) -> tuple[dict[str, float], bool]:
        """The parts one after the other; gradients travel in the last backward pass."""
        config, ranks = self.config, self.ranks
        stats: dict[str, float] = {}
        stopping = False
        for part in parts(batch, self.size, ranks):
            problem: NonFiniteLoss | None = None
            quiet = ranks.size > 1 and not part.last
            with self.loss.no_sync() if quiet else contextlib.nullcontext():
                with clock(self.split, "forward"):
                    try:
                        loss, values = self.evaluate(part, step)
                    except NonFiniteLoss as error:
                        problem = error
                if problem is not None or part.last:  # a rank alone in a backward pass would wait
                    broken, stopping = ranks.any(problem is not None, stop.poll())
                    if broken:
                        raise problem or NonFiniteLoss("the loss on another rank is not finite")
                with clock(self.split, "backward"):
                    (loss * part.share).backward()
            for name, value in {"loss": float(loss.detach()), **values}.items():
                stats[name] = stats.get(name, 0.0) + part.share * value
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip or float("inf"))
        stats["gradient_norm"] = float(norm)
        if not torch.isfinite(norm):
            raise NonFiniteLoss(f"the gradient's norm is {norm.item()}")
        return stats, stopping

    def evaluate(self, part: Part, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss and statistics of a part."""
        generator = part.generator(self.config.seed, step)
        with autocast(self.config.precision, self.place):
            loss, values = self.loss(part.images, generator, step)
        if not torch.isfinite(loss):
            raise NonFiniteLoss(f"the loss is {loss.item()}")
        return loss, values

    def rehearse(self, batch: Any, step: int) -> None:
        """A step without an update: does memory suffice on all ranks, do all parameters take part?

        Raises:
            torch.OutOfMemoryError: on all ranks. ValueError: parameters without a gradient, for
                which the ranks would wait.
        """
        problem: torch.OutOfMemoryError | None = None
        try:
            with self.loss.no_sync(), contextlib.suppress(NonFiniteLoss):
                for part in parts(batch, self.size, self.ranks):
                    self.evaluate(part, step)[0].backward()
        except torch.OutOfMemoryError as error:
            problem = error
        if self.ranks.any(problem is not None)[0]:
            raise problem or torch.OutOfMemoryError("out of memory on another rank")
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        idle = [name for name, parameter in trained if parameter.grad is None]
        if idle:
            raise ValueError(
                f"{idle[0]} and {len(idle) - 1} more parameters take no part in the loss: freeze "
                "them (requires_grad=False) to train on several processes"
            )

    def halve(self, error: torch.OutOfMemoryError, possible: bool) -> None:
        """Compute half as many images at a time from now on; the batch stays as it is."""
        mine = self.config.batch // self.ranks.size
        sizes = [n for n in range(1, self.size // 2 + 1) if self.ranks.size == 1 or mine % n == 0]
        if not possible or not sizes:
            more = "a larger GPU, or checkpoint_rates, which recompute activations"
            fewer = f"microbatch={max(self.size // 2, 1)}, which gives the same batch in more parts"
            raise ValueError(
                f"run {self.name!r}: out of memory with {self.size} images of the batch at a "
                f"time: use {fewer if sizes else more}"
            ) from error
        print(
            f"out of memory with {self.size} images at a time: going on with {sizes[-1]}, batch "
            f"{self.config.batch} as before",
            flush=True,
        )
        self.size = sizes[-1]
        self.model.zero_grad(set_to_none=True)
        if self.place.type == "cuda":
            torch.cuda.empty_cache()

def _running_statistics(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """What a forward pass changes: buffers of batch normalisation, and copies of them."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    return [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]


def _restore(statistics: list[tuple[Tensor, Tensor]]) -> None:
    for buffer, before in statistics:
        buffer.copy_(before)
