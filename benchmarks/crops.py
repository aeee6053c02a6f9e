"""How often a square crop keeps the subject's whole face: `auto`, `person` and `centre` compared.

    python benchmarks/crops.py FOLDER [--size 256] [--finder-size 480] [--limit 0] [--again]

Prints one JSON line: the number of photos, of photos with a face, and for each way of cropping the
share of the latter whose main face (score times area) lies wholly inside the window. `--again`
judges differently too: the finished crop is searched once more, and counts if the face is found in
it at the place where it was in the photo (intersection over union above one half).
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from messi_lib.data import crops
from messi_lib.data.faces import FaceFinder
from messi_lib.images import list_photos, load_photo
from messi_lib.segmentation.infer import Segmenter

WAYS = ("auto", "person", "centre")


def holds(window: crops.Window, face: np.ndarray) -> bool:
    """Does the whole face (x0, y0, x1, y1, score) lie in the window?"""
    top, left, side = window
    x0, y0, x1, y1 = face[:4]
    return bool(left <= x0 and top <= y0 and x1 <= left + side and y1 <= top + side)


def found_again(
    finder: FaceFinder, pixels: np.ndarray, window: crops.Window, face: np.ndarray, size: int
) -> bool:
    """Is the face of the photo found in its crop?"""
    top, left, side = window
    boxes = finder(crops.crop(pixels, window, size))[:, :4] * side / size
    boxes += np.array([left, top, left, top])
    sides = np.minimum(boxes[:, 2:], face[2:4]) - np.maximum(boxes[:, :2], face[:2])
    shared = np.clip(sides, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (face[2:4] - face[:2]).prod()
    return bool((shared > 0.5 * (areas - shared)).any())


def main() -> None:
    """Measure one folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=256, help="side of the crops in pixels")
    parser.add_argument("--finder-size", type=int, default=480, help="input of the face finder")
    parser.add_argument("--limit", type=int, default=0, help="only so many photos; 0: all")
    parser.add_argument("--again", action="store_true", help="search the finished crops as well")
    options = parser.parse_args()
    faces, segmenter = FaceFinder(size=options.finder_size), Segmenter()
    photos = list_photos([options.folder])[: options.limit or None]
    kept, again = (dict.fromkeys(WAYS, 0) for _ in range(2))
    smallest_share, with_face, fits, read, seconds = [], 0, 0, 0, 0.0
    for path in photos:
        try:
            pixels = load_photo(path).pixels
        except (ValueError, OSError):
            continue
        read += 1
        start = time.process_time()
        boxes = faces(pixels)
        seconds += time.process_time() - start
        face = crops.main_face(boxes)
        if face is None:
            continue
        with_face += 1
        fits += bool(max(face[2] - face[0], face[3] - face[1]) <= min(pixels.shape[:2]))
        smallest_share.append((face[3] - face[1]) / max(pixels.shape[:2]))
        ways = {
            "auto": crops.find_focus(pixels, options.size, None, lambda _, found=boxes: found),
            "person": crops.find_focus(pixels, options.size, lambda p: segmenter(p).person),
            "centre": crops.find_focus(pixels, options.size),
        }
        for way, focus in ways.items():
            kept[way] += holds(focus.window, face)
            if options.again:
                again[way] += found_again(faces, pixels, focus.window, face, options.size)
    line = {
        "photos": read,
        "with_face": with_face,
        "face_fits_short_side": fits,
        "whole_face": {way: round(kept[way] / max(with_face, 1), 4) for way in WAYS},
        "found_again": {way: round(again[way] / max(with_face, 1), 4) for way in WAYS},
        "median_face_share": round(float(np.median(smallest_share)), 3) if smallest_share else None,
        "faces_per_cpu_second": round(read / max(seconds, 1e-9), 1),
        "size": options.size,
        "finder_size": options.finder_size,
    }
    if not options.again:
        del line["found_again"]
    print(json.dumps(line))


if __name__ == "__main__":
    main()
