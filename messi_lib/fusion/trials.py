"""The study itself: arms x seeds, each a run in a folder of its own, measured on held-out photos.

The same call again goes on where it stopped: a finished run is read, an unfinished one resumed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..consistency.train import starting
from ..images import to_uint8
from ..profiles import FusionStudyConfig
from ..runs import MAY_CHANGE, Run, atomic_write, read_stats, seed_generator, to_json
from ..segmentation.model import PersonSegmenter
from ..training.checkpoints import checksum
from ..training.loop import train
from ..training.sampler import PositionSampler
from .arms import Arm, Tools, arm_loss, arm_of, build, fill
from .conditioned import reading_blocks
from .sources import latents_from

METRICS = ("hole", "seam")


class Photos(NamedTuple):
    """Images (N, 3, S, S) in [-1, 1] and their holes, bool (N, 1, S, S)."""

    images: Tensor
    holes: Tensor


def check_study(config: FusionStudyConfig) -> None:
    """Refuse a study that cannot be done, before anything is written.

    Raises:
        ValueError: unknown arms or metrics, a primary comparison whose arms are missing, no seeds.
    """
    for name in (*config.arms, *config.primary):
        arm_of(name)
    if "none" not in config.arms or set(config.primary) - set(config.arms):
        raise ValueError(
            f"arms={config.arms}: add 'none' and both arms of primary={config.primary}"
        )
    if (config.module, config.source) != ("tokens", "context"):
        raise ValueError("module and source are what the arms say: leave them, and choose arms")
    if set(config.metrics) - set(METRICS) or not config.metrics:
        raise ValueError(f"metrics={config.metrics}: use some of {', '.join(METRICS)}")
    if config.seeds < 1 or config.held_out < 8:
        raise ValueError(f"seeds={config.seeds}, held_out={config.held_out}: give 1 and 8, or more")


def run_study(
    config: FusionStudyConfig,
    folder: Path,
    learnt: Photos,
    held_out: Photos,
    segmenter: PersonSegmenter,
    tools: Tools,
    *,
    quiet: bool = False,
) -> list[dict]:
    """Train and measure every arm with every seed; one dictionary each, see `measure`.

    Args:
        folder: of the study; run `ARM-SEED` lies below it, its numbers in `result.json`.

    Raises:
        ValueError: as `check_study`; a folder that was made with other photos, networks or
            settings.
    """
    check_study(config)
    _check_inputs(folder, config, learnt, held_out, segmenter)
    encode = _Encoder(config, segmenter, learnt, held_out)
    results = []
    for name, alone in _runs(config):
        stored = _read(folder, name, alone)
        if stored is None:
            at = folder / f"{name}-{alone.seed}"
            done = _trial(name, alone, at, learnt, held_out, encode, tools, quiet)
            if done is None:
                return results  # somebody asked to stop; the state is saved
            stored = to_json({"arm": name, "seed": alone.seed, "config": _fixed(alone), **done})
            atomic_write(at / "result.json", json.dumps(stored) + "\n")
        results.append(stored)
    return results


def stored_results(config: FusionStudyConfig, folder: Path) -> list[dict] | None:
    """What `run_study` returned for this configuration; None if some run is not finished."""
    found = [_read(folder, name, alone) for name, alone in _runs(config)]
    return None if None in found else found


def _runs(config: FusionStudyConfig) -> Iterator[tuple[str, FusionStudyConfig]]:
    """Every arm with every seed, and its configuration."""
    for seed in range(config.seed, config.seed + config.seeds):
        for name in config.arms:
            # What is compared with what is a matter of the whole study, not of one run.
            more = {"arms": (name,), "primary": (name, name), "metrics": METRICS, "seeds": 1}
            yield name, dataclasses.replace(config, seed=seed, **more)


def _fixed(alone: FusionStudyConfig) -> dict:
    """What of a run's configuration its numbers depend on."""
    fields = to_json(alone)
    return {k: v for k, v in fields.items() if k == "steps" or k not in MAY_CHANGE}


def _read(folder: Path, name: str, alone: FusionStudyConfig) -> dict | None:
    path = folder / f"{name}-{alone.seed}" / "result.json"
    stored = json.loads(path.read_text()) if path.is_file() else None
    return stored if stored and stored["config"] == _fixed(alone) else None


def _check_inputs(
    folder: Path,
    config: FusionStudyConfig,
    learnt: Photos,
    held_out: Photos,
    segmenter: PersonSegmenter,
) -> None:
    """Photos and networks fit each other and are those that the study began with, or ValueError."""
    denoiser = starting(config.start)
    if denoiser.condition_channels:
        raise ValueError(f"start={config.start!r} fills holes: give a generator that draws")
    maps = len(segmenter.encoder.channels)
    if not 0 <= config.level < maps:
        raise ValueError(f"level={config.level}: the encoder has maps 0 to {maps - 1}")
    reading_blocks(denoiser, config.rates)  # refuses rates that there are not
    inputs = {"segmenter": segmenter.state_dict(), "generator": denoiser.state_dict()}
    inputs |= {"photos": learnt._asdict(), "held-out photos": held_out._asdict()}
    sums = {
        name: checksum({key: value.cpu() for key, value in tensors.items()})[:16]
        for name, tensors in inputs.items()
    }
    path = folder / "inputs.json"
    before = json.loads(path.read_text()) if path.is_file() else sums
    changed = [name for name in sums if sums[name] != before.get(name)]
    if changed:
        raise ValueError(
            f"{folder} was made with other inputs ({', '.join(changed)}): choose another run name "
            "or delete the folder"
        )
    atomic_write(path, json.dumps(sums, indent=2) + "\n")


class _Encoder:
    """Latents of both sets of photos by source, each computed once."""

    def __init__(self, config, segmenter, learnt: Photos, held_out: Photos):
        self.config, self.photos = config, (learnt, held_out)
        self.segmenter = segmenter
        self.channels = segmenter.encoder.channels[config.level]
        self.known: dict[tuple, tuple[Tensor, Tensor]] = {}

    def __call__(self, arm: Arm) -> tuple[Tensor, Tensor]:
        key = arm.source, arm.control == "random"
        if key not in self.known:
            segmenter = self.segmenter
            if key[1]:
                fresh = dataclasses.replace(segmenter.config, pretrained=False, pretrained_file="")
                torch.manual_seed(self.config.seed)
                segmenter = PersonSegmenter(fresh).to(next(segmenter.parameters()).device)
            made = (latents_from(arm.source, segmenter, *p, self.config.level) for p in self.photos)
            self.known[key] = tuple(made)
        learnt, held_out = self.known[key]
        if arm.control == "shuffled":  # always the same other photo's, in training and use
            return learnt.roll(1, 0), held_out.roll(1, 0)
        return learnt, held_out


def _trial(
    name: str, config: FusionStudyConfig, folder: Path, learnt: Photos, held_out: Photos,
    encode: _Encoder, tools: Tools, quiet: bool,
) -> dict | None:  # fmt: skip
    """One arm with one seed, trained and measured; None when it was asked to stop before."""
    arm = arm_of(name)
    latents, new_latents = encode(arm)
    model = build(arm, config, latents.shape[1], encode.channels)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    openings = {}
    if arm.kind == "none":
        trained, model = 0, model.eval().requires_grad_(False)
    else:
        if arm.kind != "reads":
            config = dataclasses.replace(config, lr=config.tune_lr)
        if not quiet:
            print(f"{name}, seed {config.seed}: {trained:,} parameters train", flush=True)
        sampler = PositionSampler(len(learnt.images), config.batch, config.seed)

        def batch_at(step: int, share: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
            index = sampler(step)[share]
            return learnt.images[index], learnt.holes[index], latents[index]

        def loss_fn(model, batch, generator, step):
            return arm_loss(arm, config, tools, model, batch, generator)

        run = Run(f"{name}-{config.seed}", config, folder=folder)
        result = train(run, model, loss_fn, batch_at, config, quiet=quiet)
        if result.step < config.steps:
            return None
        model.load_state_dict(result.ema)
        model.eval().requires_grad_(False)
        lines = read_stats(folder)
        names = [name for name in lines[-1] if name.startswith("opening.")]
        openings = {name: [line[name] for line in lines] for name in names}
    numbers = measure(arm, config, tools, model, held_out, new_latents)
    return {"parameters": trained, "openings": openings, **numbers}


def measure(
    arm: Arm, config: FusionStudyConfig, tools: Tools, model: nn.Module, photos: Photos,
    latents: Tensor,
) -> dict[str, list[float]]:  # fmt: skip
    """Numbers of each held-out photo, whose own content in the hole is the truth.

    Returns:
        "hole", root mean square error in the hole, and "seam". For arms that read, the swap probe:
        "swapped", the error with another photo's latents, and "donor" and "donor_swapped", the
        distance in the hole to that other photo with own and with its latents: when the second is
        smaller, the latents tell what the other photo shows.
    """

    def filled(condition: Tensor) -> Tensor:
        noise = seed_generator(config.seed, "held out")
        return fill(arm, config, tools, model, (*photos, condition), noise)

    ours = filled(latents)
    found = {"hole": hole_distance(ours, photos.images, photos.holes)}
    pixels, holes = to_uint8(ours), photos.holes[:, 0].numpy()
    found["seam"] = torch.tensor([tools.seam(p, h) for p, h in zip(pixels, holes)])
    if arm.kind == "reads" and arm.control != "shuffled":  # that one has the donor's already
        donors, swapped = photos.images.roll(1, 0), filled(latents.roll(1, 0))
        found["swapped"] = hole_distance(swapped, photos.images, photos.holes)
        found["donor"] = hole_distance(ours, donors, photos.holes)
        found["donor_swapped"] = hole_distance(swapped, donors, photos.holes)
    return {name: values.tolist() for name, values in found.items()}


def hole_distance(ours: Tensor, theirs: Tensor, holes: Tensor) -> Tensor:
    """Root mean square difference inside each hole, (N,)."""
    square = torch.where(holes, (ours - theirs).square(), 0.0).sum((1, 2, 3))
    return (square / (ours.shape[1] * holes.sum((1, 2, 3)))).sqrt()
