"""Which photos of a COCO file become the data set, and why the others do not.

Each photo is judged on its own, by its licence, its people and (for photos without people) a hash
of its id: a photo more or less in the file changes nothing for the others.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from messi_lib.data.coco import (
    category_entries,
    check_content,
    check_outline,
    outline_area,
    outline_box,
    parse_coco,
)
from messi_lib.data.splits import ordered, split

# Licences under which photos may be passed on, also commercially and changed. A name is understood
# only if each of its words is: "licensed by ..." is no CC BY.
_CODES = {"by", "by-sa"}
_PUBLIC = {"no known copyright restrictions", "united states government work", "us government work",
           "public domain", "public domain mark", "cc0", "cc0 universal", "zero"}  # fmt: skip
_DEED = re.compile(r"creativecommons\.org/(licenses|publicdomain)/([a-z-]+)", re.IGNORECASE)
_SILENT = {"cc", "creative", "commons", "license", "licence", "generic", "international",
           "unported"}  # fmt: skip
_PARTS = {"attribution": "by", "noncommercial": "nc", "sharealike": "sa", "noderivs": "nd",
          "noderivatives": "nd", "by": "by", "nc": "nc", "sa": "sa", "nd": "nd"}  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """What is asked of the photos.

    Args:
        category: name of the category that counts as people.
        max_people: most people in a photo (0: any number, crowds included). A crowd region counts
            as more than any number.
        min_area: share of the photo that its largest person covers at least, 0 to 1.
        negatives: share of the photos without people that is kept, 0 to 1.
        licence: "any", or "open": CC BY, CC BY-SA and public domain.
        limit: most photos; those that come first in the order of the split, so that another limit
            leaves the test photos as they are. None: all.
        test, val, seed: of the split (see `splits.split`).

    Raises:
        ValueError: a number out of range.
    """

    category: str = "person"
    max_people: int = 3
    min_area: float = 0.01
    negatives: float = 0.1
    licence: str = "any"
    limit: int | None = None
    test: int = 100
    val: float = 0.1
    seed: int = 0

    def __post_init__(self):
        if self.max_people < 0:
            raise ValueError(f"max_people={self.max_people}: give 0 (any number) or more")
        for name in ("min_area", "negatives"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: give a share from 0 to 1")
        if self.licence not in ("any", "open"):
            raise ValueError(f"licence={self.licence!r}: use any or open")
        if self.test < 0 or not 0 <= self.val < 1:
            raise ValueError(
                f"test={self.test}, val={self.val}: give a number of photos, and a share of at "
                "least 0 and less than 1"
            )
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit={self.limit}: give at least 1, or leave it out for all photos")


@dataclass
class Selected:
    """The chosen photos of a COCO file.

    Attributes:
        content: COCO content of the chosen photos and of the category alone, as in the source.
        names: name of each photo (by image id) in the data set: no two have one stem.
        splits: image ids of train, val and test.
        left_out: number of photos for each reason.
        broken: what was wrong with each outline that cost a photo its place.
        digest: hash of `content`.
    """

    content: dict
    names: dict[int, str]
    splits: dict[str, list[int]]
    left_out: Counter
    broken: list[str] = field(default_factory=list)
    digest: str = ""


def read_annotations(path: Path | str) -> dict:
    """Content of an `instances_*.json`, or of all of them in a zip archive, put together.

    Raises:
        FileNotFoundError: no such file.
        ValueError: neither, or files that do not belong together.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: give a COCO instances_*.json, or annotations_trainval2017.zip"
        )
    if not zipfile.is_zipfile(path):
        return parse_coco(path.read_bytes(), path)
    merged: dict = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                name
                for name in sorted(archive.namelist())
                if re.fullmatch(r"instances_.*\.json", PurePosixPath(name).name)
            ]
            if not members:
                raise ValueError(f"{path} holds no instances_*.json: is it the right archive?")
            for name in members:
                _merge(merged, parse_coco(archive.read(name), f"{path}:{name}"), path)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} cannot be unpacked: {error}") from error
    return check_content(merged, path)


def _merge(merged: dict, content: dict, path: Path) -> None:
    """Add a file's content; ids of categories and licences must mean the same in all files."""
    for key in ("categories", "licenses"):
        known = {entry["id"]: entry for entry in merged.get(key, [])}
        for entry in content.get(key, []):
            if known.setdefault(entry["id"], entry)["name"] != entry["name"]:
                raise ValueError(
                    f"{path}: {key} {entry['id']} is {known[entry['id']]['name']!r} in one file "
                    f"and {entry['name']!r} in another: use one of the files"
                )
        merged[key] = list(known.values())
    for key in ("images", "annotations"):
        merged.setdefault(key, []).extend(content[key])
    merged.setdefault("info", content.get("info", {}))


def is_open(licence: dict | None) -> bool:
    """Whether a COCO licence (`name`, `url`) allows passing on: CC BY, CC BY-SA, public domain.

    Name and address must not contradict each other; a licence that says neither is not open.
    """
    verdicts = set()
    if deed := _DEED.search(str((licence or {}).get("url", ""))):
        verdicts.add(deed[1].lower() == "publicdomain" or deed[2].lower() in _CODES)
    name = str((licence or {}).get("name", "")).lower()
    for spelling, usual in (("u.s.", "us"), ("non-", "non"), ("no-", "no")):
        name = name.replace(spelling, usual)
    words = [word for word in re.findall(r"[a-z]+0?", name) if word not in _SILENT]
    if words and all(word in _PARTS for word in words):
        verdicts.add("-".join(_PARTS[word] for word in words) in _CODES)
    elif words:
        verdicts.add(True if " ".join(words) in _PUBLIC else None)
    return verdicts == {True}


def _reason(image: dict, entries: list[dict], chosen: Selection) -> str | None:
    """Why a photo is left out; None if it is kept. A broken outline raises ValueError."""
    height, width = image["height"], image["width"]
    if not entries:
        place = hashlib.sha256(f"{chosen.seed}:negative:{image['id']}".encode()).digest()
        kept = int.from_bytes(place[:8], "big") < chosen.negatives * 2**64
        return None if kept else "no people"
    people = [entry for entry in entries if not entry.get("iscrowd")]
    if chosen.max_people and (len(people) < len(entries) or len(people) > chosen.max_people):
        return "too many people"
    for entry in entries:
        check_outline(entry, height, width, f"image {image['id']}")
    largest = max((outline_area(p["segmentation"], height, width) for p in people), default=0)
    return "people too small" if largest < chosen.min_area * height * width else None


def _names(images: list[dict], path: Path | str) -> dict[int, str]:
    """A file name for each image: its own, or with its id where two would have one stem.

    Letter case does not count: some file systems do not know it.

    Raises:
        ValueError: two images with one `file_name`, or one that names no file.
    """
    first: dict[str, int] = {}
    stems: dict[str, list[dict]] = defaultdict(list)
    for image in images:
        original = image["file_name"]
        other = first.setdefault(original, image["id"])
        if other != image["id"]:
            raise ValueError(
                f"{path}: images {other} and {image['id']} are both called {original!r}: "
                "are people of one photo spread over two entries?"
            )
        place = PurePosixPath(original)
        name = place.name
        if not name or place.is_absolute() or ".." in place.parts or "\0" in original:
            raise ValueError(
                f"{path}: image {image['id']} has the file_name {original!r}: it must be inside a "
                "folder of photos"
            )
        stems[PurePosixPath(name).stem.lower()].append(image)
    names, taken = {}, set(stems)
    for group in stems.values():
        for image in group:
            name = PurePosixPath(image["file_name"]).name
            if len(group) > 1:
                stem = f"{PurePosixPath(name).stem}_{image['id']}"
                while stem.lower() in taken:
                    stem += "_"
                taken.add(stem.lower())
                name = stem + PurePosixPath(name).suffix
            names[image["id"]] = name
    return names


def select(content: dict, chosen: Selection, path: Path | str) -> Selected:
    """Choose photos of a COCO file and divide them into train, val and test.

    The reasons are asked in the order: licence, no people, too many people, broken outline, people
    too small, over the limit; a photo is counted under the first.

    Args:
        content: as `read_annotations` gave it.
        path: names the file in errors.

    Raises:
        ValueError: no such category, no photo left, more test photos than there are, two photos of
            one name.
    """
    by_image = category_entries(content, chosen.category, path)
    open_ids = {entry["id"] for entry in content.get("licenses", []) if is_open(entry)}
    left_out, broken, kept = Counter(), [], {}
    for image in tqdm(content["images"], desc="selecting", disable=None):
        try:
            if chosen.licence == "open" and image.get("license") not in open_ids:
                reason = "licence"
            else:
                reason = _reason(image, by_image[image["id"]], chosen)
        except ValueError as error:
            reason = "broken outline"
            broken.append(str(error))
        if reason:
            left_out[reason] += 1
        else:
            kept[image["id"]] = image
    if chosen.limit is not None and len(kept) > chosen.limit:
        left_out["over the limit"] = len(kept) - chosen.limit
        kept = {number: kept[number] for number in ordered(kept, chosen.seed)[: chosen.limit]}
    if not kept:
        found = ", ".join(f"{reason} {count}" for reason, count in left_out.most_common())
        raise ValueError(f"{path}: none of its photos is chosen ({found or 'it has none'})")
    images = [kept[number] for number in sorted(kept)]
    entries = [dict(entry) for image in images for entry in by_image[image["id"]]]
    _complete(entries, kept)
    wanted = [entry for entry in content["categories"] if entry["name"] == chosen.category]
    small = {
        "info": content.get("info") or {},
        "licenses": content.get("licenses") or [],
        "categories": wanted,
        "images": images,
        "annotations": entries,
    }
    try:
        packed = json.dumps(small, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: a chosen entry holds a number that is none: {error}") from error
    return Selected(
        small,
        _names(images, path),
        split(list(kept), chosen.seed, chosen.test, chosen.val),
        left_out,
        broken,
        hashlib.sha256(packed.encode()).hexdigest(),
    )


def _complete(entries: list[dict], images: dict[int, dict]) -> None:
    """Add what readers of COCO rely on and some files lack: different ids, area, box, iscrowd."""
    if len({entry.get("id") for entry in entries} - {None}) < len(entries):
        for number, entry in enumerate(entries, start=1):
            entry["id"] = number
    for entry in entries:
        entry.setdefault("iscrowd", 0)
        image = images[entry["image_id"]]
        place = entry["segmentation"], image["height"], image["width"]
        if "area" not in entry:
            entry["area"] = float(outline_area(*place))
        if "bbox" not in entry:
            entry["bbox"] = outline_box(*place)
