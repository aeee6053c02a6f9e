"""How a training can be made to fit a GPU: images at a time, and what is computed twice.

Post-mortem 12: the batch that the predecessor's README recommended did not fit the GPU that it
named. Two things help without a change of the result: a batch can be computed in parts, whose
gradients are averaged, and activations can be thrown away and computed again. The first costs
nothing until the parts get too small to fill a GPU; the second a forward pass more. So the first
comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .budget import Budget
from .disk import format_size

# What PyTorch's counters do not see: the CUDA context (about 0.5 GB) and the workspaces of cuBLAS
# and cuDNN, and then the gaps between blocks of different sizes, a share of what is used.
CONTEXT = 1_500_000_000
FRAGMENTS = 0.08

FEW = 4  # images at a time below which parts leave a GPU idle, and recomputation is the lesser evil

Rates = tuple[int, ...]


def reserve(gpu: int) -> int:
    """Bytes of a GPU of `gpu` bytes to leave alone."""
    return CONTEXT + round(FRAGMENTS * gpu)


def rate_choices(rates: Sequence[int]) -> list[Rates]:
    """What may be recomputed, from nothing to everything: the largest maps first.

    Args:
        rates: downsampling rates of the network's levels, ascending.
    """
    rates = tuple(rates)
    return [rates[:levels] for levels in sorted({0, 1, 2, len(rates)}) if levels <= len(rates)]


def largest_part(one: Budget, batch: int, room: int) -> int:
    """The largest divisor of `batch` of which so many images fit into `room` bytes; 0 for none."""
    parts = [part for part in range(1, batch + 1) if batch % part == 0]
    return max((part for part in parts if one.with_images(part).total <= room), default=0)


@dataclass(frozen=True)
class Proposal:
    """How to run a batch on a GPU, and what else was considered."""

    batch: int
    gpu: int  # bytes
    choices: Mapping[Rates, Budget]  # by what is recomputed
    parts: Mapping[Rates, int]  # images at a time that fit; 0: not even one
    rates: Rates  # the recommended choice
    microbatch: int

    @property
    def budget(self) -> Budget:
        """What the recommended choice takes."""
        return self.choices[self.rates].with_images(self.microbatch)

    @property
    def flags(self) -> list[str]:
        """Options of `messi train` that the recommendation needs beyond its defaults."""
        made = [] if self.microbatch == self.batch else ["--microbatch", str(self.microbatch)]
        return made + (["--checkpoint-rates", *map(str, self.rates)] if self.rates else [])

    def table(self) -> str:
        """All choices and the recommended one, as lines of text."""
        lines = [f"{'computed twice':<26}{'an image':>10}{'at a time':>11}{'parts':>7}{'peak':>11}"]
        for rates, one in self.choices.items():
            part = self.parts[rates]
            fits = f"{part:>11}{self.batch // part:>7}" if part else f"{'none fits':>18}"
            peak = format_size(one.with_images(part or 1).total)
            line = f"{_words(rates, self):<26}{format_size(one.each):>10}{fits}{peak:>11}"
            lines.append(line + ("  <- recommended" if rates == self.rates else ""))
        room = f"{format_size(self.gpu)} less {format_size(reserve(self.gpu))} in reserve"
        why = "CUDA's context and workspaces, gaps between blocks"
        return "\n".join([*lines, f"room: {room} ({why})"])


def _words(rates: Rates, proposal: Proposal) -> str:
    if not rates:
        return "nothing"
    if len(rates) == max(map(len, proposal.choices)):
        return "everything (<= +33% time)"
    return "levels at rate " + ", ".join(map(str, rates))


def propose(choices: Mapping[Rates, Budget], batch: int, gpu: int) -> Proposal:
    """Images at a time, and what to recompute, so that a batch fits a GPU.

    The first choice, by growing cost, that leaves at least four images at a time (or the batch, if
    it is smaller); else the one with most images at a time.

    Args:
        choices: budgets by what is recomputed, from nothing to everything.
        batch: images per step; stays as it is.
        gpu: bytes of the GPU's memory.

    Raises:
        ValueError: not a single image fits; says by how much.
    """
    if batch < 1:
        raise ValueError(f"batch={batch}: give 1 or more images")
    room = gpu - reserve(gpu)
    parts = {rates: largest_part(one, batch, room) for rates, one in choices.items()}
    if not any(parts.values()):
        least = min(one.with_images(1).total for one in choices.values())
        average = max(one.average for one in choices.values())
        off = f"--ema-device cpu (saves {format_size(average)}), " if average else ""
        raise ValueError(
            f"one image takes {format_size(least)}, {format_size(least - room, up=True)} more than "
            f"a GPU of {format_size(gpu)} has after a reserve of {format_size(reserve(gpu))}: "
            f"give {off}a larger --gpu or a smaller network"
        )
    wanted = min(FEW, batch)
    enough = [rates for rates in choices if parts[rates] >= wanted]
    rates = enough[0] if enough else max(choices, key=lambda rates: parts[rates])
    return Proposal(batch, gpu, choices, parts, rates, parts[rates])
