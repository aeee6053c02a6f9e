"""Training of a generator that fills holes, on images of a subject that is hidden from it.

The same engine and the same recipe as for drawing (an EDM stage, then easy consistency tuning); the
only news is what the network is told (`conditional.condition_of`). It best begins with a generator
of the subject: at first it then draws what that one draws, whatever it is told.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import images as pixels
from ..consistency.denoiser import Denoiser, build_denoiser
from ..consistency.recipes import Recipe, check_objective
from ..consistency.train import begin_with, train_and_export
from ..profiles import InpainterConfig, LayerConfig, ReplaceConfig
from ..runs import Run, device, seed_generator
from ..training.distributed import current
from ..training.ema import PowerEMA
from ..training.loop import TrainResult
from ..training.sampler import PositionSampler
from .conditional import CHANNELS, condition_of, conditional, conditional_sigmas
from .layer import LAYER, draw_layer, flatten, layer_of
from .self_masks import AROUND, KINDS, self_mask

SHOWN = 8  # images in a sample grid, below them their holes and how they were filled


def check_inpainter(config: InpainterConfig, cutouts: np.ndarray) -> None:
    """Refuse what cannot be trained, before a run's folder is made.

    Raises:
        ValueError: images of another size or without coverage, too few; a recipe that does not fit.
            FileNotFoundError: no such file to start with.
    """
    check_objective(config.objective, False)  # there are no teachers that are told of holes
    if config.start not in ("", "shipped") and not Path(config.start).is_file():
        raise FileNotFoundError(f"{config.start} is missing: give a generator.safetensors")
    if config.condition_channels != CHANNELS or config.augment:
        raise ValueError(
            f"condition_channels={config.condition_channels}, augment={config.augment}: to fill "
            f"holes give {CHANNELS} and 0 (warps would move the hole off its image)"
        )
    wanted = LAYER if isinstance(config, LayerConfig) else 3
    if config.channels != wanted:
        raise ValueError(
            f"channels={config.channels}: messi train layer has {LAYER} (colours and coverage), "
            "messi train inpainter 3"
        )
    if config.fid_every:
        raise ValueError("fid_every: an inpainter is measured by what it fills; leave it at 0")
    expected = (config.image_size, config.image_size, 4)
    if cutouts.ndim != 4 or cutouts.shape[1:] != expected or cutouts.dtype != np.uint8:
        raise ValueError(
            f"images of shape {cutouts.shape} and type {cutouts.dtype}: expected uint8 (N, "
            f"{expected[0]}, {expected[1]}, 4), the last channel the subject's coverage"
        )
    PositionSampler(len(cutouts), config.batch, config.seed)  # refuses too few


def make_batches(config: InpainterConfig, cutouts: np.ndarray) -> Callable[..., tuple]:
    """`step -> (wanted, images (batch, 3, S, S) in [-1, 1], hole bool (batch, 1, S, S))`.

    What is wanted are the images, or with `config.channels=4` the layers of the subject in them.

    `(step, share)` gives a slice of the same batch. Flips and holes are drawn from the seed, the
    step and the image's place in the batch.

    Raises:
        ValueError: see `check_inpainter`; fewer images than a batch.
    """
    check_inpainter(config, cutouts)
    sampler = PositionSampler(len(cutouts), config.batch, config.seed)
    layers = config.channels == LAYER
    shares = AROUND if layers else KINDS

    def batch_at(step: int, share: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
        chosen = sampler(step).numpy()
        places = range(config.batch)[share]
        wanted, images, holes = [], [], []
        for place in places:
            rng = np.random.default_rng([config.seed, step, place])
            cutout, other = cutouts[chosen[place]], cutouts[chosen[place - 1]]
            if config.flip and rng.random() < 0.5:
                cutout = cutout[:, ::-1]
            images.append(cutout[..., :3])
            region, another = cutout[..., 3] > 0, other[..., 3] > 0
            holes.append(self_mask(region, rng, another, shares=shares))
            if layers:
                wanted.append(layer_of(cutout[None])[0])
        image = pixels.to_tensor(np.stack(images))
        hole = torch.from_numpy(np.stack(holes))[:, None]
        return torch.stack(wanted) if layers else image, image, hole

    return batch_at


def told(batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """What `consistency.train.make_loss` makes of a batch: images, and the denoiser's condition."""
    wanted, images, hole = batch
    return wanted, {"condition": condition_of(images, hole)}


def train_inpainter(
    run: Run,
    config: InpainterConfig,
    cutouts: np.ndarray,
    *,
    on_log: Callable[[dict, Denoiser, PowerEMA], None] | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train (or go on with) a generator that fills holes, and export its averaged weights.

    Args:
        cutouts: uint8 (N, S, S, 4), images of the subject with its coverage (`data.cutouts`). Every
            `config.sample_every` steps some of them are shown with holes, and filled.

    The export, `run.folder/generator.safetensors`, is what `load_denoiser` reads.

    Raises:
        ValueError, FileNotFoundError: as `check_inpainter` and `train_consistency`.
    """
    check_inpainter(config, cutouts)
    ranks = current()
    torch.manual_seed(config.seed)
    denoiser = build_denoiser(config).to(device())
    if config.start:
        begin_with(denoiser, config.start)
    recipe = Recipe(config, denoiser)
    ranks.agree("the images", hashlib.sha256(cutouts.tobytes()).hexdigest()[:16])
    shadow: list[Denoiser] = []

    def log(line: dict, denoiser: Denoiser, ema: PowerEMA) -> None:
        step, every = line["step"], config.sample_every
        if every and (step % every == 0 or step == config.steps):
            shadow[:] = shadow or [copy.deepcopy(denoiser).requires_grad_(False).eval()]
            shadow[0].load_state_dict(ema.weights)
            picture = sample_grid(shadow[0], cutouts)
            pixels.write_png(picture, run.samples / f"step-{step:08d}.png")
            run.picture("samples", picture, step)
        if on_log is not None:
            on_log(line, denoiser, ema)

    batches = make_batches(config, cutouts)
    options = {"told": told, "on_log": log, "quiet": quiet}
    return train_and_export(run, config, recipe, denoiser, batches, **options)


def sample_grid(denoiser: Denoiser, cutouts: np.ndarray, steps: int = 0) -> np.ndarray:
    """Three rows: some images, their holes (grey), how they are filled: uint8 (H, W, 3).

    Args:
        steps: network calls; 0: 2, but as many as `replace` makes for layers: 2 are noise there.
    """
    steps = steps or (ReplaceConfig.steps if denoiser.channels == LAYER else 2)
    # From all over: neighbours may be crops of one photo.
    shown = cutouts[np.linspace(0, len(cutouts) - 1, min(SHOWN, len(cutouts))).astype(int)]
    image = pixels.to_tensor(np.ascontiguousarray(shown[..., :3]))
    names = list(AROUND if denoiser.channels == LAYER else KINDS)
    kinds = [names[i % len(names)] for i in range(len(shown))]
    holes = [
        self_mask(c[..., 3] > 0, np.random.default_rng(i), shown[i - 1, ..., 3] > 0, kind)
        for i, (c, kind) in enumerate(zip(shown, kinds))
    ]
    hole = torch.from_numpy(np.stack(holes))[:, None]
    generator = seed_generator(0, "inpainter")
    sigmas = conditional_sigmas(steps, denoiser)
    if denoiser.channels == LAYER:
        layer = draw_layer(denoiser, image, hole, sigmas, generator).cpu()
        filled = flatten(layer, torch.where(hole, 0.0, image))
    else:
        filled = conditional(denoiser, image, hole, sigmas, generator).cpu()
    rows = torch.cat([image, torch.where(hole, 0.0, image), filled])
    return pixels.grid(rows, columns=len(shown), scale=max(64 // denoiser.image_size, 1))
