"""The person segmenter: encoder -> transformer blocks -> FPN head -> full-resolution tail.

The encoder is frozen unless the configuration says otherwise; the blocks see its deepest map; the
head goes up by x2 stages with lateral shortcuts (FPN, Lin et al. 2017, arXiv 1612.03144, section 3)
to a quarter of the resolution. There the historical model stopped: masks came in blocks of 4
pixels. The tail adds two x2 stages that see the photo itself again.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import nn

from messi_lib.profiles import SegmentationConfig
from messi_lib.segmentation.encoder import build_encoder

KIND = "segmenter"  # of a weights file, in its metadata
MULTIPLE = 32  # reduction of the deepest map


def upsample(x: torch.Tensor, scale: int = 2) -> torch.Tensor:
    """`(B,C,H,W)` -> `(B,C,scale*H,scale*W)`, bilinear."""
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def _normalised(x: torch.Tensor) -> torch.Tensor:
    # One group per image and without parameters: works at batch 1, adds nothing to the counts.
    return F.gelu(F.group_norm(x, 1))


class Head(nn.Module):
    """FPN: 1x1 laterals from every map, x2 up and add, one 3x3 smoothing convolution per addition.

    Args:
        channels: of the encoder's maps, fine to coarse.
        dim: channels of the head.
    """

    def __init__(self, channels: list[int], dim: int):
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, dim, 1) for c in channels)
        self.smooths = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in channels[1:])

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Maps `(B,C_i,H_i,W_i)`, each half the size of the one before -> `(B,dim,H_0,W_0)`."""
        x = self.laterals[-1](maps[-1])
        for level in range(len(maps) - 2, -1, -1):
            x = upsample(x) + self.laterals[level](maps[level])
            x = _normalised(self.smooths[level](x))
        return x


class Tail(nn.Module):
    """From a quarter to full resolution, with an RGB stem as shortcut.

    Args:
        dim: channels of the head's output.
        half, full: channels at half and at full resolution.
    """

    def __init__(self, dim: int, half: int, full: int):
        super().__init__()
        self.stem = nn.Conv2d(3, full, 3, padding=1)
        self.down = nn.Conv2d(full, half, 3, stride=2, padding=1)
        self.reduce_half = nn.Conv2d(dim, half, 1)
        self.fuse_half = nn.Conv2d(2 * half, half, 3, padding=1)
        self.reduce_full = nn.Conv2d(half, full, 1)
        self.fuse_full = nn.Conv2d(2 * full, full, 3, padding=1)
        self.out = nn.Conv2d(full, 1, 1)

    def forward(self, quarter: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Head output `(B,dim,H/4,W/4)` and normalised image `(B,3,H,W)` -> logits `(B,1,H,W)`."""
        full = F.relu(self.stem(image))  # ReLU: at this size GELU's arithmetic would be felt
        half = F.relu(self.down(full))
        x = torch.cat([upsample(self.reduce_half(quarter)), half], dim=1)
        x = F.relu(self.fuse_half(x))
        x = torch.cat([upsample(self.reduce_full(x)), full], dim=1)
        return self.out(F.relu(self.fuse_full(x)))


class PersonSegmenter(nn.Module):
    """Logits of "a person is here" for every pixel.

    Args:
        config: `config.pretrained` (and `config.pretrained_file`) say where the encoder's weights
            come from; the rest is initialised at random.

    Raises:
        ValueError, FileNotFoundError: as `build_encoder`.
    """

    def __init__(self, config: SegmentationConfig):
        super().__init__()
        self.config = config
        self.encoder_size = -(-config.image_size // MULTIPLE) * MULTIPLE
        self.encoder = build_encoder(
            config.encoder,
            self.encoder_size,
            config.pretrained_file or config.pretrained,
            config.encoder_args,
        )
        channels, reductions = self.encoder.channels, self.encoder.reductions
        if reductions != [4, 8, 16, 32]:
            raise ValueError(
                f"{config.encoder} gives maps at 1/{reductions}: the head needs 1/[4, 8, 16, 32] "
                "(add out_indices to encoder_args)"
            )
        if channels[-1] % config.block_heads:
            raise ValueError(
                f"block_heads={config.block_heads} does not divide the {channels[-1]} channels of "
                f"{config.encoder}'s deepest map"
            )
        self.blocks = nn.Sequential(
            *(Block(channels[-1], config.block_heads, qkv_bias=True) for _ in range(config.blocks))
        )
        self.head = Head(channels, config.fpn_dim)
        if config.tail is None:
            self.tail = nn.Conv2d(config.fpn_dim, 1, 1)
        else:
            self.tail = Tail(config.fpn_dim, *config.tail)
        for name in ("mean", "std"):  # as the encoder's weights expect them
            values = torch.tensor(getattr(self.encoder, name)).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self._freeze()

    def _freeze(self) -> None:
        """Take from training what the configuration keeps fixed."""
        config = self.config
        if config.freeze_encoder:
            self.encoder.requires_grad_(False)
        for prefix in config.frozen:
            named = self.encoder.network.named_parameters()
            chosen = [p for name, p in named if (name + ".").startswith(prefix + ".")]
            if not chosen:
                raise ValueError(f"frozen={config.frozen}: {config.encoder} has no {prefix!r}")
            for parameter in chosen:
                parameter.requires_grad_(False)
        self.train()

    @property
    def _keeps_statistics(self) -> bool:
        """Whether the encoder stays in evaluation mode.

        Statistics of pretrained batch norms come from a million images; those of a small batch
        would be worse.
        """
        config = self.config
        return config.freeze_encoder or config.pretrained or bool(config.pretrained_file)

    def train(self, mode: bool = True) -> PersonSegmenter:
        """As in `nn.Module`, but a pretrained or frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self._keeps_statistics:
            self.encoder.eval()
        return self

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """`(B,3,H,W)` in [-1,1] -> normalised for the encoder, sides reflected to multiples of 32.

        Raises:
            ValueError: not a float batch of RGB images, too small to be padded, or of another size
                than `config.image_size` where the encoder accepts that size only.
        """
        if image.dim() != 4 or image.shape[1] != 3 or not image.is_floating_point():
            raise ValueError(
                f"expected float images (B,3,H,W) in [-1,1], got {tuple(image.shape)} {image.dtype}"
            )
        height, width = image.shape[2:]
        pad_h, pad_w = -height % MULTIPLE, -width % MULTIPLE
        if pad_h >= height or pad_w >= width:
            raise ValueError(f"images of {height}x{width}: too small, 17 pixels a side are needed")
        size = self.config.image_size
        if self.encoder.fixed_size and (height, width) != (size, size):
            raise ValueError(
                f"{self.config.encoder} was built for {size}x{size} images, got {height}x{width}: "
                "resize them (infer.Segmenter takes photos of any size)"
            )
        image = ((image + 1) / 2 - self.mean) / self.std
        return F.pad(image, (0, pad_w, 0, pad_h), mode="reflect") if pad_h or pad_w else image

    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """`(B,3,H,W)` in [-1,1] -> the encoder's four maps NCHW at 1/4, 1/8, 1/16 and 1/32.

        A frozen encoder runs without gradients, whatever the caller's mode.
        """
        return self._encode(self.normalise(image))

    def _encode(self, normalised: torch.Tensor) -> list[torch.Tensor]:
        frozen = self.config.freeze_encoder
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            return self.encoder(normalised)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`(B,3,H,W)` in [-1,1] -> logits `(B,1,H,W)`; without tail `(B,1,ceil(H/4),ceil(W/4))`."""
        height, width = image.shape[-2:]
        normalised = self.normalise(image)
        maps = self._encode(normalised)
        deepest = maps[-1]
        tokens = self.blocks(deepest.flatten(2).transpose(1, 2))
        maps[-1] = tokens.transpose(1, 2).reshape(deepest.shape)
        quarter = self.head(maps)
        if self.config.tail is None:
            return self.tail(quarter)[..., : -(-height // 4), : -(-width // 4)]
        return self.tail(quarter, normalised)[..., :height, :width]


def count_table(model: PersonSegmenter) -> dict[str, dict[str, int]]:
    """Parameters by part: `{part: {"parameters": n, "trainable": m}}` with a last row `total`."""
    table = {}
    for part in ("encoder", "blocks", "head", "tail"):
        parameters = list(getattr(model, part).parameters())
        table[part] = {
            "parameters": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        }
    table["total"] = {
        key: sum(row[key] for row in table.values()) for key in ("parameters", "trainable")
    }
    return table
