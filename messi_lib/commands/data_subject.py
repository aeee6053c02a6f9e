"""The command that sorts a collection of photos of one subject."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

Flag = FlagCreatePairsOff[bool]
# To tyro no folder at all is a choice, with an empty default in the help; the command refuses it.
Folders = Annotated[
    tuple[Path, ...], arg(metavar="FOLDER [FOLDER ...]", help_behavior_hint="(required)")
]
ENCODER = "tf_efficientnet_lite0"  # its weights come with a package: no download


def _encoder() -> Callable[[np.ndarray], np.ndarray]:
    """Photo uint8 (H, W, 3) -> means of the deepest map of an ImageNet encoder, float32 (d,)."""
    import torch

    from ..images import resize, to_tensor
    from ..segmentation.encoder import build_encoder

    encoder = build_encoder(ENCODER, 224, pretrained=True).eval()
    print(
        "people are not told apart (odd_one_out looks at pictures only): "
        "pip install dlib-bin face-recognition-models for that"
    )

    @torch.no_grad()
    def embed(pixels: np.ndarray) -> np.ndarray:
        # in [-1, 1], as this encoder takes its images
        return encoder(resize(to_tensor(pixels), 224))[-1].mean((2, 3))[0].numpy()

    return embed


@dataclass(frozen=True, kw_only=True)
class DataSubject:
    """Sort photos of the subject: duplicates, flaws, training and holdout.

    Deletes nothing. Writes OUT/report.html (photos by reason), report.csv, kept.txt, splits.json
    and groups.json; `messi train consistency --photos OUT` trains on what is kept. To overrule it,
    list photos for --accept or --reject and run the same command again: it takes seconds.
    """

    folders: Positional[Folders]  # folders of photos, searched recursively
    out: Path  # folder for the reports: new, or of this same command
    accept: Path | None = None  # text file of photos to keep, one path a line
    reject: Path | None = None  # text file of photos to leave out, one path a line
    strict: Flag = False  # leave out every photo that has any reason, warnings too
    holdout: float = 0.1  # share of the groups of photos withheld from training
    smallest_side: int = 128  # pixels; photos with a shorter side are left out
    seed: int = 0  # of the split

    def __call__(self) -> int:
        from ..data.curate import photos_in
        from ..outputs import check_writable

        photos_in(list(self.folders), self.out)  # bad input is told before anything loads
        check_writable(self.out)
        from ..data.curate import curate
        from ..data.faces import FaceFinder
        from ..data.identity import FaceIdentity, available
        from ..data.quality import Limits

        faces = FaceFinder()
        embed = FaceIdentity() if available() else _encoder()
        result = curate(
            self.folders,
            self.out,
            faces=faces,
            embed=embed,
            model_key=f"{faces.key} {getattr(embed, 'key', ENCODER)}",
            accept=self.accept,
            reject=self.reject,
            strict=self.strict,
            holdout=self.holdout,
            seed=self.seed,
            limits=Limits(smallest_side=self.smallest_side),
            workers=min(4, os.cpu_count() or 1),
        )
        for complaint in result.complaints:
            print(complaint, file=sys.stderr)
        for photo in result.photos:
            if photo.problem:
                print(f"left out {photo.problem}", file=sys.stderr)
        if result.given_up:
            print(
                f"{result.given_up} pairs of similar photos may lie on both sides of the split: "
                "their groups would have held a tenth of the collection",
                file=sys.stderr,
            )
        kept = result.kept()
        withheld = sum(photo.split == "test" for photo in kept)
        reasons = ", ".join(f"{count} {reason}" for reason, count in result.counts().most_common())
        print(f"reasons: {reasons or 'none'}; largest group: {result.largest_group()} photos")
        print(
            f"{len(kept)} of {len(result.photos)} photos kept ({len(kept) - withheld} to train on, "
            f"{withheld} held out); look at {self.out / 'report.html'}"
        )
        return 0
