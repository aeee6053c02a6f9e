"""What a training writes to disk, planned before it starts so that it stays within a budget.

The predecessor kept everything it ever saved and filled its disk (post-mortem 13). Here states for
going on are few and rolling; what is kept for looking back are averages in half precision, at steps
spaced evenly on a logarithmic scale, because a network changes most at the beginning.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..profiles import TrainConfig

UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    UNITS |= {_letter: 1000**_power, f"{_letter}b": 1000**_power, f"{_letter}ib": 1024**_power}

# Averages besides the snapshots: the best by a metric, the final export, one while it is written.
EXTRA_AVERAGES = 3
# One line of statistics takes 165 to 260 bytes in stats.jsonl, and 185 to 330 in TensorBoard's
# events, from three statistics to seven (measured).
LINE_BYTES = 300 + 350


def parse_size(text: str) -> int:
    """Bytes that a text such as "20GB", "1.5 GB", "512 MiB" or "1000" means.

    Units of 1000 (KB, MB, GB, TB) or 1024 (KiB, MiB, ...), in letters of either case.

    Raises:
        ValueError: no number, an unknown unit, or nothing at all (0).
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([a-z]*)\s*", text, re.IGNORECASE | re.ASCII)
    unit = UNITS.get(match[2].lower()) if match else None
    size = round(float(match[1]) * unit) if unit and math.isfinite(float(match[1])) else 0
    if size < 1:
        raise ValueError(f"size {text!r}: give a positive number with a unit, such as 20GB")
    return size


def format_size(size: int, *, up: bool = False) -> str:
    """Bytes as text that `parse_size` reads: in GB with two decimals, in MB or KB below.

    Args:
        up: round up, so that the text never means less than `size`.
    """
    for unit, scale, digits in (("GB", 10**9, 2), ("MB", 10**6, 1), ("KB", 10**3, 1)):
        if size >= scale // 2 or unit == "KB":
            step = scale // 10**digits
            steps = -(-size // step) if up else round(size / step)
            return f"{steps / 10**digits:.{digits}f} {unit}"
    raise AssertionError("KB takes every size")


def log_spaced(steps: int, n: int, every: int) -> tuple[int, ...]:
    """At most `n` steps, evenly spaced on a logarithmic scale.

    Args:
        steps: length of the run; the last of the steps returned.
        every: the others are multiples of it, from the first one on.

    Returns:
        Distinct steps in order: `n` of them, or as many as there are multiples.

    Raises:
        ValueError: `steps` or `every` below 1, or `n` below 0.
    """
    if steps < 1 or every < 1 or n < 0:
        raise ValueError(f"snapshots={n} of steps={steps} at save_every={every}: give whole "
                         "numbers above 0 (snapshots: 0 or more)")  # fmt: skip
    if n == 0:
        return ()
    count = -(-steps // every)  # places where a snapshot can be: all multiples, and the end
    place = 1 if n > 1 else count
    places = [place]
    for left in range(min(n, count) - 1, 0, -1):
        # An equal ratio to the end from here; where places are too coarse for it, the next one.
        place = max(place + 1, round(place * (count / place) ** (1 / left)))
        places.append(place)
    return tuple(min(place * every, steps) for place in places)


@dataclass(frozen=True)
class DiskPlan:
    """What a run keeps on disk, in bytes."""

    state: int  # one saved state, from which the run can go on
    average: int  # one average, in half precision
    keep: int  # states that are kept
    snapshots: tuple[int, ...]  # steps whose average is kept
    curves: int  # statistics and TensorBoard's events, at the end of the run
    budget: int | None  # None: no limit
    wanted: int = 0  # snapshots that were asked for, as far as there are steps for them

    @property
    def averages(self) -> int:
        """Averages on disk at the worst moment."""
        return len(self.snapshots) + EXTRA_AVERAGES

    @property
    def peak(self) -> int:
        """Bytes at the worst moment: a new state is written beside the old ones."""
        return (self.keep + 1) * self.state + self.averages * self.average + self.curves

    @property
    def thinned(self) -> bool:
        """Whether the budget left no room for all the snapshots that were asked for."""
        return len(self.snapshots) < self.wanted

    def table(self) -> str:
        """The plan as lines of text."""
        kept = len(self.snapshots)
        short = f" of the {self.wanted} asked for" if self.thinned else ""
        rows = [
            (f"states: {self.keep} kept, one being written", (self.keep + 1) * self.state),
            (f"snapshots of the average: {kept}{short}", kept * self.average),
            ("best, export, one being written", EXTRA_AVERAGES * self.average),
            ("statistics, curves and pictures", self.curves),
            ("disk at the worst moment", self.peak),
        ]
        if self.budget is not None:
            rows.append(("disk budget", self.budget))
        lines = [f"{name:<44}{format_size(size):>12}" for name, size in rows]
        if self.snapshots:
            lines.append("snapshots at steps " + _brief(self.snapshots))
        return "\n".join(lines)


def _brief(steps: tuple[int, ...]) -> str:
    shown = [f"{step:,}" for step in steps]
    return ", ".join(shown if len(shown) <= 8 else [*shown[:5], "...", *shown[-2:]])


def plan_disk(
    *,
    state: int,
    average: int,
    steps: int,
    save_every: int,
    log_every: int,
    snapshots: int,
    more: int = 0,
    budget: int | None = None,
) -> DiskPlan:
    """The most that fits into a budget: two states and all snapshots, else one, else fewer.

    Args:
        state: bytes of a saved state.
        average: bytes of an average as it is kept.
        steps, save_every, log_every: of the run.
        snapshots: how many averages to keep, besides the best and the last.
        more: bytes of other files, such as pictures.
        budget: bytes that the run may take; None for no limit.

    Raises:
        ValueError: not even one state and no snapshots fit; says how much is needed.
    """
    if log_every < 1:
        raise ValueError(f"log_every={log_every}: give 1 or more steps")
    wanted = log_spaced(steps, snapshots, save_every)
    curves = -(-steps // log_every) * LINE_BYTES + more

    def plan(keep: int, kept: tuple[int, ...]) -> DiskPlan:
        return DiskPlan(state, average, keep, kept, curves, budget, len(wanted))

    full = plan(2, wanted)
    if budget is None or full.peak <= budget:
        return full
    least = plan(1, ())
    if least.peak > budget:
        need = format_size(least.peak, up=True)
        raise ValueError(
            f"disk budget {format_size(budget)}: this training needs at least {need}: "
            f"give --disk-budget {need.replace(' ', '')} or a smaller network"
        )
    room = (budget - least.peak) // average if average else len(wanted)
    return plan(1, log_spaced(steps, min(room, len(wanted)), save_every))


def plan_run(config: TrainConfig, state: int, average: int) -> DiskPlan:
    """The plan of a training as its configuration wishes it; see `plan_disk`.

    Raises:
        ValueError: as `plan_disk`, or a budget that is no size.
    """
    return plan_disk(
        state=state,
        average=average,
        steps=config.span,
        save_every=config.save_every,
        log_every=config.log_every,
        snapshots=config.snapshots,
        more=config.picture_bytes,
        budget=parse_size(config.disk_budget) if config.disk_budget else None,
    )
