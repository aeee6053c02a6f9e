"""The command that says what a training takes before it starts: GPU memory and disk."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..profiles import ConsistencyConfig, SegmentationConfig, preset

if TYPE_CHECKING:
    from ..training.disk import DiskPlan
    from ..training.memory import Proposal

# Weights, three averages and Adam's two moments in fp32, and a target in fp16: what the predecessor
# wrote at every save and never deleted, in bytes per parameter (13.74 GB at 526 million).
PREDECESSOR = 13.74e9 / 526_304_771


@dataclass(frozen=True, kw_only=True)
class BudgetPlan:
    """Say what memory and disk a training takes, and how it fits your GPU.

    Nothing is allocated, downloaded or written. Sizes: 80GB, 1.5 GB, 500MB, 24GiB.
    """

    profile: str  # smoke, laptop, overnight, gpu, image_a, image_b
    part: Literal["consistency", "segmentation"] = "consistency"  # generator or segmenter
    gpu: str = "80GB"  # memory of the GPU, such as 24GB
    disk_budget: str | None = None  # most that the run may write; None: as in the profile
    steps: int | None = None  # length of the training; None: as in the profile
    snapshots: int | None = None  # averages to keep for looking back; None: as in the profile
    batch: int | None = None  # images per step; None: as in the profile

    def __call__(self) -> int:
        from ..training.disk import parse_size, plan_run
        from ..training.memory import propose

        kind = ConsistencyConfig if self.part == "consistency" else SegmentationConfig
        names = ("disk_budget", "steps", "snapshots", "batch")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        config = preset(kind, self.profile, **given)
        for name in ("steps", "batch"):
            if getattr(config, name) < 1:
                raise ValueError(f"--{name} {getattr(config, name)}: give 1 or more")
        gpu = parse_size(self.gpu)

        choices = measure(config)
        first = next(iter(choices.values()))
        disk = plan_run(config, first.state_file, 2 * first.parameters)
        proposal = propose(choices, config.batch, gpu)
        print(self.report(proposal, disk, given))
        return 0

    def report(self, proposal: Proposal, disk: DiskPlan, given: dict) -> str:
        """Everything as lines of text; the last one is the command to run."""
        lines = [f"{self.part}, profile {self.profile}: batch {proposal.batch}"]
        lines += [proposal.budget.table(), "", proposal.table(), "", disk.table()]
        if self.part == "consistency" and disk.snapshots:
            old = PREDECESSOR * proposal.budget.parameters * max(len(disk.snapshots), disk.wanted)
            lines.append(f"the predecessor would have written{old / 1e9:>19.2f} GB")
        flags = [word for name, value in given.items()
                 for word in (f"--{name.replace('_', '-')}", str(value))]  # fmt: skip
        train = ["messi", "train", self.part, "--profile", self.profile, "--run", "NAME"]
        return "\n".join([*lines, "", "run: " + shlex.join([*train, *flags, *proposal.flags])])


def measure(config: ConsistencyConfig | SegmentationConfig) -> dict:
    """Budgets of a step by the levels that are computed twice, from none to all.

    Raises:
        ValueError: a network that cannot be built.
    """
    if isinstance(config, SegmentationConfig):
        from ..segmentation.plan import dry_run

        return {(): dry_run(config)}
    from ..consistency.train import dry_runs
    from ..training.memory import rate_choices

    choices = rate_choices([2**level for level in range(len(config.channel_mult))])
    return dict(zip(choices, dry_runs(config, choices)))
