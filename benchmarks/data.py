"""How fast image data comes: subject photos from their memory-mapped cache, COCO people from JPEGs.

    python benchmarks/data.py [--photos FOLDER] [--annotations JSON --images DIR] [--size 256]

Prints one JSON line. `feed` counts images a second as the training loop of the generator gets them
(`consistency.train.make_batches`: float32 in [-1, 1], mirrored at random), from a cached array
opened anew, its pages dropped from memory where the system can do that (`cold`), and again
(`warm`), in turns; `per_core` counts by the processor's time, which a busy machine does not
stretch. `make` is what reading, cropping and writing a photo costs without the cache (before
each turn it is emptied), and `gain` how often faster the warm cache is. `people` counts the items
of PeopleDataset with two worker processes. Without folders, drawn photos are used.
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


def measure(
    photos: Path | None = None,
    annotations: Path | None = None,
    images: Path | None = None,
    *,
    size: int = 256,
    seconds: float = 3.0,
    turns: int = 3,
    limit: int = 100,
) -> dict[str, object]:
    """All speeds; see the arguments of the command. Caches go to a temporary folder."""
    before = os.environ.get("MESSI_DATA")
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["MESSI_DATA"] = temporary
        try:
            return _measure(
                Path(temporary), photos, annotations, images, size, seconds, turns, limit
            )
        finally:
            os.environ.pop("MESSI_DATA")
            if before is not None:
                os.environ["MESSI_DATA"] = before


def _measure(
    temporary: Path, photos: Path | None, annotations: Path | None, folder: Path | None,
    size: int, seconds: float, turns: int, limit: int,
) -> dict[str, object]:  # fmt: skip
    source = photos or temporary / "photos"
    if photos is None:
        source.mkdir()
        draw_photos(source, min(limit, 40), size)
    files = sorted(path for path in source.rglob("*") if path.is_file())[:limit]
    faces = FaceFinder()
    made, cold, warm, can_drop = [], [], [], True
    for _ in range(turns):
        images = None  # unmapped: pages in use cannot be dropped
        for stored in (temporary / "cache").rglob("*.npy"):
            stored.unlink()
        began = time.perf_counter()
        count = len(load_subject(files, size, face_finder=faces))
        made.append(count / (time.perf_counter() - began))
        (stored,) = (temporary / "cache").rglob("*.npy")
        can_drop = drop_pages(stored)
        images = load_subject(files, size, face_finder=faces)
        cold.append(images_a_second(images, size, seconds))
        warm.append(images_a_second(images, size, seconds))
    if annotations is not None:
        people = PeopleDataset(annotations, folder, size)
    else:
        people = PitchPeople(64, size)
    return {
        "images": count,
        "size": size,
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "feed_cold": round(statistics.median(speed for speed, _ in cold)),
        "feed_warm": round(statistics.median(speed for speed, _ in warm)),
        "feed_best": round(max(warm)[0]),
        "feed_per_core": round(statistics.median(speed for _, speed in warm)),
        "pages_dropped": can_drop,
        "make": round(statistics.median(made), 1),
        "gain": round(statistics.median(fed / slow for (fed, _), slow in zip(warm, made)), 1),
        "people": round(people_a_second(people, 2 * seconds), 1),
        "photos_from": "a folder" if photos else "drawn",
        "people_from": "photos" if annotations else "drawn",
    }


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
    print(json.dumps(measure(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
