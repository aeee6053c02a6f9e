"""Commands that measure: a generator, two folders, a segmenter; and the weights they need."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

if TYPE_CHECKING:
    import numpy as np

    from ..consistency.denoiser import Denoiser

Flag = FlagCreatePairsOff[bool]
FolderA = Annotated[Path, arg(metavar="DIR_A")]
FolderB = Annotated[Path, arg(metavar="DIR_B")]
PITCH = "pitch"  # in place of a folder: the procedural world
SHIPPED = "shipped"
HELD_OUT = 217  # photos of the procedural world that a generator never saw: a fifth of 1,087


@dataclass(frozen=True, kw_only=True)
class EvaluateGenerator:
    """Measure a generator: KID, FID, copies; JSON and a page with pictures.

    Draws the same images each time (a fixed bank of latents), and compares them with the photos of
    the training and with photos held out. Features of photos are kept: the second time is faster.
    """

    run: str = SHIPPED  # name of a run: its averaged weights as far as it has come; or shipped
    model: Path | None = None  # file of a generator, instead of a run
    real: str = PITCH  # folder of the photos it learnt from; pitch: the procedural world
    # folder of photos it never saw, or pitch; None: other scenes of pitch, the test split of a
    # folder that `messi data subject` made, of others none
    holdout: str | None = None
    n: int = 1087  # images to draw, and scenes of pitch to compare with
    steps: tuple[int, ...] = (1, 2, 4)  # numbers of network calls, each measured for itself
    extractor: str = "inception"  # inception, random-inception or random-conv
    crop: Literal["auto", "face", "person", "centre"] = "auto"  # of folders, as in the training
    out: Path | None = None  # folder for the report; None: runs/evaluations/NAME
    budget_seconds: float | None = None  # draw fewer images rather than take much longer
    seed: int = 0  # of the bank of latents
    batch: int = 16  # images at once in the extractor
    no_flips: Flag = False  # look for mirrored copies in pixels only: faster the first time

    def __call__(self) -> int:
        from .. import runs
        from ..consistency.bank import Bank
        from ..consistency.watch import MIDDLE
        from ..evaluation.generator import evaluate_generator
        from ..evaluation.page import as_text, save_report
        from ..outputs import check_writable

        if self.budget_seconds is not None and self.budget_seconds <= 0:
            raise ValueError(f"budget-seconds={self.budget_seconds}: give a positive number")
        denoiser, about, notes = self._generator()
        name = self.model.stem if self.model is not None else self.run
        if "step" in about:
            name += f"-{about['step']:08d}"
        out = self.out or runs.runs_dir() / "evaluations" / name
        check_writable(out)
        seed, scenes = denoiser.config.seed, min(self.n, denoiser.config.images)
        real, real_crop = _photos(self.real, "train", denoiser.image_size, self.crop, scenes, seed)
        holdout, unseen = self._holdout(denoiser.image_size, seed)
        # Two steps as the training measures them; others on the grid of `messi sample`.
        bank = Bank(denoiser, self.seed, {2: (denoiser.sigma_max, MIDDLE)})
        result = evaluate_generator(
            bank,
            real,
            holdout,
            n=self.n,
            steps=self.steps,
            extractor=self.extractor,
            seconds=self.budget_seconds,
            batch=self.batch,
            flips=not self.no_flips,
        )
        result["warnings"] = notes + result["warnings"]
        result = {"title": f"{name} in {self.extractor}"} | result
        result |= {
            "generator": about,
            "levels": {count: bank.levels(count) for count in self.steps},
            "real": {"source": self.real, "crop": real_crop},
            "holdout": unseen,
            "seeds": {"latents": self.seed, "data": seed},
            "versions": _versions(),
            "device": str(runs.device()),
        }
        print(f"features: {result['weights']}, SHA-256 {result['weights_sha256']}")
        print(f"photos: {self.real}, {real_crop}\n\n{as_text(result)}")
        for warning in result["warnings"]:
            print(f"warning: {warning}", file=sys.stderr)
        written, page = save_report(result, out)
        print(f"numbers in {written}, with pictures in {page}")
        return 0

    def _generator(self) -> tuple[Denoiser, dict, list[str]]:
        """The generator, what to write of it, and what to warn of."""
        from ..consistency.denoiser import check_draws, load_denoiser
        from ..consistency.recipes import stage_of
        from ..consistency.train import load_run
        from ..runs import runs_dir
        from ..training.checkpoints import checksum

        if self.model is not None and self.run != SHIPPED:
            raise ValueError("--run and --model both name a generator: give one of them")
        about: dict = {"run": self.run}
        notes = []
        if self.model is not None:
            denoiser, about = load_denoiser(self.model), {"model": self.model.name}
        elif self.run == SHIPPED:
            denoiser = load_denoiser()
        else:
            denoiser, step = load_run(runs_dir() / self.run)
            about["step"] = step
            if stage_of(denoiser.config, step - 1) < 0:
                notes.append(
                    f"run {self.run} is in its EDM stage at step {step}: a few steps of what is "
                    "no consistency function yet give blurs"
                )
        check_draws(denoiser)
        state = {key: value.cpu() for key, value in denoiser.state_dict().items()}
        about["sha256"] = checksum(state)
        about["parameters"] = sum(p.numel() for p in denoiser.parameters())
        return denoiser, about, notes

    def _holdout(self, size: int, seed: int) -> tuple[np.ndarray | None, dict]:
        """Photos that the generator never saw, if there are any, and where they are from."""
        from ..data.subject import CURATED

        source = self.holdout
        curated = all((Path(self.real) / name).is_file() for name in CURATED)
        if source is None and (self.real == PITCH or curated):
            source = self.real
        if source is None:
            return None, {"source": None}
        photos, crop = _photos(source, "test", size, self.crop, HELD_OUT, seed + 1)
        return photos, {"source": source, "crop": crop}


def _photos(
    source: str, part: str, size: int, crop: str, n: int, seed: int
) -> tuple[np.ndarray, str]:
    """Photos uint8 (N, size, size, 3), all different, and how they were cropped.

    Args:
        source: a folder, or "pitch".
        part: "train" or "test" of a folder that `messi data subject` made; of others all photos.
        n, seed: number and seed of the procedural photos.
    """
    from ..data.subject import photos_of, pitch_subject

    if source == PITCH:
        return pitch_subject(n, size, seed), f"{n} scenes of seed {seed}, drawn at {size} px"
    from ..evaluation.frechet import check_distinct
    from .photos import read_subject

    # A folder as such for the training part: its crops are then those that the training made.
    photos = Path(source) if part == "train" else photos_of(source, part)
    images, ways = read_subject(photos, size, crop)
    if images.duplicates:
        print(f"{len(images.duplicates)} copies of photos left out", file=sys.stderr)
    check_distinct(images, images.files)
    return images, f"{crop} ({ways}): square windows, never stretched, antialiased to {size} px"


def _versions() -> dict[str, str]:
    from importlib.metadata import version
    from platform import python_version

    packages = ("messi-anything", "torch", "numpy", "pytorch-fid", "pillow")
    return {"python": python_version()} | {name: version(name) for name in packages}


@dataclass(frozen=True, kw_only=True)
class EvaluateFid:
    """Measure FID and KID between two folders; JSON on standard output."""

    dir_a: Positional[FolderA]  # folder of images, for instance drawn ones
    dir_b: Positional[FolderB]  # folder to compare with, for instance real ones
    extractor: str = "inception"  # inception, random-inception or random-conv
    size: int | None = None  # crop to squares of this side; None: as they are, or the smallest
    batch: int = 16  # images at once in the extractor

    def __call__(self) -> int:
        from ..evaluation.report import evaluate_folders
        from ..runs import to_json

        result = evaluate_folders(self.dir_a, self.dir_b, self.extractor, self.size, self.batch)
        for warning in result.pop("warnings"):
            print(f"warning: {warning}", file=sys.stderr)
        print(json.dumps(to_json(result), indent=2))
        return 0


@dataclass(frozen=True, kw_only=True)
class EvaluateSegmentation:
    """Measure a segmenter on photos annotated in COCO's format.

    Prints IoU and Boundary IoU at the photos' own resolution, over all and by groups.
    """

    annotations: Path  # COCO instances file
    images: Path  # folder of its photos
    weights: Path | None = None  # segmenter, or maskrcnn; None: the one that ships
    json: Path | None = None  # file for the numbers
    split: Path | None = None  # splits.json of `messi data people`; measures its part
    part: Literal["train", "val", "test"] = "test"  # of --split
    max_people: int = 0  # leave out photos with more people, and crowds; 0: any number
    limit: int | None = None  # only the first photos
    size: int | None = None  # longest side for the network, in pixels; None: as it was made
    threshold: float = 0.5  # probability above which a pixel belongs to a person
    refine: Flag = False  # let the edges follow those of the photo (guided filter)
    mirror: Flag = False  # look at the mirrored photo too: a little better, twice the time

    def __call__(self) -> int:
        from ..data.coco import load_coco_people
        from ..data.splits import read_split
        from ..outputs import check_writable
        from ..runs import atomic_write, to_json
        from ..segmentation.evaluate import as_table, evaluate_photos
        from ..segmentation.instances import open_segmenter

        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit={self.limit}: give a positive number")
        if self.json is not None:
            check_writable(self.json.parent)
        ids = read_split(self.split, self.part) if self.split is not None else None
        photos = load_coco_people(self.annotations, self.images, self.max_people, ids=ids)
        segmenter = open_segmenter(
            self.weights, self.threshold, size=self.size, refine=self.refine, mirror=self.mirror
        )
        result = evaluate_photos(segmenter, photos[: self.limit])
        print(as_table(result))
        if self.json is not None:
            result |= {
                "annotations": self.annotations.name,
                "weights": self.weights.name if self.weights else "shipped",
                "part": self.part if self.split else "all",
                "size": getattr(segmenter, "size", None),
                "refine": self.refine,
                "mirror": self.mirror,
            }
            atomic_write(self.json, json.dumps(to_json(result), indent=2) + "\n")
        return 0


@dataclass(frozen=True, kw_only=True)
class FetchWeights:
    """Download the Inception weights, where there is a network.

    Into the cache of torch hub ($TORCH_HOME), where torch-fidelity finds them too.
    """

    def __call__(self) -> int:
        from ..evaluation.weights import fetch

        _tell(fetch())
        return 0


@dataclass(frozen=True, kw_only=True)
class CheckWeights:
    """Say which Inception weights are here, and whether they are the right ones.

    Needs no network. Exit status 2: they are missing or damaged.
    """

    weights: Path | None = None  # this file; None: those that an evaluation would take

    def __call__(self) -> int:
        from ..evaluation.weights import check

        _tell(check(self.weights))
        return 0


def _tell(found: object) -> None:
    print(f"source   {found.source}\npath     {found.path}, {found.size:,} bytes")
    print(f"SHA-256  {found.sha256}\nok: the Inception of record")
