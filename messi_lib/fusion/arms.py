"""The arms of the study, by name: what is trained, what it is told, and how it fills a hole.

All arms get the same photos, noise levels and noises in the same order, for as many steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..consistency.denoiser import Denoiser, build_denoiser
from ..consistency.train import begin_with, starting
from ..profiles import FusionStudyConfig, unknown
from ..runs import device
from .alignment import AlignedDenoiser, Alignment, aligned_loss
from .conditioned import ConditionedDenoiser, block_shapes
from .costs import equal_width, make_conditioned
from .train import consistency_loss, fusion_loss


@dataclass(frozen=True)
class Arm:
    """What one arm is.

    Attributes:
        kind: "reads" latents through adapters beside a frozen generator; the other kinds train the
            whole generator: "aligned" with the alignment loss, "concatenated" told of the known
            pixels as further inputs, "tuned" just longer; "none" trains nothing.
        control: "shuffled", other photos' latents; "random", an encoder that learnt nothing;
            "open", no zero start.
    """

    kind: str = "reads"
    module: str = "tokens"
    source: str = "context"
    control: str = ""


ARMS = {
    "none": Arm("none"),
    "tuned": Arm("tuned"),
    "concatenated": Arm("concatenated"),
    "additive": Arm(module="additive"),
    "interpolate": Arm(module="interpolate"),
    "downsample": Arm(module="downsample"),
    "tokens": Arm(),
    "pooled": Arm(module="pooled"),
    "film": Arm(module="film"),
    "alignment": Arm("aligned", source="everything"),
    "pose": Arm(source="pose"),
    "everything": Arm(source="everything"),
    "shuffled": Arm(control="shuffled"),
    "random": Arm(control="random"),
    "open": Arm(control="open"),
}


@dataclass(frozen=True)
class Tools:
    """What the room next door knows, handed over: chapters do not import their neighbours.

    Attributes:
        solve: `inpainting.solvers.solve`. told: `inpainting.conditional.condition_of`.
        seam: `(uint8 (H, W, 3), bool (H, W)) -> float`, 0 for no seam, NaN where there is none.
    """

    solve: Callable[..., Tensor]
    told: Callable[[Tensor, Tensor], Tensor]
    seam: Callable[..., float]


def arm_of(name: str) -> Arm:
    """The arm of that name; an unknown one is a ValueError with the list."""
    if name not in ARMS:
        raise unknown("arm", name, list(ARMS))
    return ARMS[name]


def build(arm: Arm, config: FusionStudyConfig, latent_channels: int, like: int = 0) -> nn.Module:
    """The untrained network of an arm, on `runs.device()`, its new weights drawn from the seed.

    Args:
        like: latent channels of the "tokens" whose number of parameters all arms share, see
            `equal_width`.

    Raises:
        FileNotFoundError, ValueError: no such generator.
    """
    denoiser = starting(config.start, device())
    torch.manual_seed(config.seed)
    if arm.kind == "reads":
        chosen = dataclasses.replace(config, module=arm.module, source=arm.source)
        zero = arm.control != "open"
        return make_conditioned(denoiser, latent_channels, chosen, zero=zero, like=like)
    if arm.kind == "aligned":
        width = equal_width("alignment", denoiser, latent_channels, config, like=like)
        channels = block_shapes(denoiser)["middle_block"][0]
        return AlignedDenoiser(denoiser, Alignment(channels, latent_channels, width).to(device()))
    if arm.kind == "concatenated":
        told = build_denoiser(dataclasses.replace(denoiser.config, condition_channels=4))
        begin_with(told, config.start)
        return told.to(device())
    return denoiser.requires_grad_(True)


def arm_loss(
    arm: Arm,
    config: FusionStudyConfig,
    tools: Tools,
    model: nn.Module,
    batch: tuple[Tensor, Tensor, Tensor],
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, float]]:
    """Mean loss of a batch (images, holes, latents), and what is logged of it."""
    images, holes, latents = batch
    stage = config.stage
    if arm.kind == "reads":
        loss = fusion_loss(model, images, latents, generator, stage=stage).mean()
        openings = model.openings()
        logged = {f"opening.{name}": value for name, value in openings.items()}
        return loss, {"ect": float(loss.detach()), **logged}
    if arm.kind == "aligned":
        weights = {"weight": config.align, "manifold": config.manifold}
        loss, cosine = aligned_loss(model, images, latents, generator, stage=stage, **weights)
        loss = loss.mean()
        return loss, {"loss": float(loss.detach()), "cosine": float(cosine.detach().mean())}
    told = {}
    if arm.kind == "concatenated":
        told["condition"] = tools.told(images, holes).to(next(model.parameters()).device)
    loss = consistency_loss(model, images, generator, stage=stage, **told).mean()
    return loss, {"ect": float(loss.detach())}


@torch.no_grad()
def fill(
    arm: Arm,
    config: FusionStudyConfig,
    tools: Tools,
    model: nn.Module,
    photos: tuple[Tensor, Tensor, Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Photos (images, holes, latents) with their holes filled, (N, 3, S, S) on the CPU.

    The start noise is the same for all arms. Zero-shot `replacement`, except for the network that
    was told of the hole.
    """
    images, holes, latents = photos
    denoiser: Denoiser | ConditionedDenoiser
    denoiser = model.denoiser if arm.kind == "aligned" else model
    more = {"steps": config.solver_steps, "generator": generator, "draws": 1}
    if arm.kind == "concatenated":
        return tools.solve("conditional", denoiser, images, holes, **more).cpu()
    if arm.kind == "reads":
        more["inject"] = model.inject(model.condition(latents))
    return tools.solve("replacement", denoiser, images, holes, **more).cpu()

