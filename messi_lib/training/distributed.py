"""Several processes that train one network: who am I, what is my share, do we agree.

One process needs nothing of this. Under `torchrun`,

    python -m torch.distributed.run --nproc_per_node=2 -m -- messi_lib.cli train ... --run NAME

(the `--` keeps it from taking `--run` for one of its own options), each process is a *rank*: it
computes the gradient of its share of the batch, and the average over all ranks moves the same
weights everywhere. NCCL carries it between GPUs, gloo between CPUs; no MPI (post-mortem 14: ranks
that waited for each other for ever. Here waiting ends after `TIMEOUT`, and every decision, such as
to stop, is taken together).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

# One rank measures quality or draws samples while the others wait: longer than any of that takes.
TIMEOUT = timedelta(minutes=30)

T = TypeVar("T")


def current() -> Ranks:
    """This process among those of its job; joins them at the first call.

    Raises:
        ValueError: variables of a job that do not belong together.
    """
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    size = int(os.environ.get("WORLD_SIZE") or 1)
    if size == 1 or "RANK" not in os.environ:  # also inside a SLURM job that started one task
        return Ranks()
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE={size} without {' and '.join(missing)}: start several processes with "
            "python -m torch.distributed.run --nproc_per_node=N -m -- messi_lib.cli train ..."
        )
    place = os.environ.get("MESSI_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    gpu = place.startswith("cuda")
    if gpu and ":" in place:
        raise ValueError(f"MESSI_DEVICE={place} for {size} processes: use cuda, each takes its own")
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    dist.init_process_group("nccl" if gpu else "gloo", timeout=TIMEOUT)
    atexit.register(leave)
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """Part from the other processes."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


@dataclass(frozen=True)
class Ranks:
    """The processes of a job as one of them sees them; with `size` 1 nothing is communicated."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that prints, measures and writes files."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """Which images of a batch are this rank's: equal parts, in order.

        Raises:
            ValueError: a batch that cannot be shared equally.
        """
        if batch % self.size:
            raise ValueError(
                f"batch={batch} cannot be shared equally by {self.size} processes: "
                f"use a multiple of {self.size}"
            )
        each = batch // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module whose backward pass averages gradients over the ranks."""
        if self.size == 1:
            return module
        # Buffers are not sent before each forward pass: `average_buffers` does what is needed.
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # a newer name
            return DistributedDataParallel(
                module, broadcast_buffers=False, gradient_as_bucket_view=True, init_sync=False
            )

    def any(self, *flags: bool) -> list[bool]:
        """Each flag: whether it is set on any rank. The same answer everywhere."""
        if self.size == 1:
            return list(flags)
        numbers = torch.tensor([float(flag) for flag in flags], device=_place())
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return [bool(number) for number in numbers.tolist()]

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Averages over the ranks, of values that every rank has under the same names."""
        if self.size == 1 or not values:
            return dict(values)
        numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=_place())
        dist.all_reduce(numbers)
        return dict(zip(values, (numbers / self.size).tolist(), strict=True))

    def most(self, value: float) -> float:
        """The largest value of any rank."""
        if self.size == 1:
            return value
        number = torch.tensor(value, dtype=torch.float64, device=_place())
        dist.all_reduce(number, dist.ReduceOp.MAX)
        return float(number)

    def together(self, action: Callable[[], T]) -> T:
        """Do something that may fail on one rank only; then all fail, and none waits for it.

        Raises:
            Whatever `action` raises; ValueError on the other ranks.
        """
        if self.size == 1:
            return action()
        result, problem = None, None
        try:
            result = action()
        except Exception as error:
            problem = error
        if self.any(problem is not None)[0]:
            raise problem or ValueError("another rank failed: see its message")
        return result

    def agree(self, what: str, value: object) -> None:
        """Refuse to go on with ranks that hold different values.

        Raises:
            ValueError: on all ranks, with the values of the first two that differ.
        """
        if self.size == 1:
            return
        values: list[object] = [None] * self.size
        dist.all_gather_object(values, value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise ValueError(
                    f"ranks disagree on {what}: rank 0 has {values[0]!r}, rank {rank} {other!r}. "
                    "Give all the same command, data and a runs folder on a shared disk"
                )

    @torch.no_grad()
    def send(self, *modules: nn.Module) -> None:
        """Give every rank the parameters and buffers of rank 0."""
        if self.size > 1:
            for module in modules:
                for tensor in module.state_dict().values():
                    dense = tensor.contiguous()  # channels-last weights are not
                    dist.broadcast(dense, 0)
                    tensor.copy_(dense)

    @torch.no_grad()
    def average_buffers(self, module: nn.Module) -> None:
        """Average the running statistics of batch normalisation, which each rank has of its own."""
        norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
        buffers = [b for m in norms for b in (m.running_mean, m.running_var) if b is not None]
        if self.size == 1 or not buffers:
            return
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        dist.all_reduce(flat)
        for buffer, part in zip(buffers, (flat / self.size).split([b.numel() for b in buffers])):
            buffer.copy_(part.view_as(buffer))

    @torch.no_grad()
    def check_same(self, module: nn.Module) -> None:
        """Compare parameters and buffers over the ranks, by sums: cheap and on the device.

        Raises:
            ValueError: on all ranks, with the first name that differs.
        """
        if self.size == 1:
            return
        state = module.state_dict()
        sums = torch.stack([_fingerprint(tensor) for tensor in state.values()]).to(_place())
        least, most = sums.clone(), sums.clone()
        dist.all_reduce(least, dist.ReduceOp.MIN)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        differing = [name for name, same in zip(state, (least == most).all(1).tolist()) if not same]
        if differing:
            raise ValueError(
                f"the ranks hold different weights ({differing[0]} and {len(differing) - 1} more): "
                "nothing is saved; go on from the last state with the same command"
            )

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Rank 0 does it before the others: what it puts into a cache they find there.

        Raises:
            ValueError: on the others, when it fails on rank 0.
        """
        failed = False
        if not self.main:
            (failed,) = self.any(False)
            if failed:
                raise ValueError("rank 0 failed: see its message")
        try:
            yield
        except BaseException:
            failed = True
            raise
        finally:
            if self.main:
                self.any(failed)


def _place() -> torch.device:
    """Where tensors must be for this job's transport."""
    gpu = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")


def _fingerprint(tensor: Tensor) -> Tensor:
    """Two sums (2,) float64 that differ when the tensors do, order included."""
    values = tensor.detach().flatten().double().nan_to_num(7.0)
    places = torch.arange(1, len(values) + 1, device=values.device, dtype=torch.float64)
    return torch.stack([values.sum(), (values * places.cos()).sum()])
