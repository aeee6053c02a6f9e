"""`messi replace`: people in photos replaced by the subject."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from ..profiles import ReplaceConfig
from .models import config_of

Flag = FlagCreatePairsOff[bool]
# To tyro no photo at all is a choice, with an empty default in the help; the command refuses it.
Photos = Annotated[
    tuple[Path, ...], arg(metavar="PHOTO [PHOTO ...]", help_behavior_hint="(required)")
]


@dataclass(frozen=True, kw_only=True)
class Replace(ReplaceConfig):
    """Replace the people in photos by the subject.

    Writes OUT/<same name>, OUT/holes/<stem>.png (white wherever a pixel may have changed),
    OUT/people/<stem>.jpg (everybody's number) and OUT/report.json. Results have the size of their
    photo. Outside hole and border no pixel changes.
    """

    photos: Positional[Photos]  # photos, and folders of photos
    out: Path  # folder for the results
    people: str = "all"  # "all", "largest", or numbers such as 1,3 (the largest person is 1)
    # a picture of the photo's size instead: white is replaced. Grows by --grow; 0: as it is
    hole: Path | None = None
    format: str | None = None  # e.g. png (compares exactly); None: as the photo
    segmenter: Path | None = None  # weights that find people, or maskrcnn; None: those that ship
    model: Path | None = None  # weights of the generator; None: those that ship
    report: Flag = False  # write OUT/report.html: before and after, in one file
    skip_existing: Flag = False  # go on: photos whose result is there are left alone
    workers: int = 1  # photos at a time
    shard: str = ""  # 3/16: only the third of sixteen parts, for jobs that share OUT

    def __call__(self) -> int:
        if not self.photos:
            raise ValueError("no input: give photos or folders")
        from ..outputs import check_writable, photos_outside

        photos_outside(list(self.photos), self.out)  # bad input is told before anything loads
        check_writable(self.out)
        from ..notebook_runner.watch import stop_signals
        from ..replace import replace_folder

        # The end of a cluster's time is as good a reason to write the report as Ctrl-C.
        with stop_signals():
            report = replace_folder(
                self.photos,
                self.out,
                segmenter=self.segmenter,
                denoiser=self.model,
                people=self.people,
                hole=self.hole,
                config=config_of(self, ReplaceConfig),
                format=self.format,
                page=self.report,
                skip_existing=self.skip_existing,
                workers=self.workers,
                shard=self.shard,
            )
        failed = [entry for entry in report if entry["error"]]
        done = len(report) - len(failed)
        print(f"{done} photos, their holes and a report are in {self.out}")
        if failed:
            raise ValueError(
                f"{len(failed)} of {len(report)} photos could not be read or written, "
                f"the first: {failed[0]['error']}"
            )
        return 0
