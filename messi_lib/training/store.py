"""What a training writes: states to go on from, snapshots to look back at, statistics.

All of it is planned before the first step (`disk`), so that a run that cannot fit is refused at
once, and one that can never exceeds its budget. A disk that is full all the same costs the step in
hand, not the last good state.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..profiles import TrainConfig
from ..runs import Run
from .budget import state_bytes
from .checkpoints import StateFiles, folder_bytes, save_weights
from .disk import format_size, plan_run
from .ema import PowerEMA

Export = Callable[[Path, dict[str, Tensor]], object]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(ValueError):
    """There is no room for what the run has to write; what is kept is said."""


class Store:
    """The files of a training; only the first of several processes writes.

    Args:
        run: its folder takes `checkpoints/`, `history/` and the statistics.
        slow: further networks of the state, by name.
        export: writes a snapshot; None: the averaged weights alone, in half precision.

    Raises:
        ValueError: a budget into which the run does not fit.
    """

    def __init__(
        self,
        run: Run,
        config: TrainConfig,
        model: nn.Module,
        ema: PowerEMA,
        optimizer: torch.optim.Optimizer,
        slow: Mapping[str, nn.Module],
        export: Export | None = None,
    ):
        self.run, self.ema = run, ema
        self.parts = model, ema.weights, optimizer, slow
        self.export = export or (lambda path, state: save_weights(path, state, {"kind": "average"}))
        self.history = run.folder / "history"
        average = sum(_half(value) for value in ema.weights.values())
        self.plan = plan_run(config, state_bytes(model, slow), average)
        self.files = StateFiles(run.checkpoints, keep=self.plan.keep)
        if run.writes:  # what a killed process left half written; safetensors has names of its own
            for folder in (run.folder, run.checkpoints, self.history):
                for torn in (*folder.glob(".*.tmp"), *folder.glob(".tmp*")):
                    torn.unlink(missing_ok=True)

    def load(self) -> int:
        """Restore the newest readable state in place; its step, 0 when there is none."""
        step = self.files.load(*self.parts)
        self.ema.last = self.files.ema_step
        if self.run.writes:
            self.files.prune()  # a smaller budget keeps fewer than the run so far
        return step

    def save(self, step: int) -> Path | None:
        """Write the state after `step` steps.

        Raises:
            DiskFull: no room; the last good state is kept. ValueError: weights that are not finite.
        """
        if not self.run.writes:
            return None
        self._make_room(self.plan.state)
        return self._write(
            step, lambda: self.files.save(step, *self.parts, ema_step=self.ema.last or None)
        )

    def snapshot(self, step: int) -> None:
        """Keep the average after `step` steps when the plan has it."""
        if not self.run.writes or step not in self.plan.snapshots:
            return
        self._make_room(self.plan.average)
        self._write(step, lambda: self.export(self._snapshot_path(step), self.ema.weights))

    def log(self, step: int, **stats: float) -> dict:
        """One line of statistics; see `Run.log`."""
        return self._write(step, lambda: self.run.log(step, **stats))

    def keep(self, step: int) -> str:
        """Save the state before a step that failed, unless it is broken itself; says what is
        kept."""
        try:
            if step:
                path = self.save(step)
                if path is not None:
                    return f"the state before it is saved in {path}"
        except ValueError:  # weights that are not finite (the damage was done earlier), or no room
            pass
        return self._last()

    def _snapshot_path(self, step: int) -> Path:
        return self.history / f"average-{step:08d}.safetensors"

    def _make_room(self, size: int) -> None:
        """Give up snapshots, the closest neighbours first, when other files fill the budget."""
        if self.plan.budget is None:
            return
        while folder_bytes(self.run.folder) + size > self.plan.budget:
            kept = sorted(self.history.glob("average-*.safetensors"))
            if len(kept) < 2:
                raise DiskFull(
                    f"run {self.run.name!r}: disk_budget={format_size(self.plan.budget)} is used "
                    f"up by {format_size(folder_bytes(self.run.folder))} in {self.run.folder}; "
                    f"{self._last()}. Delete what is not needed there (samples, for instance)"
                )
            steps = [int(path.stem.rpartition("-")[2]) for path in kept]
            ratios = [steps[i + 1] / max(steps[i], 1) for i in range(len(steps) - 1)]
            given_up = kept[ratios.index(min(ratios))]
            print(f"disk budget: giving up the snapshot {given_up.name}", flush=True)
            given_up.unlink()

    def _write(self, step: int, action: Callable):
        try:
            return action()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            free = shutil.disk_usage(self.run.folder).free
            raise DiskFull(
                f"run {self.run.name!r}: the disk is full at step {step} ({format_size(free)} free "
                f"in {self.run.folder}, a state takes {format_size(self.plan.state)}); "
                f"{self._last()}. Make room and run the same command to go on"
            ) from error

    def _last(self) -> str:
        newest = self.files.newest()
        return f"the last good state, {newest}, is kept" if newest else "no state was saved yet"


def _half(value: Tensor) -> int:
    return value.numel() * (2 if value.is_floating_point() else value.element_size())
