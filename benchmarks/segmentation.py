"""What the segmenters of chapter 02 cost: parameters, latency, and a frozen encoder with a cache.

    python benchmarks/segmentation.py [--rounds 7]

Prints four JSON lines. `segmenter_latency`: milliseconds of one photo through each network, batch
1 at the network's own size, in turns. `frozen_encoder`: milliseconds per training image of a frozen
`hiera_small` segmenter when the encoder runs in every step, and when its maps are read from a
cache in half precision (from memory, and from a file that the system has been told to forget).
`guided_filter`: milliseconds for a photo of one megapixel with a person in the middle.

`maskrcnn`: a square photo of 256 px through the segmenter that ships and through torchvision's Mask
R-CNN with random weights (only time is compared), in turns. Counted are all layers and Mask R-CNN's
sorting of boxes. How many boxes go through its heads depends on the weights: random ones give the
most that it allows, 1,000 `proposals` through the box head and 100 `detections` through the mask
head; trained ones fewer, depending on the photo. So it is measured three times: `few`, both
networks at 256 px and Mask R-CNN with 100 proposals and 10 detections at most, less than it needs;
`network`, the same with as many as it allows; `photo`, as a user would call them, each at its own
size (384 px; a shorter side of 800).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn_v2

from messi_lib.profiles import SegmentationConfig, preset
from messi_lib.segmentation.edges import refine
from messi_lib.segmentation.infer import load_segmenter
from messi_lib.segmentation.losses import weighted_loss
from messi_lib.segmentation.model import PersonSegmenter, count_table

PRESETS = ("historical", "default", "laptop", "scratch")


def random_segmenter(name: str) -> PersonSegmenter:
    """A preset's network with random weights: time does not depend on them."""
    return PersonSegmenter(preset(SegmentationConfig, name, pretrained=False)).eval()


@torch.no_grad()
def latency(rounds: int) -> dict[str, dict[str, float]]:
    """Parameters and median milliseconds of every network."""
    models = {name: random_segmenter(name) for name in PRESETS} | {"shipped": load_segmenter()}
    inputs = {n: torch.zeros(1, 3, *[m.config.image_size] * 2) for n, m in models.items()}
    rows = {
        name: {
            "image_size": m.config.image_size,
            "parameters": count_table(m)["total"]["parameters"],
        }
        for name, m in models.items()
    }
    # With random weights its boxes are random, up to a hundred of them: a rough figure.
    instances = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).eval()
    models["maskrcnn"] = instances
    inputs["maskrcnn"] = torch.zeros(1, 3, 480, 640)  # it enlarges to a shorter side of 800
    parameters = sum(p.numel() for p in instances.parameters())
    rows["maskrcnn"] = {"image_size": 640, "parameters": parameters}
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, model in models.items():
            began = time.perf_counter()
            model(inputs[name])
            if turn:  # the first warms up
                times[name].append(1000 * (time.perf_counter() - began))
    return {name: row | {"ms": statistics.median(times[name])} for name, row in rows.items()}


def detector(**size: int) -> nn.Module:
    """Mask R-CNN with random weights, the same ones each time."""
    torch.manual_seed(0)
    return maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **size).eval()


@torch.no_grad()
def against_maskrcnn(
    rounds: int, side: int = 256, kinds: tuple[str, ...] = ("few", "network", "photo")
) -> dict[str, object]:
    """Median milliseconds of a photo, and the median of the rounds' ratios, for each kind."""
    ours = load_segmenter().cpu()
    generator = torch.Generator().manual_seed(0)
    own = torch.rand(1, 3, *[ours.config.image_size] * 2, generator=generator) * 2 - 1
    photo = torch.rand(1, 3, side, side, generator=generator)
    same = {"min_size": side, "max_size": side}
    few = {"rpn_post_nms_top_n_test": 100, "box_detections_per_img": 10}
    sizes = {"few": same | few, "network": same, "photo": {}}
    theirs = {kind: detector(**sizes[kind]) for kind in kinds}
    firsts = {kind: own if kind == "photo" else photo * 2 - 1 for kind in kinds}
    boxes = {}
    for kind, model in theirs.items():  # warms up
        ours(firsts[kind])
        boxes[kind] = count_boxes(model, photo)
    times: dict[str, tuple[list[float], list[float]]] = {kind: ([], []) for kind in kinds}
    for _ in range(rounds):
        for kind, model in theirs.items():
            for network, given, values in zip((ours, model), (firsts[kind], photo), times[kind]):
                began = time.perf_counter()
                network(given)
                values.append(1000 * (time.perf_counter() - began))
    result: dict[str, object] = {"side": side, "rounds": rounds}
    for kind, (fast, slow) in times.items():
        ratios = [one / other for one, other in zip(slow, fast)]
        result[kind] = {
            "ours_ms": round(statistics.median(fast), 1),
            "maskrcnn_ms": round(statistics.median(slow), 1),
            "ratio": round(statistics.median(ratios), 1),
            **boxes[kind],
        }
    return result


def count_boxes(model: nn.Module, photo: Tensor) -> dict[str, int]:
    """How many boxes its heads look at, for one photo."""
    seen: list[int] = []
    watch = model.roi_heads.register_forward_pre_hook(
        lambda module, args: seen.append(len(args[1][0]))
    )
    found = model(photo)
    watch.remove()
    return {"proposals": seen[0], "detections": len(found[0]["boxes"])}


class Cache:
    """The four maps of every image, one after the other in a file, in half precision."""

    def __init__(self, path: Path, maps: list[Tensor]):
        self.shapes = [m.shape[1:] for m in maps]
        self.file = path
        flat = torch.cat([m.flatten(1) for m in maps], dim=1).half().numpy()
        self.width = flat.shape[1]
        flat.tofile(path)

    def forget(self) -> None:
        """Have the next reading come from the disk."""
        with self.file.open("rb+") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def read(self, indices: list[int]) -> list[Tensor]:
        """The maps of some images, float32."""
        rows = np.memmap(self.file, np.float16, "r").reshape(-1, self.width)
        flat = torch.from_numpy(rows[indices]).float()
        sizes = [shape.numel() for shape in self.shapes]
        parts = flat.split(sizes, dim=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes)]


def frozen_encoder(rounds: int, batch: int = 8, folder: str | None = None) -> dict[str, float]:
    """Milliseconds per image of a training step, with the encoder and with its cached maps."""
    model = PersonSegmenter(preset(SegmentationConfig, "default", pretrained=False)).train()
    image = torch.rand(2 * batch, 3, 256, 256) * 2 - 1
    person = torch.rand(batch, 1, 256, 256) < 0.2
    ignore = torch.zeros_like(person)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    with tempfile.TemporaryDirectory(dir=folder) as place:
        maps = [model.features(part) for part in image.split(batch)]
        cache = Cache(Path(place) / "maps", [torch.cat(level) for level in zip(*maps)])
        encode = model._encode
        forgetful = {"cached_disk": True, "cached_memory": False}

        def step(kind: str, first: int) -> None:
            rows = list(range(first, first + batch))
            if kind in forgetful:
                model._encode = lambda normalised: cache.read(rows)
            loss, _ = weighted_loss(model.config.loss, model(image[rows]), person, ignore)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            model._encode = encode

        times: dict[str, list[float]] = {"encoder": [], **{kind: [] for kind in forgetful}}
        for turn in range(rounds + 1):
            for kind, values in times.items():
                if forgetful.get(kind):
                    cache.forget()
                began = time.perf_counter()
                step(kind, batch * (turn % 2))
                if turn:
                    values.append(1000 * (time.perf_counter() - began) / batch)
        size = cache.file.stat().st_size / len(image)
    result = {f"{kind}_ms_per_image": statistics.median(v) for kind, v in times.items()}
    return result | {"bytes_per_image": size}


def guided_filter(rounds: int) -> dict[str, float]:
    """Median milliseconds of `edges.refine` on one megapixel, half of which is the person's box."""
    height, width = 866, 1154
    rows, columns = np.mgrid[:height, :width]
    inside = ((rows - height / 2) / 350) ** 2 + ((columns - width / 2) / 280) ** 2 < 1
    score = cv2.blur(inside.astype(np.float32), (41, 41))
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    times = []
    for _ in range(5 * rounds + 1):
        began = time.perf_counter()
        refine(pixels, score)
        times.append(1000 * (time.perf_counter() - began))
    return {"megapixels": height * width / 1e6, "ms": statistics.median(times[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", help="where the cache is written; default: the system's")
    options = parser.parse_args()
    threads = torch.get_num_threads()
    result = {"benchmark": "frozen_encoder", "threads": threads}
    print(json.dumps(result | frozen_encoder(options.rounds, folder=options.folder)), flush=True)
    result = {"benchmark": "guided_filter", "threads": threads}
    print(json.dumps(result | guided_filter(options.rounds)), flush=True)
    result = {"benchmark": "segmenter_latency", "threads": threads}
    print(json.dumps(result | latency(options.rounds)), flush=True)
    result = {"benchmark": "maskrcnn", "threads": threads}
    print(json.dumps(result | against_maskrcnn(options.rounds)))


if __name__ == "__main__":
    main()
