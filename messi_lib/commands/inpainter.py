"""The commands that train a generator for holes: one that fills them, one that draws layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import FlagCreatePairsOff

from ..profiles import InpainterConfig, LayerConfig
from .models import config_of, planned, train_generator

if TYPE_CHECKING:
    import numpy as np

    from ..segmentation.infer import Segmentation

Flag = FlagCreatePairsOff[bool]
FINE = 256  # px of a crop in which the segmenter looks for the subject


def largest_person(found: Segmentation) -> np.ndarray:
    """Of all people in a crop the largest: whoever else is there is not the subject."""
    return found.people[0].region if found.people else found.person


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Where a generator for holes learns its subject, for the two commands below."""

    run: str  # name of the run: its folder in runs/
    profile: str  # smoke, laptop, overnight, gpu
    photos: Path | None = None  # folder of photos; None: the number 10 of the procedural world
    segmenter: Path | None = None  # finds the subject in --photos; None: the one that ships
    backgrounds: Path | None = None  # folder of photos to set the drawn subject into
    collages: float | None = None  # share of the images that have such a background; None: half
    crops_per_photo: int = 1  # of --photos: more, tighter, wider and moved squares of each
    crop: Literal["auto", "face", "person", "centre"] = (
        "person"  # of --photos
    )
    kit: str | None = None  # one shirt of the procedural world; None: all of them
    # share of the drawn images that show head and chest only; None: a third of layers, no others
    close_ups: float | None = None
    dry_run: Flag = False  # only say what memory and disk it would take

    def __call__(self) -> int:
        from ..consistency.train import dry_run
        from ..inpainting.train import check_inpainter, train_inpainter

        drawn = {"--backgrounds": self.backgrounds is not None, "--kit": self.kit is not None}
        drawn |= {
            "--collages": self.collages is not None,
            "--close-ups": self.close_ups is not None,
        }
        found = {"--segmenter": self.segmenter is not None}
        found["--crops-per-photo"] = self.crops_per_photo != 1
        for option in [name for name, given in drawn.items() if given and self.photos is not None]:
            raise ValueError(f"{option} is for the drawn subject: leave it or --photos out")
        for option in [name for name, given in found.items() if given and self.photos is None]:
            raise ValueError(f"{option} is for photos of a subject: give --photos, or leave it out")
        for name, share in {"--collages": self.collages, "--close-ups": self.close_ups}.items():
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name} {share}: give a share from 0 to 1")
        if self.collages is not None and self.backgrounds is None:
            raise ValueError("--collages needs --backgrounds: give a folder of photos")
        kind = LayerConfig if isinstance(self, LayerConfig) else InpainterConfig
        config = planned(config_of(self, kind), self.profile, self.run)
        if self.dry_run:
            print(dry_run(config).table())
            return 0
        what = "generator that draws layers" if kind is LayerConfig else "generator for holes"
        return train_generator(
            self.run, config, what, self._cutouts, check_inpainter, train_inpainter
        )

    def _cutouts(self, config: InpainterConfig) -> np.ndarray:
        import numpy as np

        from ..data.cutouts import photo_cutouts, pitch_collages, pitch_cutouts
        from ..images import list_photos

        n, size, seed = config.images, config.image_size, config.seed
        near = self.close_ups
        if near is None:
            near = 0.35 if isinstance(self, LayerConfig) else 0.0
        if self.photos is not None:
            from ..segmentation.infer import Segmenter
            from .photos import read_subject

            more = {"crops_per_photo": self.crops_per_photo, "seed": seed}
            images, ways = read_subject(self.photos, max(2 * size, FINE), self.crop, **more)
            finder = Segmenter(self.segmenter) if self.segmenter else Segmenter()
            cutouts = photo_cutouts(images, lambda crop: largest_person(finder(crop)), size)
            print(f"the subject was found in {len(cutouts)} of {len(images)} crops ({ways})")
            return cutouts
        if self.backgrounds is None:
            return pitch_cutouts(n, size, seed, self.kit, near)
        pasted = round((0.5 if self.collages is None else self.collages) * n)
        backgrounds = list_photos([self.backgrounds])
        parts = []
        if pasted:
            drawn = pitch_collages(backgrounds, pasted, size, seed + 1, self.kit, near)
            parts.append(drawn)
        if pasted < n:
            parts.append(pitch_cutouts(n - pasted, size, seed, self.kit, near))
        print(f"{n} images, {pasted} of them in squares of {len(backgrounds)} photos")
        return np.concatenate(parts)


@dataclass(frozen=True, kw_only=True)
class TrainInpainter(InpainterConfig, Subject):
    """Train a generator to fill holes with the subject and its surroundings.

    Begins with a generator of the subject (--start). Run the same command again to go on with it;
    its files are in runs/RUN.
    """


@dataclass(frozen=True, kw_only=True)
class TrainLayer(LayerConfig, Subject):
    """Train a generator that draws the subject as a layer: what `replace` uses.

    What is around the subject is then filled from the photo itself. Run the same command again to
    go on with it; its files are in runs/RUN.
    """
