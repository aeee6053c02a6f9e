"""The command that makes a data set of people out of COCO annotations."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class DataPeople:
    """Make a data set of people from COCO annotations.

    Writes OUT/images, OUT/person and OUT/ignore (masks), instances.json, splits.json and
    attribution.csv. Run the same command again to go on with it: it asks only for what is missing.
    Exit status 1: some photos could not be had; OUT/failed.csv lists them.
    """

    annotations: Path  # instances_*.json, or the archive annotations_trainval2017.zip
    out: Path  # folder for the data set: new, or of this same command
    images: Path | None = None  # folder of the photos; None: downloads them
    category: str = "person"  # name of the category to take for people
    max_people: int = 3  # most people in a photo; 0: any number, crowds too
    min_area: float = 0.01  # share of the photo that the largest person covers at least
    negatives: float = 0.1  # share of the photos without people that is kept
    licence: Literal["any", "open"] = "any"  # open: CC BY, CC BY-SA, public domain
    limit: int | None = None  # most photos; None: all
    test: int = 100  # photos withheld for the last measurement
    val: float = 0.1  # share of the others that validates
    seed: int = 0  # of the splits and of --limit
    workers: int = 16  # downloads at once
    timeout: float = 20.0  # seconds that a server may be silent

    def __call__(self) -> int:
        from ..data.coco_export import check_places, export_people
        from ..data.coco_select import Selection, read_annotations, select
        from ..data.download import check_numbers
        from ..outputs import check_writable

        selection = Selection(
            category=self.category,
            max_people=self.max_people,
            min_area=self.min_area,
            negatives=self.negatives,
            licence=self.licence,
            limit=self.limit,
            test=self.test,
            val=self.val,
            seed=self.seed,
        )
        check_numbers(self.workers, self.timeout)  # bad input is told before anything is read
        check_places(self.annotations, self.out, self.images)
        check_writable(self.out)
        content = read_annotations(self.annotations)
        selected = select(content, selection, self.annotations)
        chosen, total = len(selected.names), len(content["images"])
        reasons = [f"{count} {reason}" for reason, count in selected.left_out.most_common()]
        others = f"; left out: {', '.join(reasons)}" if reasons else ""
        print(f"{chosen} of {total} photos chosen{others}", flush=True)
        if selected.broken:
            print(f"the first broken outline: {selected.broken[0]}", file=sys.stderr)
        del content  # the official files take gigabytes

        done = export_people(
            selected, selection, self.out, self.images, self.workers, self.timeout
        )
        outcome = done.outcome
        new, old, lacking = len(outcome.fetched), len(outcome.reused), len(outcome.failed)
        parts = ", ".join(f"{part} {len(numbers)}" for part, numbers in done.splits.items())
        print(f"{new + old} photos in {self.out} ({new} new, {old} there before): {parts}")
        if lacking:
            print(
                f"{lacking} photos are missing, see {self.out / 'failed.csv'}: "
                f"{outcome.failed[0][1]}; the same command again asks for them only",
                file=sys.stderr,
            )
        return 1 if lacking else 0
