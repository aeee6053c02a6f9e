"""COCO annotations: masks equal COCO's own bit for bit, a union is no sum, bad files are named."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from messi_lib.data import coco as library
from messi_lib.data.coco import PeoplePhoto, load_coco_people

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "coco_people_320"

LEFT = [[2, 2, 14, 2, 14, 20, 2, 20]]  # two rectangles that overlap in x 10..14
RIGHT = [[10, 4, 30, 4, 30, 22, 10, 22]]


def coco_json(annotations: list[dict], sizes=((24, 40),), category="person") -> dict:
    """A tiny COCO file: image i has `sizes[i-1]` (height, width)."""
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": h, "width": w}
            for i, (h, w) in enumerate(sizes, start=1)
        ],
        "categories": [{"id": 7, "name": category}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 7, "iscrowd": 0, "area": 1.0, **annotation}
            for n, annotation in enumerate(annotations, start=1)
        ],
    }


def store(folder: Path, content: dict) -> Path:
    """Write the photos (a gradient with noise) and the JSON; return the JSON's path."""
    for image in content["images"]:
        noise = np.random.default_rng(image["id"]).integers(
            0, 256, (image["height"], image["width"], 3), dtype=np.uint8
        )
        Image.fromarray(noise).save(folder / image["file_name"])
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def run_lengths(region: np.ndarray, compressed: bool) -> dict:
    """A region as COCO run lengths, down the columns, beginning with zeros."""
    if compressed:
        packed = rle.encode(np.asfortranarray(region.astype(np.uint8)))
        return {"size": packed["size"], "counts": packed["counts"].decode()}
    flat = region.ravel(order="F").astype(int)
    starts = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return {"size": list(region.shape), "counts": np.diff(np.concatenate([[0], starts])).tolist()}


def oracle(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def ored(coco: COCO, image_id: int, crowd: bool) -> np.ndarray:
    """The logical or of `annToMask` of the people (or the crowds) of an image."""
    image = coco.imgs[image_id]
    result = np.zeros((image["height"], image["width"]), bool)
    for entry in coco.imgToAnns[image_id]:
        if coco.cats[entry["category_id"]]["name"] == "person" and bool(entry["iscrowd"]) == crowd:
            result |= coco.annToMask(entry).astype(bool)
    return result


def summed(photo: PeoplePhoto) -> np.ndarray:
    """The predecessor's mask: annotations added up."""
    total = np.zeros((photo.height, photo.width))
    for outline in photo.outlines:
        total += library.decode(outline, photo.height, photo.width)
    return total


def check_union(region: np.ndarray, wanted: np.ndarray) -> None:
    """What a mask must be for `1 - mask` to be its complement."""
    assert set(np.unique(region).tolist()) <= {0, 1}
    assert np.array_equal(1 - region.astype(float), 1 - wanted.astype(float))


def test_overlapping_people_are_united_not_summed(tmp_path):
    path = store(tmp_path, coco_json([{"segmentation": LEFT}, {"segmentation": RIGHT}]))
    photo = load_coco_people(path, tmp_path)[0]
    wanted = ored(oracle(path), 1, crowd=False)
    check_union(photo.person(), wanted)
    assert photo.person().dtype == bool and photo.persons().shape == (2, 24, 40)
    assert np.array_equal(photo.persons().any(0), wanted)
    # Post-mortem 4: the same check refuses the old code, whose overlap is 2 and complement -1.
    old = summed(photo)
    assert old.max() == 2 and (1 - old).min() == -1
    with pytest.raises(AssertionError):
        check_union(old, wanted)


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_and_crowds(tmp_path, compressed):
    region = np.zeros((24, 40), bool)
    region[5:9, 20:40] = True
    region[0, 0] = True  # run lengths that begin with a one
    crowd = np.zeros((24, 40), bool)
    crowd[12:, 1:9] = True
    content = coco_json(
        [
            {"segmentation": run_lengths(region, compressed)},
            {"segmentation": run_lengths(crowd, compressed), "iscrowd": 1},
            {"segmentation": LEFT},
        ]
    )
    photo = load_coco_people(store(tmp_path, content), tmp_path)[0]
    coco = oracle(tmp_path / "instances.json")
    assert np.array_equal(photo.ignore(), crowd)
    assert np.array_equal(photo.persons()[0], region)
    assert np.array_equal(photo.person(), ored(coco, 1, crowd=False))
    assert not photo.person()[23, 5] and photo.ignore()[23, 5]


def test_category_is_found_by_name(tmp_path):
    content = coco_json([{"segmentation": LEFT}, {"segmentation": RIGHT, "category_id": 9}])
    photo = load_coco_people(store(tmp_path, content), tmp_path)[0]
    assert len(photo.outlines) == 1
    assert np.array_equal(photo.person(), ored(oracle(tmp_path / "instances.json"), 1, False))
    path = store(tmp_path, coco_json([], category="human"))
    with pytest.raises(ValueError, match="no category 'person'.*human"):
        load_coco_people(path, tmp_path)


def test_max_people_counts_people_and_a_crowd_is_too_many(tmp_path):
    entries = [
        {"segmentation": LEFT},
        {"segmentation": LEFT, "image_id": 2},
        {"segmentation": RIGHT, "image_id": 2},
        {"segmentation": RIGHT, "image_id": 3},
        {"segmentation": run_lengths(np.ones((24, 40), bool), True), "image_id": 3, "iscrowd": 1},
    ]
    path = store(tmp_path, coco_json(entries, sizes=((24, 40),) * 4))
    numbers = {n: [p.image_id for p in load_coco_people(path, tmp_path, n)] for n in (0, 1, 2)}
    assert numbers == {0: [1, 2, 3, 4], 1: [1, 4], 2: [1, 2, 4]}  # image 4 shows nobody


def broken(change) -> dict:
    content = coco_json([{"segmentation": copy.deepcopy(LEFT)}])
    change(content)
    return content


@pytest.mark.parametrize(
    "change, error",
    [
        (lambda c: c["annotations"][0].update(segmentation=[]), "annotation 1 has no outline"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), "fewer than three"),
        (lambda c: c["annotations"][0].pop("segmentation"), "neither polygons nor run lengths"),
        (
            lambda c: c["annotations"][0].update(segmentation={"size": [3, 4], "counts": [12]}),
            r"run lengths for size \[3, 4\]",
        ),
        (lambda c: c.pop("annotations"), "no COCO instances file.*annotations"),
        (lambda c: c.update(images=[]), "no photo"),
    ],
)
def test_broken_files_are_named(tmp_path, change, error):
    path = store(tmp_path, broken(change))
    with pytest.raises(ValueError, match=error) as caught:
        load_coco_people(path, tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_foreign_photos_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.json"):
        load_coco_people(tmp_path / "absent.json", tmp_path)
    path = store(tmp_path, coco_json([{"segmentation": LEFT}]))
    Image.new("RGB", (20, 24)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match="20x24 pixels but is annotated as 40x24"):
        load_coco_people(path, tmp_path)[0].pixels()
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="1.png cannot be read"):
        load_coco_people(path, tmp_path)[0].pixels()
    (tmp_path / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 1 photos.*1.png"):
        load_coco_people(path, tmp_path)


@pytest.mark.skipif(not REAL.exists(), reason="shared/data/coco_people_320 is absent")
def test_real_photos_equal_ann_to_mask_bit_for_bit():
    coco = oracle(REAL / "instances_person.json")
    photos = load_coco_people(REAL / "instances_person.json", REAL / "images")
    assert len(photos) == 1118
    crowded = [photo for photo in photos if photo.crowds]
    assert len(crowded) >= 20
    overlaps = 0
    for photo in crowded + photos[:: len(photos) // 60]:
        person = ored(coco, photo.image_id, crowd=False)
        assert np.array_equal(photo.person(), person)
        assert np.array_equal(photo.ignore(), ored(coco, photo.image_id, crowd=True))
        overlaps += int(summed(photo).max() > 1)
    assert overlaps > 5  # the sample contains photos on which the old code is wrong
