"""People annotated in COCO's format: which photos there are, and where the people in them are.

People are united by logical or (a sum would be 2 where they overlap: post-mortem 4), regions of
uncounted crowds (`iscrowd`) are kept apart: they are neither people to learn from nor background.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
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


def _check_outline(annotation: dict, height: int, width: int, path: Path) -> list | dict:
    outline = annotation.get("segmentation")
    problem = None
    if isinstance(outline, list):
        if not outline or any(len(polygon) < 6 or len(polygon) % 2 for polygon in outline):
            problem = "has no outline, or a polygon of fewer than three points"
    elif isinstance(outline, dict) and {"size", "counts"} <= outline.keys():
        if list(outline["size"]) != [height, width]:
            problem = f"has run lengths for size {outline['size']}, the image is {[height, width]}"
    else:
        problem = "has neither polygons nor run lengths"
    if problem:
        raise ValueError(f"{path}: annotation {annotation.get('id')} {problem}")
    return outline


def load_coco_people(
    annotations: Path | str, images_dir: Path | str, max_people: int = 0
) -> list[PeoplePhoto]:
    """Photos of a COCO instances file, sorted by image id, with the outlines of their people.

    Photos without people are kept: a segmenter must learn to say no.

    Args:
        annotations: `instances_*.json`; the category is found by its name, `person`.
        images_dir: folder of the photos.
        max_people: leave out photos with more people than this (0: any number). A crowd region
            counts as more than any number.

    Raises:
        FileNotFoundError: the file, or a photo it names, is missing.
        ValueError: not a COCO instances file, no such category, a broken outline, no photo left.
    """
    path, folder = Path(annotations), Path(images_dir)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give a COCO instances_*.json")
    try:
        content = json.loads(path.read_text())
        images = sorted(content["images"], key=lambda image: image["id"])
        names = {category["id"]: category["name"] for category in content["categories"]}
        entries = content["annotations"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no COCO instances file ({type(error).__name__}: {error}): it needs images, "
            "categories and annotations"
        ) from error
    wanted = {number for number, name in names.items() if name == "person"}
    if not wanted:
        raise ValueError(f"{path} has no category 'person', only {sorted(names.values())}")
    by_image: dict[int, list[dict]] = {image["id"]: [] for image in images}
    for entry in entries:
        if entry["category_id"] in wanted and entry["image_id"] in by_image:
            by_image[entry["image_id"]].append(entry)

    photos, missing = [], []
    for image in images:
        height, width = int(image["height"]), int(image["width"])
        outlines: tuple[list, list] = ([], [])
        for entry in by_image[image["id"]]:
            crowd = bool(entry.get("iscrowd", 0))
            outlines[crowd].append(_check_outline(entry, height, width, path))
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
        raise ValueError(f"{path} has no photo with at most {max_people} people")
    return photos
