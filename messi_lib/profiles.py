"""Configuration: one frozen dataclass per component; `presets` has their values by profile.

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

from .presets import PRESETS

PROFILES = ("smoke", "laptop", "overnight", "gpu", "image_a", "image_b")


@dataclass(frozen=True)
class TrainConfig:
    """What every training needs, whatever it trains."""

    steps: int = 1000  # total optimiser steps; a later run with more steps goes on
    horizon: int = 0  # steps that schedules and stages are made for; 0: `steps`
    batch: int = 32  # images per step
    microbatch: int = 0  # images per forward pass, gradients averaged over the batch; 0: all
    lr: float = 1e-3  # learning rate after the warm-up
    optimizer: str = "adam"  # "adam", "adamw" or "radam"
    lr_schedule: str = "constant"  # "constant" or "cosine" (to zero at `steps`)
    warmup: int = 100  # steps of linear warm-up; with cosine at most a tenth of the run
    weight_decay: float = 0.0  # strength of weight decay; 0 for none
    clip: float = 0.0  # gradient norm limit, 0 for none
    precision: str = "auto"  # "fp32", "bf16" (autocast), or "auto": bf16 on GPUs that have it
    ema_std: float = 0.05  # relative length of the power-function EMA (EDM2, section 3.1)
    ema_every: int = 1  # steps between updates of the EMA
    ema_device: str = ""  # "cpu" keeps the EMA out of a GPU's memory; "": beside the weights
    channels_last: bool = False  # memory layout of images and weights
    compile: bool = False  # torch.compile, in place: minutes at the start, faster steps on a GPU
    log_every: int = 50  # steps between entries of stats.jsonl and TensorBoard
    save_every: int = 500  # steps between saved states to go on from
    snapshots: int = 0  # averages kept for looking back, at log-spaced steps
    disk_budget: str = ""  # most that the run may write, such as "20GB"; "": no limit
    workers: int = 0  # processes that prepare batches while the network computes
    seed: int = 0  # of the weights, the order of images and the noise

    @property
    def span(self) -> int:
        """Steps of the whole plan, of which `steps` may be the first part."""
        return self.horizon or self.steps

    @property
    def picture_bytes(self) -> int:
        """Most that the pictures of a run take on disk."""
        return 0


@dataclass(frozen=True)
class SegmentationConfig(TrainConfig):
    """Person segmenter: frozen `timm` encoder, transformer blocks, FPN head, tail."""

    encoder: str = "hiera_small_abswin_256"  # name of a `timm` model with feature maps
    encoder_args: tuple[tuple[str, object], ...] = ()  # passed to timm.create_model
    pretrained: bool = True  # begin with the encoder's published weights
    pretrained_file: str = ""  # local checkpoint of the encoder, instead of timm's download
    freeze_encoder: bool = True  # keep all weights of the encoder as they are
    frozen: tuple[str, ...] = ()  # parts of the encoder that keep their weights, e.g. conv_stem
    encoder_lr: float = 1.0  # learning rate of the encoder, relative to the rest's
    image_size: int = 256  # side of the images that the network sees, in pixels
    blocks: int = 4  # transformer blocks on the deepest map
    block_heads: int = 12  # attention heads of a block; they divide its channels
    fpn_dim: int = 128  # channels of the feature pyramid
    # channels at half and full resolution; None: stop at 1/4
    tail: tuple[int, int] | None = (32, 16)
    # names and weights of bce, dice, iou and boundary: what is minimised is their weighted sum
    loss: tuple[tuple[str, float], ...] = (("bce", 1.0), ("dice", 1.0))
    images: int = 4000  # procedural training scenes, when no COCO annotations are given
    strong_augment: bool = True  # vary light, grain and size beyond what drawn scenes contain
    paste: float = 0.0  # share of COCO photos that get a person of another one
    pitch: float = 0.0  # share of drawn scenes among COCO photos


@dataclass(frozen=True)
class ConsistencyConfig(TrainConfig):
    """Generator: UNet, noise levels and the two-stage recipe (EDM, then ECT)."""

    image_size: int = 32  # side of the images in pixels
    patch: int = 1  # pixels are folded into channels by this factor before the UNet
    channels: int = 3  # of an image: 3 colours; 4 for a layer, which has its coverage as well
    gate: bool = False  # a skip connection per patch that the network sets (see Denoiser)
    condition_channels: int = 0  # inputs beside the noisy image: 4 for a generator that fills holes
    model_channels: int = 64  # width of the network: channels at its finest level
    channel_mult: tuple[float, ...] = (1, 2)  # per level, in model_channels; each halves the size
    num_res_blocks: int = 2  # residual blocks per level
    attention_resolutions: tuple[int, ...] = (2,)  # downsampling rates with attention
    num_head_channels: int = 32  # channels of an attention head
    use_scale_shift_norm: bool = True  # noise level as scale and shift (AdaGN), not as a sum
    resblock_updown: bool = True  # resize within residual blocks, not by a convolution
    checkpoint_rates: tuple[int, ...] = ()  # downsampling rates that recompute their activations
    dropout: float = 0.0  # share of activations set to zero in training
    sigma_data: float = 0.5  # standard deviation of the images, in [-1,1]
    sigma_min: float = 0.002  # lowest noise level, taken for none
    sigma_max: float = 80.0  # highest noise level, where images begin
    # "ect": an EDM stage, then easy consistency tuning; "edm", "ct", "cd", "ict": that one alone
    objective: str = "ect"
    edm_fraction: float = 0.65  # share of the steps in the EDM stage; 0: ECT from scratch
    edm_p_mean: float = -1.2  # mean of ln(noise level) in the EDM stage (EDM, table 1)
    edm_p_std: float = 1.2  # and its standard deviation
    ect_p_mean: float = -1.1  # mean of ln(noise level) in consistency tuning (iCT, section 3.5)
    ect_p_std: float = 2.0  # and its standard deviation
    ect_q: float = 2.0  # how fast the target comes near: r = t (1 - n(t) / q^(stage + 1))
    ect_stages: int = 8  # stages, from a diffusion loss towards the consistency loss
    ect_huber_c: float = 0.0  # of the pseudo-Huber distance; 0: the plain norm, as published
    ect_dropout: float = 0.0  # in consistency tuning; `dropout` holds for everything else
    # first and last number of levels, less one; None: the paper's (ct 2, 150; ict 10, 1280; cd 40)
    scales: tuple[int, int] | None = None
    target_rate: float = 0.95  # how slowly the target of CT and CD follows (mu0, mu)
    distance: str = "l2"  # of CT and CD: "l1", "l2" or "l2-32"
    start: str = ""  # weights to begin with: a file, or "shipped"; "": random numbers
    teacher: str = ""  # file of the diffusion model that CD distils
    augment: float = 0.0  # probability of each labelled warp (EDM, appendix F.2); 0: none
    flip: bool = True  # mirror images left to right at random
    sample_every: int = 0  # steps between sample grids (samples/, TensorBoard); 0: none
    fid_every: int = 0  # steps between measurements of FID and KID; 0: none
    fid_images: int = 1000  # drawn, and compared with as many photos, each time
    images: int = 16000  # procedural subject photos, when no folder is given
    optimizer: str = "radam"  # "adam", "adamw" or "radam"
    lr: float = 3e-4  # learning rate after the warm-up

    @property
    def picture_bytes(self) -> int:
        """Sample grids: 32 images without compression, as files and in TensorBoard."""
        grids = self.span // self.sample_every + 1 if self.sample_every else 0
        return grids * 2 * 32 * 3 * (self.image_size + 2) ** 2


@dataclass(frozen=True)
class InpainterConfig(ConsistencyConfig):
    """Generator that fills holes: as `ConsistencyConfig`, told of the known pixels and the hole."""

    condition_channels: int = 4  # the known pixels and the hole: no other number fits


@dataclass(frozen=True)
class LayerConfig(InpainterConfig):
    """Generator that draws the subject alone, in a hole: colours and coverage (see layer.py)."""

    channels: int = 4  # three colours and the coverage: no other number fits


@dataclass(frozen=True)
class FusionConfig(TrainConfig):
    """How the generator reads segmentation latents."""

    # tokens, interpolate, downsample, pooled, additive or film, see fusion/modules.py
    module: str = "tokens"
    source: str = "context"  # what is encoded: context, pose or everything, see fusion/sources.py
    level: int = 2  # which encoder map: 0..3, from fine to coarse
    rates: tuple[int, ...] = ()  # of the decoder's blocks that read; (): wherever the UNet attends
    pool: int = 8  # side of the grid that "pooled" keeps
    stage: int | None = None  # of consistency tuning; None: the generator's last
    inner_dim: int = 64  # channels of queries, keys and values
    heads: int = 2  # attention heads
    steps: int = 200  # total optimiser steps; a later run with more steps goes on
    batch: int = 16  # images per step
    lr: float = 1e-3  # learning rate after the warm-up


@dataclass(frozen=True)
class FusionStudyConfig(FusionConfig):
    """Which ways of reading are compared, on what, and by which numbers: fixed beforehand."""

    # the generators to compare, see fusion/arms.py
    arms: tuple[str, ...] = (
        "none", "concatenated", "additive", "downsample", "tokens", "alignment", "shuffled",
    )  # fmt: skip
    primary: tuple[str, str] = ("tokens", "shuffled")  # the comparison that the finding is about
    metrics: tuple[str, ...] = ("hole", "seam")  # the first is the one that the finding is about
    seeds: int = 3  # trainings per arm
    images: int = 512  # drawn photos to learn from
    held_out: int = 64  # drawn photos to measure on
    start: str = "shipped"  # the generator: a file, or "shipped"
    solver_steps: int = 8  # network calls when a hole is filled
    tune_lr: float = 3e-4  # learning rate of arms that train the whole generator
    align: float = 0.5  # weight of the alignment loss (REPA's lambda)
    manifold: float = 3.0  # weight of its relative similarities, beside the cosine


@dataclass(frozen=True)
class ReplaceConfig:
    """One photo's journey."""

    solver: str = ""  # replacement, resample, cm4ir, conditional, layer; "": the model's own
    steps: int = 12  # network calls of the solver
    draws: int = 8  # estimates averaged at low noise levels: takes specks off; 1 for none
    grow: float = 0.03  # width added around the person, as a share of its longest side
    feather: float = 0.03  # width of the soft border, as a share of the same
    context: float = 1.2  # side of the window, as a multiple of the hole's longest side
    min_area: float = 0.001  # people smaller than this share of the photo are left alone
    threshold: float = 0.5  # probability above which a pixel belongs to a person
    apart: bool = True  # people who touch are told apart by their faces; layers: a figure each
    detail: bool = True  # bring what is generated to the sharpness and grain of the photo
    blend: str = "feather"  # "feather" (soft border), or "poisson": no step of colour at the border
    seed: int = 0  # of the noise: another one, another drawing
    candidates: int = 1  # drawings with the seeds seed, seed + 1, ...: the best is taken


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
    table = PRESETS[config_class.__name__]
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
