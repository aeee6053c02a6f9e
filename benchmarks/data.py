"""How fast image data comes: subject photos from their memory-mapped cache, COCO people from JPEGs.

    python benchmarks/data.py [--photos FOLDER] [--annotations JSON --images DIR] [--size 256]

Prints one JSON line. `feed` counts images a second as the training loop of the generator gets them
(`consistency.train.make_batches`: float32 in [-1, 1], mirrored at random), from a cached array
opened anew, its pages dropped from memory where the system can do that (`cold`), and again
(`warm`), in turns; `per_core` counts by the processor's time, which a busy machine does not
stretch. `make` is what reading, cropping and writing a photo costs without the cache, and
`gain` how often faster the warm cache is. `people` counts the items of PeopleDataset with two
worker processes. Without folders, drawn photos are used.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from messi_lib import profiles
from messi_lib.consistency.train import make_batches
from messi_lib.data import pitch
from messi_lib.data.faces import FaceFinder
from messi_lib.data.people import People, PeopleDataset, PitchPeople
from messi_lib.data.subject import load_subject
from messi_lib.images import write_png


def drop_pages(path: Path) -> bool:
    """Ask the system to forget what it holds of a file; False where it cannot."""
    if not hasattr(os, "posix_fadvise"):
        return False
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def images_a_second(images: np.ndarray, size: int, seconds: float) -> tuple[float, float]:
    """Speed of the training loop's batches: by the clock, and by the time of the processors."""
    config = profiles.preset(profiles.ConsistencyConfig, "gpu", image_size=size, flip=True)
    batch_at = make_batches(config, images)
    start, processor, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        count += len(batch_at(count // config.batch))
    return count / (time.perf_counter() - start), count / (time.process_time() - processor)


def draw_photos(folder: Path, n: int, size: int) -> None:
    """Photos of the procedural world, wide ones."""
    for index in range(n):
        scene = pitch.subject_scene(0, index, size).image
        write_png(np.concatenate([scene, scene[:, ::-1]], 1), folder / f"{index:03}.png")


class Items(Dataset):
    """The items of `People` in their order, for a DataLoader."""

    def __init__(self, people: People):
        self.people = people

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, index: int) -> torch.Tensor:
        epoch, place = divmod(index, len(self.people))
        return self.people.item(epoch, place)[0]


def people_a_second(people: People, seconds: float, workers: int = 2) -> float:
    """Speed of a DataLoader over `people`, its start left out."""
    batches = iter(DataLoader(Items(people), 16, num_workers=workers))
    for _ in range(workers * 2):  # what the workers have made beforehand
        next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        count += len(next(batches))
    return count / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of subject photos; none: drawn ones")
    parser.add_argument("--annotations", type=Path, help="COCO instances file; none: drawn people")
    parser.add_argument("--images", type=Path, help="folder of its images")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--limit", type=int, default=100, help="subject photos at most")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["MESSI_DATA"] = temporary
        folder = options.photos or Path(temporary) / "photos"
        if options.photos is None:
            folder.mkdir()
            draw_photos(folder, min(options.limit, 40), options.size)
        files = sorted(path for path in folder.rglob("*") if path.is_file())[: options.limit]
        faces = FaceFinder()
        start = time.perf_counter()
        images = load_subject(files, options.size, face_finder=faces)
        made = len(images) / (time.perf_counter() - start)
        (stored,) = Path(temporary).rglob("*.npy")
        cold, warm, can_drop = [], [], True
        for _ in range(options.turns):
            del images  # unmapped: pages in use cannot be dropped
            can_drop = drop_pages(stored)
            images = load_subject(files, options.size, face_finder=faces)
            cold.append(images_a_second(images, options.size, options.seconds))
            warm.append(images_a_second(images, options.size, options.seconds))
        if options.annotations is not None:
            people = PeopleDataset(options.annotations, options.images, options.size)
        else:
            people = PitchPeople(64, options.size)
        items = people_a_second(people, 2 * options.seconds)
    line = {
        "images": len(images),
        "size": options.size,
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "feed_cold": round(statistics.median(speed for speed, _ in cold)),
        "feed_warm": round(statistics.median(speed for speed, _ in warm)),
        "feed_best": round(max(warm)[0]),
        "feed_per_core": round(statistics.median(speed for _, speed in warm)),
        "pages_dropped": can_drop,
        "make": round(made, 1),
        "gain": round(statistics.median(speed for speed, _ in warm) / made, 1),
        "people": round(items, 1),
        "people_from": "photos" if options.annotations else "drawn",
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
