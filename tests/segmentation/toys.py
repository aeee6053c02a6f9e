"""Tiny stand-ins: bright squares as people, and a network without weights that finds them."""

import torch

from messi_lib.profiles import SegmentationConfig, preset
from messi_lib.segmentation.model import PersonSegmenter

TINY = {
    "encoder_args": (("embed_dim", 16), ("num_heads", 1), ("stages", (1, 1, 1, 1))),
    "image_size": 32,
    "fpn_dim": 16,
    "tail": (8, 8),
    "log_every": 2,
    "save_every": 4,
    "warmup": 2,
}


def tiny_config(**changes) -> SegmentationConfig:
    return preset(SegmentationConfig, "smoke", **{**TINY, **changes})


class Squares:
    """Images with one bright square each; a data set with the interface of `data.people`."""

    def __init__(self, n: int = 16, size: int = 32):
        self.n, self.size = n, size

    def __len__(self) -> int:
        return self.n

    def item(self, epoch: int, index: int):
        generator = torch.Generator().manual_seed(1000 * epoch + index)
        top, left = (int(v) for v in torch.randint(2, self.size // 2, (2,), generator=generator))
        person = torch.zeros(1, self.size, self.size, dtype=torch.bool)
        person[:, top : top + self.size // 3, left : left + self.size // 3] = True
        noise = 0.1 * torch.randn(3, self.size, self.size, generator=generator)
        image = torch.where(person, 0.7, -0.5) + noise
        return image.clamp(-1, 1), person, torch.zeros_like(person)


class BrightSegmenter(PersonSegmenter):
    """Says "person" of what is bright; counts its calls. The network around it is not used."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen = image
        self.was_training = self.training
        return 6 * image.mean(1, keepdim=True)


def bright(size: int = 64, **changes) -> BrightSegmenter:
    return BrightSegmenter(tiny_config(image_size=size, **changes))
