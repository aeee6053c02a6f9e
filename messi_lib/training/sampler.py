"""Which images go into which step: by position, so that resuming needs no stored sampler state."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..runs import seed_generator


class PositionSampler:
    """Shuffled epochs, addressed by step.

    Position p = step * batch + i of the endless stream holds element p mod n of epoch p div n's
    permutation. Every epoch shows every image once, also when the batch does not divide n.

    Raises:
        ValueError: an empty data set, or one smaller than the batch.
    """

    def __init__(self, n: int, batch: int, seed: int = 0):
        if n < 1:
            raise ValueError("the data set is empty: nothing to train on")
        if batch > n:
            raise ValueError(f"batch={batch} is larger than the data set ({n} images): lower it")
        self.n, self.batch, self.seed = n, batch, seed
        self._permutation = lru_cache(maxsize=2)(self._make_permutation)

    def _make_permutation(self, epoch: int) -> Tensor:
        return torch.randperm(self.n, generator=seed_generator(self.seed, "epoch", epoch))

    def __call__(self, step: int) -> Tensor:
        """Indices (batch,) int64 of `step`, counted from 0."""
        positions = range(step * self.batch, (step + 1) * self.batch)
        return torch.stack([self._permutation(p // self.n)[p % self.n] for p in positions])

    def epoch(self, step: int) -> int:
        """Epoch of the first image of `step`."""
        return step * self.batch // self.n
