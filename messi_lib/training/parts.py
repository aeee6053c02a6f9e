"""A batch in parts: as many images as fit into memory at a time, the same parts on any number of
processes.

The randomness of a part comes from `(seed, step, number of the part)`. Two processes that compute
one part each therefore do what one process with `microbatch` at half the batch does in two turns:
the same dropout, the same noise, and the same gradient up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..runs import seed_generator
from .distributed import Ranks


@dataclass(frozen=True)
class Part:
    """Some images of a step."""

    images: Any  # as the batch: a tensor, or a tuple or list of tensors
    share: float  # of what this process computes in the step
    number: int  # among the parts of all processes
    last: bool  # of this process in this step

    def generator(self, seed: int, step: int) -> torch.Generator:
        """All randomness of this part; the global generator (dropout) is seeded alike."""
        more = ("part", self.number) if self.number else ()
        generator = seed_generator(seed, "step", step, *more)
        torch.manual_seed(generator.initial_seed())
        return generator


def portion(batch: int, microbatch: int, ranks: Ranks) -> int:
    """Images per forward pass and process.

    Raises:
        ValueError: a batch that processes cannot share, or not in equal parts.
    """
    if microbatch < 0:
        raise ValueError(f"microbatch={microbatch}: give 0 (the whole batch) or more images")
    ranks.share(batch)
    mine = batch // ranks.size
    size = min(microbatch or mine, mine)
    if ranks.size > 1 and mine % size:
        raise ValueError(
            f"microbatch={microbatch} does not divide the {mine} images that each of "
            f"{ranks.size} processes has of batch={batch}: use one that does"
        )
    return size


def parts(batch: Any, size: int, ranks: Ranks) -> Iterator[Part]:
    """This process's images in parts of at most `size`.

    Args:
        batch: its share of the step's images: a tensor, or a tuple or list of tensors of equal
            length.
    """
    several = isinstance(batch, (tuple, list))
    tensors = tuple(batch) if several else (batch,)
    total = len(tensors[0])
    count = -(-total // size)
    for index in range(count):
        cut = tuple(tensor[index * size : (index + 1) * size] for tensor in tensors)
        yield Part(
            images=cut if several else cut[0],
            share=len(cut[0]) / total,
            number=ranks.rank * count + index,
            last=index == count - 1,
        )
