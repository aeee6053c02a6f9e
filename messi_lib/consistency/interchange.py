"""Generators of and for other programs: checkpoints of the public code, folders of `diffusers`.

All three hold the same network under other names. The public code (openai/consistency_models)
counts blocks through, as our own UNet does; `diffusers` counts them by level, keeps queries, keys
and values of attention apart, and puts the preconditioning into its scheduler.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..profiles import ConsistencyConfig
from ..training.checkpoints import load_foreign
from .denoiser import Denoiser, build_denoiser
from .unet import UNet

if TYPE_CHECKING:
    from diffusers import CMStochasticIterativeScheduler, UNet2DModel

RESIDUAL = {  # ours -> theirs, within a residual block
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def load_openai(path: Path | str, config: ConsistencyConfig) -> Denoiser:
    """A checkpoint of openai/consistency_models, e.g. `ct_bedroom256.pt`, as a generator.

    Args:
        config: its architecture; the preset `image_a` is that of the LSUN checkpoints, up to
            `use_scale_shift_norm=False`. `patch` must be 1 and `gate` False.

    Raises:
        FileNotFoundError, ValueError: as `load_foreign`, or a checkpoint of another architecture
            (says which tensors differ).
    """
    state = load_foreign(path, "checkpoint")
    denoiser = build_denoiser(config)
    wanted = denoiser.unet.state_dict()
    if state.keys() != wanted.keys():
        differing = sorted(wanted.keys() ^ state.keys())[:3]
        raise ValueError(f"{path} is of another architecture: not in both: {differing}")
    shapes = [name for name in wanted if wanted[name].shape != state[name].shape]
    if shapes:
        raise ValueError(f"{path} is of another architecture: other shapes for {shapes[:3]}")
    denoiser.unet.load_state_dict({name: value.float() for name, value in state.items()})
    return denoiser.eval()


def _levels(config: ConsistencyConfig) -> list[bool]:
    """Whether each level attends, from full resolution down."""
    return [2**level in config.attention_resolutions for level in range(len(config.channel_mult))]


def _blocks(config: ConsistencyConfig) -> Iterator[tuple[str, str, str]]:
    """(our prefix, prefix in diffusers, kind) of every part: kind is one of plain, residual,
    attention."""
    attends, depth = _levels(config), len(config.channel_mult)
    yield "time_embed.0", "time_embedding.linear_1", "plain"
    yield "time_embed.2", "time_embedding.linear_2", "plain"
    yield "input_blocks.0.0", "conv_in", "plain"
    position = 1
    for level, attend in enumerate(attends):
        there = f"down_blocks.{level}"
        for i in range(config.num_res_blocks):
            yield f"input_blocks.{position}.0", f"{there}.resnets.{i}", "residual"
            if attend:
                yield f"input_blocks.{position}.1", f"{there}.attentions.{i}", "attention"
            position += 1
        if level < depth - 1:
            if config.resblock_updown:
                yield f"input_blocks.{position}.0", f"{there}.downsamplers.0", "residual"
            else:
                yield f"input_blocks.{position}.0.op", f"{there}.downsamplers.0.conv", "plain"
            position += 1
    yield "middle_block.0", "mid_block.resnets.0", "residual"
    yield "middle_block.1", "mid_block.attentions.0", "attention"
    yield "middle_block.2", "mid_block.resnets.1", "residual"
    position = 0
    for rank, attend in enumerate(reversed(attends)):
        there = f"up_blocks.{rank}"
        for i in range(config.num_res_blocks + 1):
            yield f"output_blocks.{position}.0", f"{there}.resnets.{i}", "residual"
            if attend:
                yield f"output_blocks.{position}.1", f"{there}.attentions.{i}", "attention"
            if rank < depth - 1 and i == config.num_res_blocks:
                here = f"output_blocks.{position}.{1 + attend}"
                if config.resblock_updown:
                    yield here, f"{there}.upsamplers.0", "residual"
                else:
                    yield f"{here}.conv", f"{there}.upsamplers.0.conv", "plain"
            position += 1
    yield "out.0", "conv_norm_out", "plain"
    yield "out.2", "conv_out", "plain"


def _attention_there(state: dict[str, Tensor], here: str, there: str) -> dict[str, Tensor]:
    """One convolution for queries, keys and values -> three linear layers."""
    made = {}
    for kind in ("weight", "bias"):
        joined, out = state[f"{here}.qkv.{kind}"], state[f"{here}.proj_out.{kind}"]
        if kind == "weight":  # 1x1 convolutions -> matrices
            joined, out = joined.flatten(1), out.flatten(1)
        made |= {f"{there}.to_{name}.{kind}": part for name, part in zip("qkv", joined.chunk(3))}
        made[f"{there}.to_out.0.{kind}"] = out
        made[f"{there}.group_norm.{kind}"] = state[f"{here}.norm.{kind}"]
    return made


def _attention_here(state: dict[str, Tensor], here: str, there: str) -> dict[str, Tensor]:
    made = {}
    for kind in ("weight", "bias"):
        joined = torch.cat([state[f"{there}.to_{name}.{kind}"] for name in "qkv"])
        out = state[f"{there}.to_out.0.{kind}"]
        if kind == "weight":
            joined, out = joined[:, :, None, None], out[:, :, None, None]
        made |= {f"{here}.qkv.{kind}": joined, f"{here}.proj_out.{kind}": out}
        made[f"{here}.norm.{kind}"] = state[f"{there}.group_norm.{kind}"]
    return made


def _pairs(config: ConsistencyConfig, unet: UNet) -> Iterator[tuple[str, str]]:
    """(our name, name in diffusers) of every tensor outside of attention."""
    ours = unet.state_dict().keys()
    for here, there, kind in _blocks(config):
        if kind == "attention":
            continue
        parts = RESIDUAL if kind == "residual" else {"": ""}
        for inner, outer in parts.items():
            for tensor in ("weight", "bias"):
                name = ".".join(filter(None, (here, inner, tensor)))
                if name in ours:  # blocks that keep their channels have no skip_connection
                    yield name, ".".join(filter(None, (there, outer, tensor)))


def to_diffusers(denoiser: Denoiser) -> tuple[UNet2DModel, CMStochasticIterativeScheduler]:
    """The network and the scheduler of a `ConsistencyModelPipeline` that gives the same images.

    Raises:
        ValueError: a denoiser that `diffusers` cannot express: with patches or a gate, or without a
            configuration. ModuleNotFoundError: `diffusers` is not installed.
    """
    from diffusers import CMStochasticIterativeScheduler, UNet2DModel

    config = denoiser.config
    if config is None:
        raise ValueError("this denoiser has no configuration: build it with build_denoiser")
    if config.channels != 3 or config.condition_channels:
        raise ValueError(
            "this generator draws into holes and is told of them, which diffusers' models of this "
            "kind are not: share the .safetensors file"
        )
    if config.patch != 1 or config.gate:
        raise ValueError(
            f"patch={config.patch}, gate={config.gate}: diffusers has neither; train with patch=1 "
            "and gate=False to export there, or share the .safetensors file"
        )
    down, up = ("DownBlock2D", "UpBlock2D")
    if config.resblock_updown:
        down, up = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
    attends = _levels(config)
    model = UNet2DModel(
        sample_size=config.image_size,
        in_channels=3,
        out_channels=3,
        layers_per_block=config.num_res_blocks,
        block_out_channels=tuple(int(m * config.model_channels) for m in config.channel_mult),
        down_block_types=tuple("AttnDownBlock2D" if attend else down for attend in attends),
        up_block_types=tuple("AttnUpBlock2D" if attend else up for attend in reversed(attends)),
        attention_head_dim=config.num_head_channels,
        attn_norm_num_groups=32,
        resnet_time_scale_shift="scale_shift" if config.use_scale_shift_norm else "default",
        upsample_type="resnet" if config.resblock_updown else "conv",
        downsample_type="resnet" if config.resblock_updown else "conv",
        dropout=config.dropout,
    )
    state = denoiser.unet.state_dict()
    made = {there: state[here] for here, there in _pairs(config, denoiser.unet)}
    for here, there, kind in _blocks(config):
        if kind == "attention":
            made |= _attention_there(state, here, there)
    model.load_state_dict(made)
    scheduler = CMStochasticIterativeScheduler(
        num_train_timesteps=40,
        sigma_min=denoiser.sigma_min,
        sigma_max=denoiser.sigma_max,
        sigma_data=denoiser.sigma_data,
    )
    return model.eval(), scheduler


def save_pipeline(denoiser: Denoiser, folder: Path | str) -> None:
    """Write a `ConsistencyModelPipeline`, for its `from_pretrained`.

    Raises:
        ValueError: as `to_diffusers`, a folder that holds something already, or `diffusers` is not
            installed.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already: choose a new folder")
    try:
        from diffusers import ConsistencyModelPipeline
    except ModuleNotFoundError as error:
        raise ValueError("diffusers is not installed: pip install diffusers") from error
    ConsistencyModelPipeline(*to_diffusers(denoiser)).save_pretrained(folder)


def _config_of(model: UNet2DModel) -> ConsistencyConfig:
    """The configuration of a network of `diffusers`.

    Raises:
        ValueError: features that our UNet does not have.
    """
    there = model.config
    width = there.block_out_channels[0]
    up_down = there.downsample_type == "resnet"
    kind, channels, classes = there.time_embedding_type, there.in_channels, there.num_class_embeds
    if kind != "positional" or channels != 3 or classes:
        raise ValueError(
            f"time_embedding_type={kind!r}, in_channels={channels}, num_class_embeds={classes}: "
            "only unconditional image models with a positional embedding can be read"
        )
    attention = tuple(
        2**level for level, kind in enumerate(there.down_block_types) if kind == "AttnDownBlock2D"
    )
    return ConsistencyConfig(
        image_size=int(there.sample_size),
        patch=1,
        gate=False,
        model_channels=width,
        channel_mult=tuple(channels / width for channels in there.block_out_channels),
        num_res_blocks=there.layers_per_block,
        attention_resolutions=attention,
        num_head_channels=there.attention_head_dim,
        use_scale_shift_norm=there.resnet_time_scale_shift == "scale_shift",
        resblock_updown=up_down,
        dropout=there.dropout,
    )


def from_diffusers(
    model: UNet2DModel, scheduler: CMStochasticIterativeScheduler | None = None
) -> Denoiser:
    """A generator from the network (and the scheduler's noise levels) of `diffusers`.

    Raises:
        ValueError: a network with features or tensors that ours does not have.
    """
    config = _config_of(model)
    if scheduler is not None:
        levels = {key: scheduler.config[key] for key in ("sigma_min", "sigma_max", "sigma_data")}
        config = dataclasses.replace(config, **levels)
    denoiser = build_denoiser(config)
    state = model.state_dict()
    try:
        made = {here: state[there] for here, there in _pairs(config, denoiser.unet)}
        for here, there, kind in _blocks(config):
            if kind == "attention":
                made |= _attention_here(state, here, there)
        denoiser.unet.load_state_dict(made)
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"this network of diffusers is built otherwise: {reason}") from error
    return denoiser.eval()

