"""A segmenter judged on annotated photos, at their own resolution, by groups of photos.

Masks are compared where users see them, on the pixels of the photo, whatever size the network saw.
Crowd regions, whose people nobody has counted, are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from tqdm import tqdm

from messi_lib.data.coco import PeoplePhoto
from messi_lib.segmentation.metrics import Accumulator

SMALL, LARGE = 32**2, 96**2  # COCO's borders between small, medium and large, in pixels
CLEAR = 0.03  # share of the frame above which a person counts as a subject of the photo


class Found(Protocol):
    """What a segmenter answers (`infer.Segmentation` is one)."""

    person: np.ndarray


def groups_of(photo: PeoplePhoto) -> set[str]:
    """Names of the groups to which a photo belongs.

    By its largest person, in pixels of the photo as in COCO: `largest_small` (below 32 x 32),
    `largest_medium`, `largest_large` (above 96 x 96). By the number of people: `people_0`,
    `people_1`, `people_2_4`, `people_5_up`, or `crowd` where there is an uncounted one.
    `clear_people`: one to three people, each larger than 3% of the frame, no crowd.
    """
    areas = [int(person.sum()) for person in photo.persons()]
    names = set()
    if areas:
        largest = max(areas)
        kind = "small" if largest < SMALL else "large" if largest > LARGE else "medium"
        names.add(f"largest_{kind}")
    count = len(areas)
    if photo.crowds:
        names.add("crowd")
    else:
        few = f"people_{count}" if count < 2 else "people_2_4"
        names.add(few if count < 5 else "people_5_up")
        smallest = min(areas, default=0)
        if 1 <= count <= 3 and smallest > CLEAR * photo.height * photo.width:
            names.add("clear_people")
    return names


def evaluate_photos(
    segmenter: Callable[[np.ndarray], Found], photos: Sequence[PeoplePhoto], quiet: bool = False
) -> dict:
    """IoU and Boundary IoU of a segmenter on annotated photos.

    Args:
        segmenter: photo uint8 (H, W, 3) -> an answer whose `person` is bool (H, W).
        photos: for instance of `data.coco.load_coco_people`.
        quiet: no progress bar.

    Returns:
        the values of `metrics.Accumulator.result` over all photos, `ms_per_image` (median time of
        the segmenter alone), and `groups`: the same values for each of `groups_of` that occurs.

    Raises:
        ValueError: no photo, or one that cannot be read.
    """
    counts, seconds = Accumulator(), []
    members: dict[str, list[int]] = {}
    for position, photo in enumerate(tqdm(photos, desc="photos", disable=quiet or None)):
        pixels = photo.pixels()
        began = time.perf_counter()
        found = segmenter(pixels).person
        seconds.append(time.perf_counter() - began)
        counts.add(*(torch.from_numpy(r)[None] for r in (found, photo.person(), photo.ignore())))
        for name in groups_of(photo):
            members.setdefault(name, []).append(position)
    result = counts.result()
    result["ms_per_image"] = 1000 * float(np.median(seconds))
    result["groups"] = {name: counts.result(members[name]) for name in sorted(members)}
    return result


def as_table(result: dict) -> str:
    """The result of `evaluate_photos` as lines of text, a group per line."""
    heads = ("IoU", "accumulated", "BIoU 2%", "BIoU 0.5%")
    lines = [f"{'photos':<16}{'n':>6}  {heads[0]:>14}  " + "  ".join(f"{h:>9}" for h in heads[1:])]
    for name, row in {"all": result, **result["groups"]}.items():
        lines.append(
            f"{name:<16}{row['n_images']:>6}  {row['mean_iou']:.3f} +- {row['mean_iou_95']:.3f}"
            f"  {row['accumulated_iou']:>11.3f}  {row['boundary_iou_2pct']:>9.3f}"
            f"  {row['boundary_iou_05pct']:>9.3f}"
        )
    lines.append(f"{result['ms_per_image']:.0f} ms an image (median)")
    return "\n".join(lines)
