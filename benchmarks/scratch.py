"""A small Hiera from random numbers on the photos of the segmenter that ships (chapter 02).

    python benchmarks/scratch.py --annotations JSON --images DIR --splits splits.json --steps 300

Trains the preset `scratch` with data, losses and optimiser of `overnight`, measures it on the
validation photos, and leaves the run `scratch`, for `messi export segmentation --run scratch`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from messi_lib.data.people import PeopleDataset, PitchPeople, WithScenes
from messi_lib.data.splits import read_split
from messi_lib.profiles import SegmentationConfig, preset
from messi_lib.runs import Run
from messi_lib.segmentation.train import train_segmentation

NETWORK = ("encoder", "encoder_args", "pretrained", "freeze_encoder", "blocks", "block_heads",
           "fpn_dim", "tail")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=192, help="of the network's input, in pixels")
    options = parser.parse_args()

    scratch = preset(SegmentationConfig, "scratch")
    network = {name: getattr(scratch, name) for name in NETWORK}
    config = preset(
        SegmentationConfig, "overnight", **network, frozen=(), encoder_lr=1.0,
        image_size=options.size, steps=options.steps, images=1500, workers=1,
    )  # fmt: skip
    source = options.annotations, options.images, options.size
    photos = PeopleDataset(*source, ids=read_split(options.splits, "train"), paste=config.paste)
    dataset = WithScenes(photos, PitchPeople(config.images, options.size, 0), config.pitch)
    validation = PeopleDataset(*source, train=False, ids=read_split(options.splits, "val"))
    train_segmentation(Run("scratch", config), config, dataset, validation)


if __name__ == "__main__":
    main()
