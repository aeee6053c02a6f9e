"""Training of a generator on photos of one subject.

The default recipe is an EDM stage, then easy consistency tuning, in one network and one run: no
teacher, no target copy, no perceptual network. A run that is stopped in its first stage is still a
diffusion model, and its Heun samples are the quality that the second stage can hope for.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from .. import images as pixels
from ..profiles import ConsistencyConfig
from ..runs import Run, device, to_json
from ..training.budget import Budget, budget, step_bytes
from ..training.checkpoints import newest_average, save_weights
from ..training.distributed import current
from ..training.ema import PowerEMA
from ..training.gradients import LossFn, NonFiniteLoss
from ..training.loop import TrainResult, train
from ..training.sampler import PositionSampler
from .augment import Augmentation
from .denoiser import Denoiser, build_denoiser, config_from_json, load_denoiser
from .recipes import Recipe, check_objective, stage_of
from .watch import Watch

LABELLED = "label_embed.weight"
# Fields of a configuration that decide which weights fit.
ARCHITECTURE = {
    "image_size", "patch", "channels", "gate", "condition_channels", "model_channels",
    "channel_mult", "num_res_blocks", "attention_resolutions", "num_head_channels",
    "use_scale_shift_norm", "resblock_updown",
}  # fmt: skip

FIRST = "unet.input_blocks.0.0.weight"  # (out, in, 3, 3) of the first convolution


def make_batches(config: ConsistencyConfig, images: np.ndarray) -> Callable[..., Tensor]:
    """`step -> (batch, 3, S, S)` in [-1, 1], flipped left-right at random when `config.flip`.

    `(step, share)` gives a slice of the same batch, for one of several processes.

    With `config.augment`, flips are left to the augmentation, which tells the network of them.

    Raises:
        ValueError: images of another size, or fewer than a batch.
    """
    expected = (config.image_size, config.image_size, 3)
    if images.ndim != 4 or images.shape[1:] != expected or images.dtype != np.uint8:
        raise ValueError(
            f"images of shape {images.shape} and type {images.dtype}: expected "
            f"uint8 (N, {expected[0]}, {expected[1]}, 3)"
        )
    sampler = PositionSampler(len(images), config.batch, config.seed)

    def batch_at(step: int, share: slice = slice(None)) -> Tensor:
        batch = images[sampler(step)[share].numpy()]
        if config.flip and not config.augment:
            coin = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
            flipped = (torch.rand(config.batch, generator=coin) < 0.5)[share]
            for index in flipped.nonzero()[:, 0].tolist():  # as bytes, ten times faster than later
                batch[index] = cv2.flip(batch[index], 1)
        return pixels.to_tensor(batch)

    return batch_at


def check_wishes(config: ConsistencyConfig, images: np.ndarray) -> None:
    """Refuse what `train_consistency` would refuse, before a run's folder is made.

    Raises:
        ValueError, FileNotFoundError: as `train_consistency`.
    """
    check_objective(config.objective, bool(config.teacher))
    if config.condition_channels:
        raise ValueError(
            f"condition_channels={config.condition_channels}: a generator that draws is told "
            "nothing; train one that fills holes with messi train inpainter"
        )
    if config.channels != 3:
        raise ValueError(
            f"channels={config.channels}: a generator that draws images has 3; one that draws "
            "layers is trained with messi train layer"
        )
    for file in (config.teacher, config.start):
        if file not in ("", "shipped") and not Path(file).is_file():
            raise FileNotFoundError(f"{file} is missing: give a generator.safetensors")
    make_batches(config, images)


def make_loss(
    config: ConsistencyConfig,
    recipe: Recipe,
    told: Callable[[Any], tuple[Tensor, dict[str, Tensor]]] | None = None,
) -> LossFn:
    """The loss function of the training loop: augmentation, then the recipe's objective.

    Args:
        told: takes a batch apart into its images and what the denoiser is told of them, by the
            names of its arguments; None: the batch is its images, nothing is told.

    Raises (when called):
        NonFiniteLoss: with the noise levels of the images whose loss is not finite.
    """
    warp = Augmentation(config.augment) if config.augment else None

    def loss_fn(
        denoiser: Denoiser, batch: Any, generator: torch.Generator, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        place = next(denoiser.parameters()).device
        batch, condition = (batch, {}) if told is None else told(batch)
        batch = batch.to(place)
        condition = {name: values.to(place) for name, values in condition.items()}
        if warp is not None:
            batch, condition["labels"] = warp(batch, generator)
        loss, sigma = recipe(denoiser, batch, generator, step, **condition)
        broken = ~torch.isfinite(loss)
        if broken.any():
            levels = ", ".join(f"{level:.4g}" for level in sigma[broken][:5].tolist())
            raise NonFiniteLoss(f"the loss is {loss[broken][0].item()} at sigma {levels}")
        loss = loss.mean()
        stage = stage_of(config, step)
        if config.objective != "ect":
            return loss, {config.objective: float(loss.detach())}
        if stage < 0:
            return loss, {"edm": float(loss.detach())}
        return loss, {"ect": float(loss.detach()), "stage": float(stage)}

    return loss_fn


def starting(start: str, place: torch.device | None = None) -> Denoiser:
    """The generator to start with: "shipped" for the one in the repository, else a file's."""
    return load_denoiser(None if start == "shipped" else start, place)


def begin_with(denoiser: Denoiser, start: str) -> None:
    """Copy trained weights into a new denoiser of the same architecture.

    One that takes a condition may begin with one that takes none: what the condition adds to the
    first convolution begins at zero, so that at first it changes nothing.

    Args:
        start: file of a generator, or "shipped" for the one in the repository.

    Raises:
        FileNotFoundError: no such file. ValueError: a generator of another architecture.
    """
    trained = starting(start)
    theirs, ours = trained.state_dict(), denoiser.state_dict()
    compared = set(ARCHITECTURE)
    if denoiser.condition_channels and not trained.condition_channels:
        further = denoiser.condition_channels * denoiser.patch**2
        theirs[FIRST] = F.pad(theirs[FIRST], (0, 0, 0, 0, 0, further))
        compared.remove("condition_channels")
    # Without labels that one changes nothing: it begins at zero here, and may be left out there.
    if LABELLED not in ours:
        theirs.pop(LABELLED, None)
    extra = ours.keys() - theirs.keys()
    fits = all(name in ours and ours[name].shape == value.shape for name, value in theirs.items())
    if not fits or extra - {LABELLED}:
        differing = [
            f"{name}={getattr(trained.config, name)}"
            for name in sorted(compared)
            if getattr(trained.config, name) != getattr(denoiser.config, name)
        ]
        raise ValueError(
            f"start={start!r} is of another architecture: train with {', '.join(differing)}"
        )
    denoiser.load_state_dict(theirs, strict=False)


def train_consistency(
    run: Run,
    config: ConsistencyConfig,
    images: np.ndarray,
    *,
    on_log: Callable[[dict, Denoiser, PowerEMA], None] | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train (or go on with) a generator on uint8 images (N, S, S, 3) and export its EMA weights.

    The export, `run.folder/generator.safetensors`, is what `load_denoiser` reads.

    Raises:
        ValueError: images that do not fit (see `make_batches`), an objective that is unknown or
            lacks its teacher, a loss that is not finite. FileNotFoundError: no such teacher.
    """
    ranks = current()  # before `device`: each process has its own
    torch.manual_seed(config.seed)
    denoiser = build_denoiser(config).to(device())
    if config.start:
        begin_with(denoiser, config.start)
    teacher = load_denoiser(config.teacher, device()) if config.teacher else None
    recipe = Recipe(config, denoiser, teacher)
    ranks.agree("the photos", hashlib.sha256(images.tobytes()).hexdigest()[:16])
    watch = ranks.together(lambda: Watch(run, config, images) if ranks.main else None)

    def log(line: dict, denoiser: Denoiser, ema: PowerEMA) -> None:
        watch(line, denoiser, ema)
        if on_log is not None:
            on_log(line, denoiser, ema)

    batches = make_batches(config, images)
    return train_and_export(run, config, recipe, denoiser, batches, on_log=log, quiet=quiet)


def train_and_export(
    run: Run,
    config: ConsistencyConfig,
    recipe: Recipe,
    denoiser: Denoiser,
    batches: Callable[..., Any],
    *,
    told: Callable[[Any], tuple[Tensor, dict[str, Tensor]]] | None = None,
    on_log: Callable[[dict, Denoiser, PowerEMA], None],
    quiet: bool = False,
) -> TrainResult:
    """The training loop with a recipe, then `run.folder/generator.safetensors` by the main process.

    Args:
        batches: `step -> batch`, see `training.loop.train`.
        told: takes a batch apart, see `make_loss`.
    """
    result = train(
        run,
        denoiser,
        make_loss(config, recipe, told),
        batches,
        config,
        on_log=on_log,
        after_step=recipe.after_step,
        slow={} if recipe.target is None else {"target": recipe.target},
        export=lambda path, weights: export_denoiser(path, config, weights, {"run": run.name}),
        quiet=quiet,
    )
    if current().main:
        notes = {"steps": str(result.step)}
        export_denoiser(run.folder / "generator.safetensors", config, result.ema, notes)
    return result


def stored_config(folder: Path) -> ConsistencyConfig:
    """The configuration of a run's folder.

    Raises:
        FileNotFoundError: no run there. ValueError: a run of another kind.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: is the run's name right?")
    return config_from_json(path.read_text())


def load_run(folder: Path) -> tuple[Denoiser, int]:
    """The generator of a run as far as it has come, in eval mode, and its step.

    Raises:
        FileNotFoundError, ValueError: as `stored_config` and `newest_average`.
    """
    denoiser = build_denoiser(stored_config(folder))
    weights, step = newest_average(folder)
    denoiser.load_state_dict(weights)
    return denoiser.eval().requires_grad_(False).to(device()), step


def dry_run(config: ConsistencyConfig) -> Budget:
    """What a training would take, from one step without content: seconds, whatever the size.

    The step is one of the objective that costs most memory in this run; bf16 unless
    `config.precision` is "fp32".

    Raises:
        ValueError: a network that cannot be built, an unknown objective.
    """
    return dry_runs(config, [config.checkpoint_rates])[0]


def dry_runs(config: ConsistencyConfig, choices: Sequence[tuple[int, ...]]) -> list[Budget]:
    """As `dry_run`, for several choices of `checkpoint_rates`: the network is built only once."""
    half = config.precision != "fp32"
    copies = {"ct": 1, "cd": 2}.get(config.objective, 0)
    budgets: list[Budget] = []
    with FakeTensorMode():
        denoiser = build_denoiser(config).train()
        objective = "edm" if config.objective == "cd" else config.objective  # needs no teacher
        recipe = Recipe(dataclasses.replace(config, objective=objective), denoiser)

        def loss_of(images: int) -> Tensor:
            batch = torch.zeros(images, *denoiser.shape)
            channels = denoiser.condition_channels
            told = {}
            if channels:
                told["condition"] = torch.zeros(images, channels, *batch.shape[2:])
            generator = torch.Generator().manual_seed(0)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                return recipe(denoiser, batch, generator, config.span - 1, **told).loss.mean()

        for rates in choices:
            denoiser.unet.checkpoint_rates = rates
            made = budget(
                denoiser,
                step_bytes(loss_of, budgets[0].fixed if budgets else None),
                config.microbatch or config.batch,
                optimizer=config.optimizer,
                copies=copies,
                average_on_device=not config.ema_device,
            )
            budgets.append(made)
    return budgets


def averaged(denoiser: Denoiser, ema: dict[str, Tensor]) -> Denoiser:
    """A copy of the denoiser in eval mode that carries the averaged weights."""
    copied = copy.deepcopy(denoiser)
    copied.load_state_dict(ema)
    return copied.eval().requires_grad_(False)


def export_denoiser(
    path: Path, config: ConsistencyConfig, state: dict[str, Tensor], notes: dict[str, str]
) -> Path:
    """Write weights for `load_denoiser`, in half precision, with their configuration.

    Of the files that the training began with, only the names are written.
    """
    names = {field: Path(getattr(config, field)).name for field in ("start", "teacher")}
    config = dataclasses.replace(config, **names)
    metadata = {"kind": "generator", "config": json.dumps(to_json(config)), **notes}
    return save_weights(path, state, metadata)
