"""The command that trains a generator to fill holes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import FlagCreatePairsOff

from ..profiles import InpainterConfig
from .models import config_of, only_the_first_prints, outcome, planned

if TYPE_CHECKING:
    import numpy as np

Flag = FlagCreatePairsOff[bool]
FINE = 256  # px of a crop in which the segmenter looks for the subject


@dataclass(frozen=True, kw_only=True)
class TrainInpainter(InpainterConfig):
    """Train a generator to fill holes in photos with the subject.

    Begins with a generator of the subject (--start). Run the same command again to go on with it;
    its files are in runs/RUN.
    """

    run: str  # name of the run: its folder in runs/
    profile: str  # smoke, laptop, overnight, gpu
    photos: Path | None = None  # folder of photos; None: the number 10 of the procedural world
    segmenter: Path | None = None  # finds the subject in --photos; None: the one that ships
    backgrounds: Path | None = None  # folder of photos to set the drawn subject into
    collages: float = 0.5  # share of the images that have such a background
    crops_per_photo: int = 1  # of --photos: more, tighter, wider and moved squares of each
    kit: str | None = None  # one shirt of the procedural world; None: all of them
    dry_run: Flag = False  # only say what memory and disk it would take

    def __call__(self) -> int:
        from ..consistency.train import dry_run
        from ..inpainting.train import check_inpainter, train_inpainter
        from ..runs import Run
        from ..training.distributed import current

        drawn = {"--backgrounds": self.backgrounds is not None, "--kit": self.kit is not None}
        found = {"--segmenter": self.segmenter is not None}
        found["--crops-per-photo"] = self.crops_per_photo != 1
        for option in [name for name, given in drawn.items() if given and self.photos is not None]:
            raise ValueError(f"{option} is for the drawn subject: leave it or --photos out")
        for option in [name for name, given in found.items() if given and self.photos is None]:
            raise ValueError(f"{option} is for photos of a subject: give --photos, or leave it out")
        if not 0 <= self.collages <= 1:
            raise ValueError(f"--collages {self.collages}: give a share from 0 to 1")
        config = planned(config_of(self, InpainterConfig), self.profile, self.run)
        if self.dry_run:
            print(dry_run(config).table())
            return 0
        ranks = current()
        only_the_first_prints(ranks)
        with ranks.main_first():
            cutouts = self._cutouts(config)
        check_inpainter(config, cutouts)
        run = Run(self.run, config)
        result = train_inpainter(run, config, cutouts)
        path = run.folder / "generator.safetensors"
        print(outcome("generator that fills holes", path, result.step, config, "--model"))
        return 0

    def _cutouts(self, config: InpainterConfig) -> np.ndarray:
        import numpy as np

        from ..data.cutouts import photo_cutouts, pitch_collages, pitch_cutouts
        from ..images import list_photos

        n, size, seed = config.images, config.image_size, config.seed
        if self.photos is not None:
            from ..segmentation.infer import Segmenter
            from .photos import read_subject

            more = {"crops_per_photo": self.crops_per_photo, "seed": seed}
            images, ways = read_subject(self.photos, max(size, FINE), "auto", **more)
            finder = Segmenter(self.segmenter) if self.segmenter else Segmenter()
            cutouts = photo_cutouts(images, lambda crop: finder(crop).person, size)
            print(f"the subject was found in {len(cutouts)} of {len(images)} crops ({ways})")
            return cutouts
        if self.backgrounds is None:
            return pitch_cutouts(n, size, seed, self.kit)
        pasted = round(self.collages * n)
        backgrounds = list_photos([self.backgrounds])
        parts = [pitch_collages(backgrounds, pasted, size, seed + 1, self.kit)] if pasted else []
        if pasted < n:
            parts.append(pitch_cutouts(n - pasted, size, seed, self.kit))
        print(f"{n} images, {pasted} of them in squares of {len(backgrounds)} photos")
        return np.concatenate(parts)
