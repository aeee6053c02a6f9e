"""What the full-resolution tail and the guided filter are worth, on real photos (post-mortem 7).

Two segmenters share a trained encoder and its transformer blocks. One ends at a quarter of the
resolution, as the historical one did, the other has the tail; head and end are trained with the
same steps on the same photos, then both are judged on held-out photos at the photos' resolution.

    python benchmarks/edges.py --annotations JSON --images DIR --splits splits.json --steps 300

Prints one JSON line.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from messi_lib.data.coco import load_coco_people
from messi_lib.data.people import PeopleDataset
from messi_lib.data.splits import read_split
from messi_lib.images import to_tensor
from messi_lib.profiles import SegmentationConfig
from messi_lib.runs import Run
from messi_lib.segmentation.edges import refine
from messi_lib.segmentation.infer import Letterbox, Segmenter, load_segmenter
from messi_lib.segmentation.losses import weighted_loss
from messi_lib.segmentation.metrics import Accumulator
from messi_lib.segmentation.model import PersonSegmenter
from messi_lib.segmentation.train import batch_of
from messi_lib.training.loop import train
from messi_lib.training.sampler import PositionSampler


def variant(
    trained: PersonSegmenter, size: int, tail: tuple[int, int] | None, seed: int
) -> PersonSegmenter:
    """The trained encoder and blocks with a new head and end."""
    torch.manual_seed(seed)
    config = dataclasses.replace(
        trained.config,
        image_size=size,
        tail=tail,
        pretrained=False,
        pretrained_file="",
        freeze_encoder=True,
    )
    model = PersonSegmenter(config)
    for part in ("encoder", "blocks"):
        getattr(model, part).load_state_dict(getattr(trained, part).state_dict())
        getattr(model, part).requires_grad_(False)
    return model.to(memory_format=torch.channels_last)


def taught(model: PersonSegmenter, dataset: PeopleDataset, steps: int, batch: int, seed: int):
    """Train head and end."""
    config = dataclasses.replace(
        model.config, steps=steps, batch=batch, seed=seed, warmup=20, log_every=50, workers=1
    )
    sampler = PositionSampler(len(dataset), batch, seed)

    def loss_fn(model, batch, generator, step):
        image, person, ignore = batch
        return weighted_loss(config.loss, model(image), person, ignore)

    def batch_at(step):
        return batch_of(dataset, sampler.epoch(step), sampler(step).tolist())

    with tempfile.TemporaryDirectory() as folder:
        result = train(Run("edges", folder=folder), model, loss_fn, batch_at, config)
    model.load_state_dict(result.ema)
    return model.eval()


def plain(tail: tuple[int, int] | None) -> PersonSegmenter:
    """A `hiera_small` segmenter of random weights, to be timed."""
    config = SegmentationConfig(
        encoder="hiera_small_abswin_256", pretrained=False, freeze_encoder=False, tail=tail
    )
    return PersonSegmenter(config).eval()


@torch.no_grad()
def extra_latency(rounds: int) -> dict[str, float]:
    """Milliseconds of a `hiera_small` segmenter at 256 px with and without tail, alternating."""
    image = torch.zeros(1, 3, 256, 256)
    models = {"head": plain(None), "tail": plain((16, 8))}
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            began = time.perf_counter()
            logits = model(image)
            if name == "head":  # its users must scale it up as well
                F.interpolate(logits, scale_factor=4, mode="bilinear")
            times[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="segmenter; default: the one that ships")
    parser.add_argument("--size", type=int, default=256, help="of the network's input, in pixels")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()

    trained = load_segmenter(options.weights)
    size = options.size
    source = options.annotations, options.images
    dataset = PeopleDataset(*source, size, seed=options.seed,
                            ids=read_split(options.splits, "train"))  # fmt: skip
    photos = load_coco_people(*source, ids=read_split(options.splits, "test"))
    names = ("blocks", "head", "head+guided", "tail", "tail+guided")
    counts = {name: Accumulator() for name in names}
    for name, tail in (("head", None), ("tail", (16, 8))):
        model = taught(variant(trained, size, tail, options.seed), dataset, options.steps,
                       options.batch, options.seed)  # fmt: skip
        segmenter = Segmenter(model)
        for photo in photos:
            pixels, truth = photo.pixels(), (photo.person(), photo.ignore())
            score = segmenter.logits(pixels).sigmoid().numpy()
            fine = refine(pixels, score)
            masks = {name: score > 0.5, f"{name}+guided": fine > 0.5}
            if tail is None:
                masks["blocks"] = blocks(segmenter, pixels)
            for key, mask in masks.items():
                counts[key].add(*(torch.from_numpy(m)[None] for m in (mask, *truth)))
    milliseconds = extra_latency(options.rounds)
    print(
        json.dumps(
            {
                "benchmark": "edges",
                "photos": len(photos),
                "size": size,
                "steps": options.steps,
                "batch": options.batch,
                **{name: count.result() for name, count in counts.items()},
                "latency_ms": milliseconds,
                "latency_ratio": milliseconds["tail"] / milliseconds["head"],
                "threads": torch.get_num_threads(),
            }
        )
    )


def blocks(segmenter: Segmenter, pixels: np.ndarray) -> np.ndarray:
    """The historical mask: thresholded at a quarter of the resolution, then repeated."""
    box = Letterbox.of(*pixels.shape[:2], segmenter.size)
    with torch.no_grad():
        small = segmenter.model(to_tensor(box.put(pixels, segmenter.size))) > 0
    part = box.cut(F.interpolate(small.float(), scale_factor=4, mode="nearest"))
    return F.interpolate(part, pixels.shape[:2], mode="nearest")[0, 0].numpy() > 0.5


if __name__ == "__main__":
    main()
