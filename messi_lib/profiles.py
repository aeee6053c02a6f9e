"""Configuration: one frozen dataclass per component, and its presets by profile.

`smoke` takes seconds (tests), `laptop` minutes on 2 CPU cores, `overnight` hours on 2 cores and
makes the weights that ship, `gpu` is the recommended 256 px run; `image_a` and `image_b` are the
two historical configurations of the generator. Importing this module costs nothing (no torch).
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from dataclasses import dataclass
from typing import TypeVar

PROFILES = ("smoke", "laptop", "overnight", "gpu", "image_a", "image_b")


@dataclass(frozen=True)
class TrainConfig:
    """What every training needs, whatever it trains."""

    steps: int = 1000  # total optimiser steps; a later run with more steps goes on
    batch: int = 32  # images per step
    lr: float = 1e-3
    optimizer: str = "adam"  # "adam", "adamw" or "radam"
    lr_schedule: str = "constant"  # "constant" or "cosine" (to zero at `steps`)
    warmup: int = 100  # steps of linear warm-up
    weight_decay: float = 0.0
    clip: float = 0.0  # gradient norm limit, 0 for none
    precision: str = "auto"  # "fp32", "bf16" (autocast), or "auto": bf16 on GPUs that have it
    ema_std: float = 0.05  # relative length of the power-function EMA (EDM2, section 3.1)
    log_every: int = 50
    save_every: int = 500
    workers: int = 0  # processes that prepare batches while the network computes
    seed: int = 0


@dataclass(frozen=True)
class SegmentationConfig(TrainConfig):
    """Person segmenter: frozen `timm` encoder, transformer blocks, FPN head, tail."""

    encoder: str = "hiera_small_abswin_256"
    encoder_args: tuple[tuple[str, object], ...] = ()  # passed to timm.create_model
    pretrained: bool = True
    pretrained_file: str = ""  # local checkpoint of the encoder, instead of timm's download
    freeze_encoder: bool = True
    frozen: tuple[str, ...] = ()  # parts of the encoder that keep their weights, e.g. conv_stem
    encoder_lr: float = 1.0  # learning rate of the encoder, relative to the rest's
    image_size: int = 256
    blocks: int = 4  # transformer blocks on the deepest map
    block_heads: int = 12
    fpn_dim: int = 128
    # channels at half and full resolution; None: stop at 1/4
    tail: tuple[int, int] | None = (32, 16)
    loss: tuple[tuple[str, float], ...] = (("bce", 1.0), ("dice", 1.0))
    images: int = 4000  # procedural training scenes, when no COCO annotations are given
    strong_augment: bool = True  # vary light, grain and size beyond what drawn scenes contain
    paste: float = 0.0  # share of COCO photos that get a person of another one
    pitch: float = 0.0  # share of drawn scenes among COCO photos


@dataclass(frozen=True)
class ConsistencyConfig(TrainConfig):
    """Generator: UNet, noise levels and the two-stage recipe (EDM, then ECT)."""

    image_size: int = 32
    patch: int = 1  # pixels are folded into channels by this factor before the UNet
    gate: bool = False  # a skip connection per patch that the network sets (see Denoiser)
    model_channels: int = 64
    channel_mult: tuple[float, ...] = (1, 2)
    num_res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (2,)  # downsampling rates with attention
    num_head_channels: int = 32
    use_scale_shift_norm: bool = True
    resblock_updown: bool = True
    dropout: float = 0.0
    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    edm_fraction: float = 0.65  # share of the steps in the EDM stage; 0: ECT from scratch
    edm_p_mean: float = -1.2  # EDM, table 1
    edm_p_std: float = 1.2
    ect_p_mean: float = -1.1  # ECT / iCT, section 3.5
    ect_p_std: float = 2.0
    ect_q: float = 2.0  # r = t (1 - n(t) / q^(stage + 1))
    ect_stages: int = 8
    ect_huber_c: float = 0.0  # 0: the plain norm, as published for 32 px
    ect_dropout: float = 0.0
    flip: bool = True
    images: int = 16000  # procedural subject photos, when no folder is given
    optimizer: str = "radam"
    lr: float = 3e-4


@dataclass(frozen=True)
class FusionConfig(TrainConfig):
    """Cross-attention of the generator on segmentation latents."""

    level: int = 2  # which encoder map: 0..3, from fine to coarse
    stage: int | None = None  # of consistency tuning; None: the generator's last
    inner_dim: int = 64
    heads: int = 2
    steps: int = 200
    batch: int = 16
    lr: float = 1e-3


@dataclass(frozen=True)
class ReplaceConfig:
    """One photo's journey."""

    steps: int = 8  # network calls of the solver
    draws: int = 8  # estimates averaged at low noise levels: takes specks off; 1 for none
    grow: float = 0.06  # dilation of the hole, as a share of the person's longest side
    feather: float = 0.03  # width of the soft border, as a share of the same
    context: float = 1.35  # side of the window, as a multiple of the hole's longest side
    min_area: float = 0.001  # people smaller than this share of the photo are left alone
    threshold: float = 0.5
    seed: int = 0


_TINY_HIERA = (("embed_dim", 32), ("num_heads", 1), ("stages", (1, 2, 3, 1)))
# A Hiera small enough to be trained from random numbers on a CPU.
_SCRATCH_SEGMENTER = dict(
    encoder="hiera_tiny_224",
    encoder_args=(("embed_dim", 32), ("num_heads", 1), ("stages", (1, 2, 4, 2))),
    pretrained=False,
    freeze_encoder=False,
    image_size=128,
    blocks=1,
    block_heads=8,
    fpn_dim=64,
    tail=(16, 8),
    batch=16,
    lr=1e-3,
    lr_schedule="cosine",
)
# Makes the weights that ship, with COCO annotations: 7 images/s on two cores.
_SHIPPED_SEGMENTER = dict(
    encoder="tf_efficientnet_lite2",
    encoder_args=(("out_indices", (1, 2, 3, 4)),),
    freeze_encoder=False,
    frozen=("conv_stem", "bn1", "blocks.0", "blocks.1"),
    encoder_lr=0.2,
    image_size=256,
    blocks=1,
    block_heads=8,
    fpn_dim=80,
    tail=(16, 8),
    loss=(("boundary", 1.0), ("iou", 1.0)),
    strong_augment=False,
    paste=0.5,
    pitch=0.15,
    batch=16,
    lr=1e-3,
    lr_schedule="cosine",
    optimizer="adamw",
    weight_decay=0.05,
)
# On drawn scenes: what ImageNet knows is enough to begin with, so minutes do.
_LAPTOP_SEGMENTER = _SHIPPED_SEGMENTER | dict(
    encoder="tf_efficientnet_lite0", image_size=160, fpn_dim=64, paste=0.0, pitch=0.0
)
_HISTORICAL_SEGMENTER = dict(
    encoder="hiera_base_224",
    blocks=10,
    fpn_dim=256,
    tail=None,
    loss=(("bce", 1.0),),
    steps=100000,
    batch=64,
)
# 41 images/s on one core; residual up/down blocks and a second block cost a quarter each.
_SMALL_UNET = dict(
    image_size=64,
    patch=4,
    gate=True,
    model_channels=64,
    channel_mult=(1, 1.5),
    num_res_blocks=1,
    resblock_updown=False,
    lr=6e-4,
    optimizer="adam",
    lr_schedule="cosine",
    ect_stages=6,
    edm_p_mean=-0.8,
    edm_p_std=1.4,
    ect_p_mean=-0.7,
    ect_p_std=1.9,
)
_LSUN_UNET = dict(
    patch=1,
    num_res_blocks=2,
    attention_resolutions=(8, 16, 32),
    num_head_channels=64,
    use_scale_shift_norm=False,
    resblock_updown=True,
    ect_huber_c=0.24,  # 0.00054 sqrt(3 * 256^2), iCT section 3.3
    edm_p_mean=-0.4,  # more noise at higher resolution
    edm_p_std=1.4,
    ect_p_mean=-0.8,
    ect_p_std=1.8,
)

_PRESETS: dict[str, dict[str, dict]] = {
    "SegmentationConfig": {
        "smoke": dict(
            encoder="hiera_tiny_224",
            encoder_args=_TINY_HIERA,
            pretrained=False,
            freeze_encoder=False,
            image_size=64,
            blocks=1,
            block_heads=4,
            fpn_dim=32,
            tail=(16, 8),
            steps=12,
            batch=8,
            images=64,
            warmup=4,
            log_every=4,
            save_every=6,
        ),
        "laptop": dict(**_LAPTOP_SEGMENTER, steps=800, images=3000, log_every=50, save_every=100),
        "overnight": dict(
            **_SHIPPED_SEGMENTER, steps=6000, images=4000, log_every=50, save_every=250
        ),
        "gpu": dict(steps=40000, batch=64, lr=1e-3, lr_schedule="cosine", images=64000),
        "image_a": _HISTORICAL_SEGMENTER,
        "image_b": _HISTORICAL_SEGMENTER,
        # networks by name, for the chapter that compares them
        "historical": _HISTORICAL_SEGMENTER,
        "default": {},
        "embedded": _SHIPPED_SEGMENTER,
        "scratch": dict(**_SCRATCH_SEGMENTER, steps=300, images=1200),
    },
    "ConsistencyConfig": {
        "smoke": dict(
            image_size=16,
            patch=2,
            gate=True,
            model_channels=32,
            channel_mult=(1, 2),
            num_res_blocks=1,
            steps=12,
            batch=8,
            images=64,
            warmup=4,
            log_every=4,
            save_every=6,
            ect_stages=2,
        ),
        "laptop": dict(
            **_SMALL_UNET, steps=600, batch=32, images=2000, log_every=25, save_every=100
        ),
        "overnight": dict(
            **_SMALL_UNET, steps=12000, batch=32, images=16000, log_every=50, save_every=250
        ),
        "gpu": dict(
            **_LSUN_UNET,
            image_size=256,
            model_channels=128,
            channel_mult=(1, 1, 2, 2, 4, 4),
            steps=190000,
            batch=32,
            dropout=0.2,
            lr=1e-4,
            warmup=2000,
            save_every=5000,
        ),
        "image_a": dict(
            **_LSUN_UNET,
            image_size=256,
            model_channels=256,
            channel_mult=(1, 1, 2, 2, 4, 4),
            steps=100000,
            batch=16,
            lr=1e-4,
            warmup=2000,
            save_every=5000,
        ),
        "image_b": dict(
            **_LSUN_UNET,
            image_size=512,
            model_channels=192,
            channel_mult=(0.5, 1, 1, 2, 2, 4, 4),
            steps=150000,
            batch=4,
            lr=1e-4,
            warmup=2000,
            save_every=5000,
        ),
    },
    "FusionConfig": {
        "smoke": dict(steps=6, batch=4, warmup=2, log_every=2, save_every=3),
        "laptop": dict(steps=150, batch=16, warmup=20, log_every=10, save_every=50),
        "overnight": dict(steps=4000, batch=32),
        "gpu": dict(steps=20000, batch=32, inner_dim=128),
    },
    "ReplaceConfig": {"smoke": dict(steps=2, draws=2), "laptop": {}, "overnight": {}, "gpu": {}},
}

C = TypeVar("C")


def unknown(kind: str, name: str, valid: list[str]) -> ValueError:
    """The error for a name that does not exist: what, the nearest valid one, and all valid ones."""
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ValueError(f"unknown {kind} {name!r}{hint}: use one of {', '.join(valid)}")


def preset(config_class: type[C], profile: str, **overrides: object) -> C:
    """The configuration of one component in one profile, with single fields replaced.

    Raises:
        ValueError: an unknown profile, a field that the configuration does not have, or a value
            of another type than the field's.
    """
    table = _PRESETS[config_class.__name__]
    if profile not in table:
        raise unknown("profile", profile, list(table))
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    for name in overrides:
        if name not in fields:
            raise unknown(f"{config_class.__name__} field", name, sorted(fields))
    config = config_class(**table[profile])
    for name, value in overrides.items():
        current = getattr(config, name)
        if isinstance(current, bool) != isinstance(value, bool):
            raise ValueError(f"{name}={value!r}: expected {type(current).__name__}")
        if isinstance(current, (int, float, str)) and not isinstance(current, bool):
            wanted = (int, float) if isinstance(current, float) else type(current)
            if not isinstance(value, wanted):
                raise ValueError(f"{name}={value!r}: expected {type(current).__name__}")
    return dataclasses.replace(config, **overrides)


def current_profile() -> str:
    """`$MESSI_PROFILE`, or `laptop`.

    Raises:
        ValueError: when the variable names no profile.
    """
    profile = os.environ.get("MESSI_PROFILE") or "laptop"
    if profile not in PROFILES:
        raise unknown("profile", profile, list(PROFILES)) from None
    return profile
