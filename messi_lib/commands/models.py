"""Commands that make models: training and export.

A training's options are the fields of its configuration, with the defaults of the chosen profile.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from tyro.conf import FlagCreatePairsOff, Suppress

from ..profiles import ConsistencyConfig, SegmentationConfig, TrainConfig, preset

if TYPE_CHECKING:
    import numpy as np

    from ..training.distributed import Ranks

C = TypeVar("C")
Flag = FlagCreatePairsOff[bool]
VALIDATION_SCENES = 256


def config_of(command: object, config_class: type[C]) -> C:
    """The configuration inside a command that extends it."""
    names = [field.name for field in dataclasses.fields(config_class)]
    return config_class(**{name: getattr(command, name) for name in names})


def planned(config: C, profile: str, run: str) -> C:
    """The configuration with the length that its schedules are made for.

    `--steps` says how far to go now. The plan (`horizon`), unless given, is that of the run so far,
    or the profile's: so 6 steps and then 12 are the same run as 12 at once.
    """
    if config.horizon:
        return config
    from ..runs import runs_dir

    stored = runs_dir() / run / "config.json"
    if stored.is_file() and any(stored.parent.glob("checkpoints/state-*")):
        values = json.loads(stored.read_text())
        horizon = values.get("horizon") or values["steps"]
        if config.steps > horizon and config.lr_schedule == "cosine":
            raise ValueError(
                f"--steps {config.steps} is beyond the {horizon} that run {run!r} was planned for: "
                "its learning rate has come to zero. Choose another run name"
            )
        return dataclasses.replace(config, horizon=horizon)
    return dataclasses.replace(
        config, horizon=max(preset(type(config), profile).steps, config.steps)
    )


def only_the_first_prints(ranks: Ranks) -> None:
    """Of several processes that do the same, one says so; errors are everybody's."""
    if not ranks.main:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - to the end of the process


def train_generator(
    name: str,
    config: ConsistencyConfig,
    what: str,
    images_of: Callable,
    check: Callable,
    train: Callable,
) -> int:
    """What all commands that train a generator do once they have their configuration.

    Args:
        name: of the run. what: is trained, for the last line that is printed.
        images_of: config -> images. check: refuses (config, images). train: (run, config, images).
    """
    from ..runs import Run
    from ..training.distributed import current

    ranks = current()
    only_the_first_prints(ranks)
    with ranks.main_first():
        images = images_of(config)
    check(config, images)
    run = Run(name, config)
    result = train(run, config, images)
    print(outcome(what, run.folder / "generator.safetensors", result.step, config, "--model"))
    return 0


def outcome(kind: str, path: Path, step: int, config: TrainConfig, use: str) -> str:
    """What to tell at the end of a training."""
    if step < config.span:
        plan = f"step {step} of {config.span} planned; --steps {config.span} goes on to the end"
        short = f"a run of another name with --horizon {step} is complete at {step}"
        return f"{kind} so far: {path} ({plan}; {short})"
    return f"{kind}: {path} (use it: messi replace {use} {path} ...)"


@dataclass(frozen=True, kw_only=True)
class TrainSegmentation(SegmentationConfig):
    """Train a person segmenter.

    Run the same command again to go on with it; its files are in runs/RUN.
    """

    encoder_args: Suppress[tuple[tuple[str, object], ...]] = ()
    run: str  # name of the run: its folder in runs/
    profile: str  # smoke, laptop, overnight, gpu, image_a, image_b
    annotations: Path | None = None  # COCO instances file; None: the procedural world
    images_dir: Path | None = None  # folder of its images
    splits: Path | None = None  # splits.json of `messi data people`: train learns, val measures
    val_annotations: Path | None = None  # another COCO file to measure on
    val_images_dir: Path | None = None  # folder of its images; None: --images-dir

    def __call__(self) -> int:
        from ..runs import Run
        from ..segmentation.train import export_segmenter, train_segmentation
        from ..training.distributed import current

        config = planned(config_of(self, SegmentationConfig), self.profile, self.run)
        ranks = current()
        only_the_first_prints(ranks)
        with ranks.main_first():
            dataset, validation = self._data(config)
        run = Run(self.run, config)
        result = train_segmentation(run, config, dataset, validation)
        path = run.folder / "segmenter.safetensors"
        if ranks.main:
            notes = {"run": run.name, "step": result.step}
            export_segmenter(result.model, path, notes, result.ema)
        print(outcome("segmenter", path, result.step, config, "--segmenter"))
        return 0

    def _data(self, config: SegmentationConfig) -> tuple:
        from ..data.people import PeopleDataset, PitchPeople, WithScenes
        from ..data.splits import read_split

        size, seed = config.image_size, config.seed
        if (self.annotations is None) != (self.images_dir is None):
            raise ValueError("--annotations and --images-dir belong together: give both or none")
        if self.annotations is None:
            if self.val_annotations is not None or self.splits is not None:
                raise ValueError(
                    "--val-annotations and --splits need --annotations and --images-dir"
                )
            scenes = min(VALIDATION_SCENES, config.images)
            dataset = PitchPeople(config.images, size, seed)
            return dataset, PitchPeople(scenes, size, seed + 1, train=False)
        if self.splits is not None and self.val_annotations is not None:
            raise ValueError("--splits and --val-annotations exclude each other: give one")

        photos = self.annotations, self.images_dir, size
        ids = read_split(self.splits, "train") if self.splits else None
        dataset = PeopleDataset(*photos, True, seed, ids=ids, paste=config.paste)
        if config.pitch:
            scenes = PitchPeople(config.images, size, seed)
            dataset = WithScenes(dataset, scenes, config.pitch)
        if self.splits is not None:
            held_out = read_split(self.splits, "val")
            return dataset, PeopleDataset(*photos, False, seed, ids=held_out)
        if self.val_annotations is None:
            return dataset, None
        folder = self.val_images_dir or self.images_dir
        return dataset, PeopleDataset(self.val_annotations, folder, size, False, seed)


@dataclass(frozen=True, kw_only=True)
class TrainConsistency(ConsistencyConfig):
    """Train a generator on photos of one subject.

    Run the same command again to go on with it; its files are in runs/RUN.
    """

    run: str  # name of the run: its folder in runs/
    profile: str  # smoke, laptop, overnight, gpu, image_a, image_b
    photos: Path | None = None  # folder of photos; None: the number 10 of the procedural world
    crop: Literal["auto", "face", "person", "centre"] = "auto"  # auto: face, or person, or centre
    crops_per_photo: int = 1  # more: also tighter, wider and moved squares of each photo
    kit: str | None = None  # one shirt of the procedural world; None: all of them
    dry_run: Flag = False  # only say what memory and disk it would take

    def __call__(self) -> int:
        from ..consistency.train import check_wishes, dry_run, train_consistency

        config = planned(config_of(self, ConsistencyConfig), self.profile, self.run)
        if self.dry_run:
            print(dry_run(config).table())
            return 0
        steps = (self._images, check_wishes, train_consistency)
        return train_generator(self.run, config, "generator", *steps)

    def _images(self, config: ConsistencyConfig) -> np.ndarray:
        from ..data.subject import pitch_subject
        from .photos import read_subject

        size, seed = config.image_size, config.seed
        if self.photos is None:
            return pitch_subject(config.images, size, seed, self.kit)
        more = {"crops_per_photo": self.crops_per_photo, "seed": seed}
        images, ways = read_subject(self.photos, size, self.crop, **more)
        print(
            f"{len(images)} crops of {size} px from {len(set(images.files))} photos ({ways}), "
            f"{len(images.duplicates)} copies left out, {len(images.failed)} unreadable"
        )
        return images


@dataclass(frozen=True, kw_only=True)
class ExportSegmentation:
    """Write a run's segmenter as one file for `replace --segmenter`."""

    run: str  # name of the run
    out: Path  # file to write, e.g. segmenter.safetensors
    which: Literal["best", "last"] = "best"  # best on validation (if measured), or newest weights
    image_size: int | None = None  # longest side at which photos are seen; None: as in training

    def __call__(self) -> int:
        from ..runs import runs_dir
        from ..segmentation.infer import config_from_json, load_segmenter
        from ..segmentation.model import PersonSegmenter
        from ..segmentation.train import BEST, export_segmenter
        from ..training.checkpoints import newest_average

        folder = runs_dir() / self.run
        stored = folder / "config.json"
        if not stored.is_file():
            raise FileNotFoundError(f"{stored} is missing: is the run's name right?")
        config = config_from_json(stored.read_text(), str(stored))
        best = folder / "checkpoints" / BEST
        if self.which == "best" and best.is_file():
            model, notes = load_segmenter(best), {"run": self.run, "which": "best"}
            weights = model.state_dict()
        else:
            weights, step = newest_average(folder)
            fresh = dataclasses.replace(config, pretrained=False, pretrained_file="")
            model, notes = PersonSegmenter(fresh), {"run": self.run, "step": str(step)}
        size = self.image_size or config.image_size
        if size != config.image_size and model.encoder.fixed_size:
            raise ValueError(
                f"image_size={size}: {config.encoder} takes images of {config.image_size} px only"
            )
        if size < 32:
            raise ValueError(f"image_size={size}: give 32 pixels or more")
        model.config = dataclasses.replace(config, image_size=size)
        export_segmenter(model, self.out, notes, weights)
        print(f"{self.out}: {self.out.stat().st_size / 1e6:.1f} MB")
        return 0


@dataclass(frozen=True, kw_only=True)
class ExportConsistency:
    """Write a run's generator as one file for `replace --model`, or to share."""

    run: str  # name of the run
    out: Path | None = None  # file to write, e.g. generator.safetensors; with --layout, a folder
    # hub: as on the Hugging Face Hub, with a model card; diffusers: a ConsistencyModelPipeline
    # (needs patch=1 and gate=False)
    layout: Literal["file", "hub", "diffusers"] = "file"
    push: str | None = None  # upload to this repository of the Hub, owner/name
    public: Flag = False  # the repository may be seen by everyone

    def __call__(self) -> int:
        from ..consistency.train import export_denoiser, load_run
        from ..runs import runs_dir

        if (self.out is None) == (self.push is None):
            raise ValueError("give --out, where to write, or --push, where to upload")
        denoiser, step = load_run(runs_dir() / self.run)
        if self.push is not None:
            from ..consistency.hub import push_to_hub

            print(push_to_hub(denoiser, self.push, private=not self.public))
        elif self.layout == "diffusers":
            from ..consistency.interchange import save_pipeline

            save_pipeline(denoiser, self.out)
            print(f"{self.out}: load it with diffusers.ConsistencyModelPipeline.from_pretrained")
        elif self.layout == "hub":
            from ..consistency.hub import save_pretrained

            save_pretrained(denoiser, self.out)
            print(f"{self.out}: load it with messi_lib.consistency.hub.from_pretrained")
        else:
            notes = {"run": self.run, "steps": str(step)}
            export_denoiser(self.out, denoiser.config, denoiser.state_dict(), notes)
            print(f"{self.out}: {self.out.stat().st_size / 1e6:.1f} MB")
        return 0
