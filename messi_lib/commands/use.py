"""Commands that use what there is: photos, samples, data, notebooks, this machine."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

Flag = FlagCreatePairsOff[bool]
# tyro would write "(default: )" for none.
Names = Annotated[tuple[str, ...], arg(metavar="[NAME ...]", help_behavior_hint="(default: all)")]
Levels = Annotated[tuple[float, ...], arg(help_behavior_hint="(default: as many as --steps)")]


def _empty_folder(out: Path) -> Path:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not an empty folder: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    return out


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw images from a generator.

    Writes OUT/000001.png ..., and the first 64 together as OUT_sheet.png.
    """

    out: Path  # new folder for the images
    n: int = 64  # how many
    steps: int = 2  # noise levels an image passes: network calls, twice as many for heun and dpm2
    sigmas: Levels = ()  # these levels instead, descending: 80 0.8
    seed: int = 0  # of the noise: another one, other images
    run: str | None = None  # draw from this run, as far as it has come; None: the one that ships
    model: Path | None = None  # file of a generator, instead of --run
    # multistep: for consistency functions; the others solve the ODE of a run in its EDM stage
    sampler: Literal["multistep", "euler", "heun", "dpm2", "ancestral"] = "multistep"
    batch: int = 64  # images drawn at once

    def __call__(self) -> int:
        from .. import images, runs
        from ..consistency.denoiser import check_draws, load_denoiser
        from ..consistency.ode import sample_ode
        from ..consistency.sampling import check_sigmas, sample_multistep, step_sigmas
        from ..consistency.train import load_run
        from ..training.optimizer import drawing_autocast

        if self.run is not None and self.model is not None:
            raise ValueError("--run and --model both name a generator: give one of them")
        if self.n < 1 or self.batch < 1:
            raise ValueError(f"n={self.n}, batch={self.batch}: both must be at least 1")
        if self.run is not None:
            denoiser, step = load_run(runs.runs_dir() / self.run)
            print(f"run {self.run} after {step} steps")
        else:
            denoiser = load_denoiser(self.model)
        check_draws(denoiser)
        draw = sample_multistep
        if self.sampler != "multistep":
            draw = functools.partial(sample_ode, solver=self.sampler)
        sigmas = check_sigmas(self.sigmas or step_sigmas(self.steps, denoiser), denoiser)
        out = _empty_folder(self.out)
        place = next(denoiser.parameters()).device
        drawn = []
        for start in range(0, self.n, self.batch):
            generator = runs.seed_generator(self.seed, "sample", start)
            count = min(self.batch, self.n - start)
            with drawing_autocast(denoiser.config.precision, place):
                drawn += draw(denoiser, count, sigmas, generator).cpu().unbind()
            for number in range(start, start + count):
                images.write_png(images.to_uint8(drawn[number]), out / f"{number + 1:06d}.png")
            print(f"{start + count}/{self.n} images", flush=True)
        import torch

        sheet = out.with_name(out.name + "_sheet.png")
        images.write_png(images.grid(torch.stack(drawn[:64]), scale=2), sheet)
        print(f"images in {out}, together in {sheet}")
        return 0


@dataclass(frozen=True, kw_only=True)
class DataPitch:
    """Draw photos of the procedural world.

    People with exact masks (OUT/images and OUT/instances.json in COCO format), or photos of one
    recurring subject.
    """

    kind: Literal["people", "subject"]  # scenes with masks, or photos of the number 10
    n: int  # how many images
    out: Path  # new folder
    size: int = 256  # side in pixels
    seed: int = 0  # of the world: another one, other images
    kit: str | None = None  # subject: one shirt, sky, blaugrana or pink; None: all of them

    def __call__(self) -> int:
        from ..data import pitch

        if self.kind == "people":
            if self.kit is not None:
                raise ValueError("--kit is for --kind subject: leave it out")
            written = pitch.write_people(self.out, self.n, size=self.size, seed=self.seed)
        else:
            written = pitch.write_subject(
                self.out, self.n, size=self.size, seed=self.seed, kit=self.kit
            )
        print(f"{self.n} images: {written}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Notebooks:
    """Run notebooks without a browser.

    Each leaves a folder in runs/notebooks: the executed notebook, parameters, log and times.
    Relative paths in --set are relative to notebooks/. With --run, the same command again goes on
    at the first notebook that is not done.
    """

    names: Positional[Names] = ()  # 02, 02_segmentation, solutions, or a path
    profile: str  # smoke, laptop, overnight or gpu
    set: UseAppendAction[tuple[str, ...]] = ()  # name=value (JSON or text), once per parameter
    run: str | None = None  # name of the folder, in which to go on; None: a new one for each call
    save: Flag = False  # write outputs back into notebooks/
    dry_run: Flag = False  # only print what would be run

    def __call__(self) -> int:
        from ..notebook_runner import parse_settings, run_notebooks

        return run_notebooks(
            self.names,
            self.run,
            profile=self.profile,
            settings=parse_settings(self.set),
            save=self.save,
            dry_run=self.dry_run,
        )


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Show the whole journey: pictures and a report in runs/demo."""

    profile: str  # smoke, laptop, overnight or gpu

    def __call__(self) -> int:
        from ..notebook_runner import demo

        return demo(profile=self.profile)


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Check this machine and say what to repair."""

    def __call__(self) -> int:
        from ..doctor import doctor

        return doctor()
