"""People annotated in COCO's format: which photos there are, and where the people in them are.

People are united by logical or (a sum would be 2 where they overlap: post-mortem 4), regions of
uncounted crowds (`iscrowd`) are kept apart: they are neither people to learn from nor background.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as rle


@dataclass(frozen=True)
class PeoplePhoto:
    """One photo of a COCO file: where it is and the outlines of its people and crowds."""

    image_id: int
    path: Path
    height: int
    width: int
    outlines: tuple  # COCO `segmentation` of each person
    crowds: tuple  # the same of each `iscrowd` region

    def persons(self) -> np.ndarray:
        """Regions of the single people, bool (n, H, W); they may overlap."""
        regions = [decode(outline, self.height, self.width) for outline in self.outlines]
        return np.array(regions, dtype=bool).reshape(-1, self.height, self.width)

    def person(self) -> np.ndarray:
        """True where there is any person, bool (H, W)."""
        return union(self.outlines, self.height, self.width)

    def ignore(self) -> np.ndarray:
        """True inside crowd regions, whose people nobody has counted, bool (H, W)."""
        return union(self.crowds, self.height, self.width)

    def pixels(self) -> np.ndarray:
        """The photo as uint8 (H, W, 3) RGB, in the orientation of the file.

        COCO outlines refer to the pixels as stored: an EXIF orientation must not be applied.

        Raises:
            ValueError: an unreadable file, or one of another size than annotated.
        """
        try:
            with Image.open(self.path) as image:
                pixels = np.array(image.convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise ValueError(f"{self.path} cannot be read: {error}") from error
        if pixels.shape[:2] != (self.height, self.width):
            raise ValueError(
                f"{self.path} has {pixels.shape[1]}x{pixels.shape[0]} pixels but is annotated as "
                f"{self.width}x{self.height}: the annotations belong to another copy of the photo"
            )
        return pixels


def _to_rle(outline: list | dict, height: int, width: int) -> dict:
    """Polygons, uncompressed or compressed run lengths -> compressed run lengths."""
    if isinstance(outline, list):
        return rle.merge(rle.frPyObjects(outline, height, width))
    if isinstance(outline["counts"], list):
        return rle.frPyObjects(outline, height, width)
    return outline


def decode(outline: list | dict, height: int, width: int) -> np.ndarray:
    """A COCO `segmentation` as bool (H, W), bit for bit what `COCO.annToMask` gives."""
    return np.ascontiguousarray(rle.decode(_to_rle(outline, height, width)), dtype=bool)


def union(outlines: tuple | list, height: int, width: int) -> np.ndarray:
    """True where any of the outlines is, bool (H, W): the logical or, never a sum."""
    if not outlines:
        return np.zeros((height, width), dtype=bool)
    merged = rle.merge([_to_rle(outline, height, width) for outline in outlines])
    return np.ascontiguousarray(rle.decode(merged), dtype=bool)


def outline_area(outline: list | dict, height: int, width: int) -> int:
    """Number of pixels inside a COCO `segmentation`: of what `decode` gives."""
    return int(rle.area(_to_rle(outline, height, width)))


def outline_box(outline: list | dict, height: int, width: int) -> list[float]:
    """The `bbox` of a COCO `segmentation`: left, top, width and height in pixels."""
    return [float(value) for value in rle.toBbox(_to_rle(outline, height, width))]


def _total(counts: list | str | bytes) -> int:
    """Number of pixels that run lengths cover; -1 if one of them is negative or cut off.

    Compressed ones are numbers of 5 bits a character, lowest first, each from the third on as the
    difference to the last but one.
    """
    if isinstance(counts, list):
        return sum(counts) if all(count >= 0 for count in counts) else -1
    lengths: list[int] = []
    value = shift = 0
    for code in counts.encode() if isinstance(counts, str) else counts:
        value |= (code - 48 & 0x1F) << shift
        shift += 5
        if not code - 48 & 0x20:  # the last character of a number; 0x10 is its sign
            if code - 48 & 0x10:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return sum(lengths) if not shift and all(length >= 0 for length in lengths) else -1


def _flaw(outline: object, height: int, width: int) -> str | None:
    """What is wrong with a `segmentation`; None if it can be decoded.

    pycocotools trusts its input: short run lengths leave memory as it was, and coordinates far
    outside the photo ask for gigabytes.
    """
    if isinstance(outline, list):
        if not all(isinstance(polygon, list) for polygon in outline):
            return "has a polygon that is no list of numbers"
        if not outline or any(len(polygon) < 6 or len(polygon) % 2 for polygon in outline):
            return "has no outline, or a polygon of fewer than three points"
        reach = 4 * max(height, width)
        numbers = chain.from_iterable(outline)
        if not all(math.isfinite(number) and abs(number) <= reach for number in numbers):
            return "has a point far outside the photo"
        return None
    if isinstance(outline, dict) and {"size", "counts"} <= outline.keys():
        if list(outline["size"]) != [height, width]:
            return f"has run lengths for size {outline['size']}, the image is {[height, width]}"
        if _total(outline["counts"]) != height * width:
            return f"has run lengths that do not add up to {height * width} pixels"
        return None
    return "has neither polygons nor run lengths"


def check_outline(annotation: dict, height: int, width: int, path: Path | str) -> list | dict:
    """The `segmentation` of an annotation, after a check that it can be decoded.

    Raises:
        ValueError: it cannot; the line names the file `path` and the annotation.
    """
    outline = annotation.get("segmentation")
    try:
        problem = _flaw(outline, height, width)
    except (TypeError, ValueError, IndexError):
        problem = "has an outline that is not made of numbers"
    if problem:
        raise ValueError(f"{path}: annotation {annotation.get('id')} {problem}")
    return outline


def check_content(content: object, path: Path | str) -> dict:
    """The content of a COCO instances file, after a check of what the library relies on.

    Args:
        content: as `json.loads` gave it.
        path: names the file in errors.

    Returns:
        `content` itself: `images` with whole, different ids, a `file_name` and positive sizes,
        `categories` with names, `annotations` with an image and a category.

    Raises:
        ValueError: it is something else.
    """
    try:
        seen = set()
        for image in content["images"]:
            number, size = image["id"], (image["height"], image["width"])
            if type(number) is not int or number in seen:
                raise ValueError(f"image id {number!r} is no whole number, or occurs twice")
            if any(type(side) is not int or side < 1 for side in size):
                raise ValueError(f"image {number} has height and width {size}")
            if not isinstance(image["file_name"], str) or not image["file_name"].strip():
                raise ValueError(f"image {number} has no file_name")
            seen.add(number)
        for category in content["categories"]:
            hash(category["id"]), category["name"].strip()
        for entry in content["annotations"]:
            hash(entry["category_id"]), hash(entry["image_id"]), entry.get("iscrowd")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no COCO instances file ({type(error).__name__}: {error}): it needs images, "
            "categories and annotations"
        ) from error
    return content


def parse_coco(data: bytes, path: Path | str) -> dict:
    """`check_content` of a JSON text.

    Raises:
        ValueError: no JSON, or no COCO instances file; `path` names it.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no COCO instances file: it is no JSON ({type(error).__name__}: {error})"
        ) from error
    return check_content(content, path)


def category_entries(content: dict, category: str, path: Path | str) -> dict[int, list[dict]]:
    """Annotations of one category, found by its name, of each image id (also those without).

    Raises:
        ValueError: there is no such category; those that there are are named.
    """
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    wanted = {number for number, name in names.items() if name == category}
    if not wanted:
        raise ValueError(f"{path} has no category {category!r}, only {sorted(names.values())}")
    by_image: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        if entry["category_id"] in wanted and entry["image_id"] in by_image:
            by_image[entry["image_id"]].append(entry)
    return by_image


def load_coco_people(
    annotations: Path | str,
    images_dir: Path | str,
    max_people: int = 0,
    ids: Collection[int] | None = None,
    category: str = "person",
) -> list[PeoplePhoto]:
    """Photos of a COCO instances file, sorted by image id, with the outlines of their people.

    Photos without people are kept: a segmenter must learn to say no.

    Args:
        annotations: `instances_*.json`.
        images_dir: folder of the photos.
        max_people: leave out photos with more people than this (0: any number). A crowd region
            counts as more than any number.
        ids: image ids to keep, for instance one part of a split; None: all.
        category: name of the category that counts as people.

    Raises:
        FileNotFoundError: the file, or a photo it names, is missing.
        ValueError: not a COCO instances file, no such category, a broken outline, no photo left.
    """
    path, folder = Path(annotations), Path(images_dir)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give a COCO instances_*.json")
    content = parse_coco(path.read_bytes(), path)
    images = sorted(content["images"], key=lambda image: image["id"])
    by_image = category_entries(content, category, path)

    photos, missing = [], []
    kept = None if ids is None else set(ids)
    for image in images:
        if kept is not None and image["id"] not in kept:
            continue
        height, width = image["height"], image["width"]
        outlines: tuple[list, list] = ([], [])
        for entry in by_image[image["id"]]:
            crowd = bool(entry.get("iscrowd", 0))
            outlines[crowd].append(check_outline(entry, height, width, path))
        if max_people and (outlines[1] or len(outlines[0]) > max_people):
            continue
        file = folder / image["file_name"]
        if not file.is_file():
            missing.append(file)
        photos.append(
            PeoplePhoto(image["id"], file, height, width, tuple(outlines[0]), tuple(outlines[1]))
        )
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(photos)} photos named in {path} are missing, first "
            f"{missing[0]}: is images_dir the folder that belongs to this file?"
        )
    if not photos:
        limit = f" with at most {max_people} people" if max_people else ""
        among = "" if kept is None else f" among the {len(kept)} ids asked for"
        raise ValueError(f"{path} has no photo{limit}{among}")
    return photos
