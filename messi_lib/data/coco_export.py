"""A folder of COCO people that can be trusted: photos, masks, annotations, splits, attribution.

The choice is written first (`selection.json`) and never changes inside one folder; photos may come
in several runs, from a folder or from the network. What is in `instances.json` is there: whole, of
the annotated size, and with both masks. The split is made over the chosen photos, not over those
that have arrived, so that a photo that comes later moves no other.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from PIL import Image

from messi_lib.data.coco import union
from messi_lib.data.coco_select import Selected, Selection
from messi_lib.data.download import Job, Outcome, fetch_all, progress
from messi_lib.data.web import is_address
from messi_lib.images import write_png
from messi_lib.runs import atomic_write

WRITERS = 8  # masks at once: nearly all of the time is waiting for the disk
_FLICKR = re.compile(r"staticflickr\.com/(?:\d+/)?\d+/(\d+)_")


@dataclass(frozen=True)
class Exported:
    """What `export_people` left: image ids of each split that are there, and what became of them.

    `outcome.failed` is what `failed.csv` lists.
    """

    outcome: Outcome
    splits: dict[str, list[int]]


def check_photo(content: bytes, width: int, height: int) -> None:
    """Whether it is a photo of this size in pixels, as stored, that decodes to its end.

    Raises:
        OSError: it cannot be decoded. ValueError: another size.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.size != (width, height):
                raise ValueError(
                    f"has {image.size[0]}x{image.size[1]} pixels, annotated is {width}x{height}"
                )
            image.load()
    except (SyntaxError, IndexError, EOFError) as error:  # of Pillow, for damaged files
        raise OSError(f"it cannot be decoded: {error}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error


def check_places(annotations: Path, out: Path, images: Path | None) -> None:
    """Refuse places in which results and inputs would mix.

    Raises:
        FileNotFoundError: no folder `images`.
        ValueError: `out` is `images`, or one lies in the other; the annotations would be
            overwritten; or `out` holds something that was not made here.
    """
    if images is not None:
        if not images.is_dir():
            raise FileNotFoundError(f"{images} is no folder: give the folder of the photos")
        target, source = out.resolve(), images.resolve()
        if target == source or source in target.parents or target in source.parents:
            raise ValueError(
                f"the output folder {out} and the folder of photos {images} lie in each other: "
                "choose another --out"
            )
    if (out / "instances.json").resolve() == annotations.resolve():
        raise ValueError(f"{annotations} would be overwritten: choose another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / "selection.json").exists():
        raise ValueError(
            f"{out} is not empty and was not made by this command: choose another --out"
        )


def _store_selection(out: Path, selection: Selection, selected: Selected) -> None:
    """Write `selection.json`, or compare with the one that is there.

    Raises:
        ValueError: the folder was made with another selection.
    """
    path = out / "selection.json"
    wanted = {**asdict(selection), "annotations": selected.digest}
    if path.exists():
        try:
            stored = dict(json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is damaged: delete the folder, or choose another") from error
        changed = [
            "other annotations" if key == "annotations" else f"{key}: {stored.get(key)} -> {value}"
            for key, value in wanted.items()
            if stored.get(key) != value
        ]
        if changed:
            raise ValueError(
                f"{out} was made with another selection ({', '.join(changed)}): choose another "
                "--out, or delete the folder"
            )
    else:
        atomic_write(path, json.dumps(wanted, indent=2) + "\n")


def _source(image: dict, images: Path | None) -> str | Path:
    """Address of a photo, or its file: `images/file_name`, or below the last folder of its address.

    The second is how the official archives unpack: `train2017/...` and `val2017/...`.
    """
    address = image.get("coco_url")
    if images is None:
        return address if isinstance(address, str) else ""
    file = images / image["file_name"]
    if not file.is_file() and isinstance(address, str):
        part = PurePosixPath(urlsplit(address).path).parent.name
        below = images / part / PurePosixPath(image["file_name"]).name
        if part not in ("", "..") and below.is_file():
            return below
    return file


def _jobs(selected: Selected, out: Path, images: Path | None) -> dict[Job, dict]:
    """What is to be fetched, and the image of each.

    Raises:
        ValueError: not one of the photos has an address.
    """
    jobs = {}
    for image in selected.content["images"]:
        check = partial(check_photo, width=image["width"], height=image["height"])
        path = out / "images" / selected.names[image["id"]]
        jobs[Job(_source(image, images), path, check)] = image
    if images is None and not any(is_address(job.source) for job in jobs):
        job, image = next(iter(jobs.items()))
        raise ValueError(
            f"no chosen photo has an http or https coco_url (image {image['id']}: "
            f"{job.source or 'none'!r}): give --images"
        )
    return jobs


def _write_masks(images: list[dict], selected: Selected, out: Path) -> None:
    """Write `person/<stem>.png` and `ignore/<stem>.png` (0/255) of the photos that lack them."""
    outlines = {image["id"]: ([], []) for image in images}
    for entry in selected.content["annotations"]:
        if entry["image_id"] in outlines:
            outlines[entry["image_id"]][bool(entry["iscrowd"])].append(entry["segmentation"])

    def write(image: dict) -> None:
        name = PurePosixPath(selected.names[image["id"]]).stem + ".png"
        for folder, regions in zip(("person", "ignore"), outlines[image["id"]]):
            # One that is there was renamed into place, from the same annotations.
            if not (out / folder / name).exists():
                region = union(regions, image["height"], image["width"])
                write_png(region, out / folder / name)

    pool = ThreadPoolExecutor(WRITERS)
    try:
        for _ in progress(pool.map(write, images), len(images), "masks"):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _csv(header: list[str], rows: Iterable[list]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([header, *rows])
    return stream.getvalue()


def flickr_page(address: object) -> str:
    """The page of a Flickr photo, with its author and title, from the address of its file."""
    found = _FLICKR.search(str(address))
    return f"https://www.flickr.com/photo.gne?id={found[1]}" if found else ""


def attribution(images: list[dict], licences: list[dict]) -> str:
    """A CSV table: file, licence and where the photo comes from, as CC BY asks for.

    COCO does not hold the names of the authors: `page` leads to them.
    """
    known = {entry["id"]: entry for entry in licences}
    rows = []
    for image in images:
        licence = known.get(image.get("license"), {})
        origin = image.get("flickr_url", "")
        told = [licence.get("name", "unknown"), licence.get("url", "")]
        places = [flickr_page(origin), origin, image.get("coco_url", "")]
        rows.append([image["file_name"], image["id"], *told, *places])
    header = ["file", "image_id", "licence", "licence_url", "page", "flickr_url", "coco_url"]
    return _csv(header, rows)


def _write_tables(
    out: Path, selected: Selected, images: list[dict], failed: list[tuple[Job, str]], jobs: dict
) -> dict[str, list[int]]:
    """Write what says what is there; returns the splits of the photos that are."""
    there = {image["id"] for image in images}
    listed = [image | {"file_name": selected.names[image["id"]]} for image in images]
    entries = [e for e in selected.content["annotations"] if e["image_id"] in there]
    content = selected.content | {"images": listed, "annotations": entries}
    splits = {
        part: [number for number in numbers if number in there]
        for part, numbers in selected.splits.items()
    }
    if listed:
        atomic_write(out / "attribution.csv", attribution(listed, content["licenses"]))
        atomic_write(out / "instances.json", json.dumps(content))
        atomic_write(out / "splits.json", json.dumps(splits) + "\n")
    rows = [[jobs[job]["id"], jobs[job]["file_name"], job.source, why] for job, why in failed]
    if rows:
        header = ["image_id", "file_name", "source", "reason"]
        atomic_write(out / "failed.csv", _csv(header, rows))
    else:
        (out / "failed.csv").unlink(missing_ok=True)
    return splits


def export_people(
    selected: Selected,
    selection: Selection,
    out: Path | str,
    images: Path | str | None = None,
    workers: int = 16,
    timeout: float = 20.0,
    **patience: float,
) -> Exported:
    """Write the chosen photos, their masks and annotations into a folder; again: go on with it.

    `out` gets `images/`, `person/<stem>.png` and `ignore/<stem>.png` (0 or 255), `instances.json`
    (COCO: `file_name` is the name in `images/`, everything else is the source's), `splits.json`,
    `attribution.csv`, `selection.json`, and `failed.csv` if photos are missing.

    Args:
        selected, selection: from `coco_select.select`, and what was asked of it.
        out: new folder, or one that this function made from the same selection.
        images: folder of the photos; None: from the network, by `coco_url`.
        workers, timeout, patience: of `fetch_all`.

    Raises:
        ValueError: a folder made from another selection; no photo has an address.
        OSError: `out` cannot be written.
    """
    out = Path(out)
    jobs = _jobs(selected, out, None if images is None else Path(images))
    _store_selection(out, selection, selected)
    outcome = fetch_all(jobs, workers, timeout=timeout, **patience)
    failed = {job for job, _ in outcome.failed}
    there = [image for job, image in jobs.items() if job not in failed]
    _write_masks(there, selected, out)
    return Exported(outcome, _write_tables(out, selected, there, outcome.failed, jobs))
