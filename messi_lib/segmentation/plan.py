"""What training a segmenter will need, before it starts, as `consistency.train.dry_run` says it."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from messi_lib.profiles import SegmentationConfig, unknown
from messi_lib.segmentation.losses import LOSSES
from messi_lib.segmentation.model import PersonSegmenter
from messi_lib.training.budget import Budget, budget, step_bytes


def dry_run(config: SegmentationConfig) -> Budget:
    """What a training would take, from one step on fake tensors: seconds, and no download.

    bf16 unless `config.precision` is "fp32". Augmentation is left out: it is over before the
    network computes, and holds a few copies of the images, not of the maps.

    Raises:
        ValueError: a network that cannot be built, an unknown loss.
    """
    for name, _ in config.loss:
        if name not in LOSSES:
            raise unknown("loss", name, list(LOSSES))
    half = config.precision != "fp32"
    with torch.device("meta"):  # not on fake tensors: `timm` reads numbers while it builds
        model = PersonSegmenter(dataclasses.replace(config, pretrained=False, pretrained_file=""))
    model.config = config  # a pretrained encoder stays in evaluation mode, which costs less
    model.train()
    with FakeTensorMode():
        _make_fake(model)

        def loss_of(images: int) -> Tensor:
            side = config.image_size
            image = torch.zeros(images, 3, side, side).to(memory_format=torch.channels_last)
            region = torch.zeros(images, 1, side, side, dtype=torch.bool)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                logits = model(image)
                if logits.shape != region.shape:
                    logits = F.interpolate(logits, size=(side, side), mode="bilinear")
                # `weighted_loss` also reads the value of each term, which fake tensors lack.
                logits = logits.float()
                terms = [w * LOSSES[name](logits, region, region) for name, w in config.loss]
                return torch.stack(terms).sum()

        return budget(
            model,
            step_bytes(loss_of),
            config.microbatch or config.batch,
            optimizer=config.optimizer,
            average_on_device=not config.ema_device,
        )


def _make_fake(model: nn.Module) -> None:
    """Put fake tensors, which know autocast, in the place of those on the meta device."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                made = torch.empty(value.shape, dtype=value.dtype)
                module._parameters[name] = nn.Parameter(made, requires_grad=value.requires_grad)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = torch.empty(value.shape, dtype=value.dtype)
