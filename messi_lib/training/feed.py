"""Batches by position, prepared ahead by worker processes.

A batch depends on its step alone (`batch_at(step)`), so any number of workers gives the same
batches in the same order, and a resumed run asks for the rest of them.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

# `step -> batch`; with several processes `(step, share) -> the images of that slice of the batch`.
BatchAt = Callable[..., Any]


class _Steps(Dataset):
    """What a worker needs: `batch_at`, asked by step."""

    def __init__(self, batch_at: BatchAt):
        self.batch_at = batch_at

    def __getitem__(self, step: int) -> Any:
        return self.batch_at(step)


def batches(batch_at: BatchAt, steps: range, workers: int = 0) -> Iterator[Any]:
    """The batches of `steps`, in order.

    Args:
        batch_at: `step -> batch` (tensors, or tuples of them), the same whenever it is asked.
        workers: processes that prepare batches while the network computes; 0: none, each batch is
            made when it is asked for. Worth it where images are decoded and augmented, not where
            they are only read from memory.

    Raises:
        ValueError: a negative number of workers, or whatever `batch_at` raises, in the caller's
            process.
    """
    if workers < 0:
        raise ValueError(f"workers={workers}: give 0 or a positive number")
    if workers and "fork" not in multiprocessing.get_all_start_methods():
        raise ValueError(f"workers={workers}: this system cannot fork processes: use workers=0")
    if workers == 0 or len(steps) == 0:
        yield from map(batch_at, steps)
        return
    loader = DataLoader(
        _Steps(batch_at),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=2,
        # A fork shares `batch_at` and its photos; other ways would have to send copies of them.
        multiprocessing_context="fork",
        collate_fn=_unchanged,
    )
    yield from loader


def _unchanged(batch: Any) -> Any:
    return batch
