"""Training of the person segmenter on any set of (image, person, ignore)."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from messi_lib.profiles import SegmentationConfig
from messi_lib.runs import Run, device, to_json
from messi_lib.segmentation.augment import augment
from messi_lib.segmentation.encoder import licence_of
from messi_lib.segmentation.losses import weighted_loss
from messi_lib.segmentation.metrics import Accumulator, iou
from messi_lib.segmentation.model import KIND, PersonSegmenter, upsample
from messi_lib.training.checkpoints import load_weights, save_weights
from messi_lib.training.distributed import current
from messi_lib.training.ema import PowerEMA
from messi_lib.training.loop import TrainResult, train
from messi_lib.training.sampler import PositionSampler

BEST = "best.safetensors"  # in the run's checkpoints: the average with the best validation IoU


class PeopleItems(Protocol):
    """What training needs of a data set (`messi_lib.data.people` holds two)."""

    def __len__(self) -> int: ...

    def item(self, epoch: int, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """image (3,S,S) in [-1,1], person bool (1,S,S), ignore bool (1,S,S)"""
        ...


def batch_of(dataset: PeopleItems, epoch: int, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Items as one batch: image `(B,3,S,S)`, person and ignore bool `(B,1,S,S)`.

    Raises:
        ValueError: items of different sizes.
    """
    items = [dataset.item(epoch, index) for index in indices]
    sizes = sorted({tuple(image.shape[-2:]) for image, _, _ in items})
    if len(sizes) > 1:
        raise ValueError(f"items of different sizes in one batch: {sizes}; resize them to one size")
    image, person, ignore = (torch.stack(part) for part in zip(*items))
    return image, person, ignore


@torch.no_grad()
def evaluate_segmenter(
    model: nn.Module, dataset: PeopleItems, batch: int = 32, threshold: float = 0.5
) -> dict[str, float]:
    """IoU and Boundary IoU at the model's own resolution; see `metrics.Accumulator.result`.

    The model is left in the mode (training or evaluation) in which it came.
    """
    place = next(model.parameters()).device
    was_training = model.training
    model.eval()
    counts = Accumulator()
    for start in range(0, len(dataset), batch):
        indices = list(range(start, min(start + batch, len(dataset))))
        image, person, ignore = batch_of(dataset, 0, indices)
        logits = model(image.to(place))
        if logits.shape[-1] != person.shape[-1]:
            logits = upsample(logits, 4)[..., : person.shape[-2], : person.shape[-1]]
        counts.add(logits.sigmoid().cpu() > threshold, person, ignore)
    model.train(was_training)
    return counts.result()


def train_segmentation(
    run: Run,
    config: SegmentationConfig,
    dataset: PeopleItems,
    validation: PeopleItems | None = None,
    on_log: Callable[[dict, nn.Module, PowerEMA], None] | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train a `PersonSegmenter`; resumes by itself when the run has a state.

    With `validation`, the average of the weights is measured at every save that is also logged (the
    last step always is): the line of that step
    gets `validation_iou` and `validation_boundary_iou`, and the best average is kept in the run's
    `checkpoints/best.safetensors`.

    Args:
        run: its folder takes curves, states and metrics.
        dataset: training items of side `config.image_size`, addressed by (epoch, index).
        on_log: called with (line, model, average) every `config.log_every` steps.

    Raises:
        ValueError: a frozen encoder without pretrained weights, a data set smaller than the batch,
            a non-finite loss. FileNotFoundError: pretrained weights that cannot be had.
    """
    pretrained = config.pretrained or config.pretrained_file
    if config.freeze_encoder and not pretrained:
        raise ValueError(
            "freeze_encoder=True with pretrained=False would keep a random encoder: set "
            "freeze_encoder=False, or give pretrained weights (pretrained_file)"
        )
    ranks = current()  # before `device`: each process has its own
    if pretrained and not quiet and ranks.main:
        print(licence_of(config.encoder), flush=True)
    place = device()
    torch.manual_seed(config.seed)  # the initial weights
    # Channels last: convolutions on a CPU take two thirds of the time.
    model = PersonSegmenter(config).to(place, memory_format=torch.channels_last)
    ranks.agree("the number of photos", len(dataset))
    sampler = PositionSampler(len(dataset), config.batch, config.seed)

    def batch_at(step: int, share: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
        return batch_of(dataset, sampler.epoch(step), sampler(step)[share].tolist())

    def loss_fn(model, batch, generator, step):
        image, person, ignore = (part.to(place) for part in batch)
        if config.strong_augment:
            image, person, ignore = augment(image, person, ignore, generator)
        logits = model(image)
        loss, stats = weighted_loss(config.loss, logits, person, ignore)
        if "iou" in stats:  # the loss of that name; the curve `iou` is the metric
            stats["iou_loss"] = stats.pop("iou")
        if logits.shape[-1] == person.shape[-1]:
            stats["iou"] = float(iou(logits.detach() > 0, person, ignore).mean())
        return loss, stats

    best = run.checkpoints / BEST
    shadow = copy.deepcopy(model) if validation is not None and ranks.main else None

    def log(line: dict, model: nn.Module, ema: PowerEMA) -> None:
        step = line["step"]
        if shadow is not None and (step % config.save_every == 0 or step == config.steps):
            shadow.load_state_dict(ema.weights)
            result = evaluate_segmenter(shadow, validation)
            line["validation_iou"] = result["mean_iou"]
            line["validation_boundary_iou"] = result["boundary_iou_2pct"]
            run.log(**{key: value for key, value in line.items() if key != "time"})
            if not quiet:
                print(f"step {step}  validation IoU {result['mean_iou']:.4f}", flush=True)
            if result["mean_iou"] > _best_so_far(best):
                export_segmenter(
                    shadow, best, {"step": step, "validation_iou": result["mean_iou"]}
                )
                run.metrics(best_step=step, **result)
        if on_log is not None:
            on_log(line, model, ema)

    def export(path: Path, weights: dict[str, Tensor]) -> None:
        export_segmenter(model, path, {"run": run.name}, weights)

    scales = {"encoder.": config.encoder_lr}
    return train(
        run, model, loss_fn, batch_at, config, on_log=log, lr_scales=scales, export=export,
        quiet=quiet,
    )  # fmt: skip


def _best_so_far(path: Path) -> float:
    if not path.is_file():
        return -1.0
    return float(load_weights(path)[1].get("validation_iou", -1.0))


def export_segmenter(
    model: PersonSegmenter,
    path: Path | str,
    metadata: Mapping[str, object] | None = None,
    weights: Mapping[str, Tensor] | None = None,
    half: bool = True,
) -> Path:
    """Write weights with everything that rebuilds the network, for `infer.load_segmenter`.

    Args:
        model: gives the configuration, and the weights unless `weights` is given.
        metadata: more facts for the file's header (run, step, quality), as strings or JSON.
        weights: another state dict of the same network, for instance a run's average.

    Raises:
        ValueError: `weights` of another network, or non-finite ones.
    """
    state = model.state_dict() if weights is None else dict(weights)
    if state.keys() != model.state_dict().keys():
        raise ValueError(
            f"{path}: these weights are not of the network that is exported: not saved"
        )
    header = {"kind": KIND, "config": json.dumps(to_json(dataclasses.asdict(model.config)))}
    for key, value in (metadata or {}).items():
        header[key] = value if isinstance(value, str) else json.dumps(to_json(value))
    return save_weights(path, state, header, half=half)
