"""Judging a segmenter on photos: groups, scores, the table, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from messi_lib import cli
from messi_lib.data.coco import load_coco_people
from messi_lib.segmentation.evaluate import as_table, evaluate_photos, groups_of


def box(x0: int, y0: int, x1: int, y1: int) -> list:
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


OUTLINES = {
    1: [box(10, 10, 150, 150)],  # one large person
    2: [box(10, 10, 30, 30), box(60, 60, 100, 100)],  # two: 400 px and 1,600 px of 40,000
    3: [],
    4: [box(10 * i, 10, 10 * i + 8, 20) for i in range(6)],
    5: [box(10, 10, 110, 110), box(100, 20, 180, 180)],  # both clear, and a crowd added below
}


@pytest.fixture
def data(tmp_path) -> tuple[Path, Path]:
    """Photos whose red channel is the truth, so that a segmenter can read it off."""
    images, entries = [], []
    for image_id, outlines in OUTLINES.items():
        images.append(
            {"id": image_id, "file_name": f"{image_id}.png", "height": 200, "width": 200}
        )
        for outline in outlines:
            entries.append((image_id, outline, 0))
    entries.append((5, {"size": [200, 200], "counts": [0, 2000, 38000]}, 1))  # ten columns
    path = tmp_path / "instances.json"
    path.write_text(
        json.dumps(
            {
                "images": images,
                "categories": [{"id": 1, "name": "person"}],
                "annotations": [
                    {"id": n, "image_id": i, "category_id": 1, "iscrowd": c, "segmentation": s}
                    for n, (i, s, c) in enumerate(entries)
                ],
            }
        )
    )
    for image in images:
        Image.new("RGB", (200, 200)).save(tmp_path / image["file_name"])
    for photo in load_coco_people(path, tmp_path):
        pixels = np.zeros((200, 200, 3), np.uint8)
        pixels[..., 0] = 255 * photo.person()
        Image.fromarray(pixels).save(photo.path)
    return path, tmp_path


def truth(pixels):
    return SimpleNamespace(person=pixels[..., 0] > 0)


def test_photos_belong_to_groups_by_size_and_number(data):
    groups = {p.image_id: groups_of(p) for p in load_coco_people(*data)}
    assert groups == {
        1: {"largest_large", "people_1", "clear_people"},
        2: {"largest_medium", "people_2_4"},  # one of both is smaller than 3% of the frame
        3: {"people_0"},
        4: {"largest_small", "people_5_up"},
        5: {"largest_large", "crowd"},
    }


def test_the_truth_scores_one_everywhere_and_a_shift_costs_edges_most(data):
    photos = load_coco_people(*data)
    perfect = evaluate_photos(truth, photos, quiet=True)
    assert perfect["mean_iou"] == perfect["boundary_iou_05pct"] == perfect["accumulated_iou"] == 1
    assert perfect["n_images"] == 5 and perfect["mean_iou_95"] == 0
    assert perfect["groups"]["people_2_4"]["n_images"] == 1

    def shifted(pixels):
        return SimpleNamespace(person=np.roll(pixels[..., 0] > 0, 2, axis=1))

    worse = evaluate_photos(shifted, photos, quiet=True)["groups"]["clear_people"]
    assert 0.95 < worse["mean_iou"] < 1
    assert worse["boundary_iou_05pct"] < worse["boundary_iou_2pct"] < worse["mean_iou"]


def test_what_is_found_inside_a_crowd_costs_nothing(data):
    crowded = [p for p in load_coco_people(*data) if p.crowds]

    def everywhere_in_the_crowd(pixels):
        person = pixels[..., 0] > 0
        person[:, :10] = True
        return SimpleNamespace(person=person)

    assert evaluate_photos(everywhere_in_the_crowd, crowded, quiet=True)["mean_iou"] == 1


def test_nothing_found_scores_by_the_empty_photos_alone(data):
    photos = load_coco_people(*data)

    def nobody(pixels):
        return SimpleNamespace(person=np.zeros(pixels.shape[:2], bool))

    result = evaluate_photos(nobody, photos, quiet=True)
    assert result["mean_iou"] == pytest.approx(1 / 5) and result["accumulated_iou"] == 0
    assert result["groups"]["people_0"]["mean_iou"] == 1
    with pytest.raises(ValueError, match="no image"):
        evaluate_photos(nobody, [], quiet=True)


def test_the_table_has_a_line_for_each_group(data):
    result = evaluate_photos(truth, load_coco_people(*data), quiet=True)
    lines = as_table(result).splitlines()
    assert len(lines) == 3 + len(result["groups"])
    assert lines[1].split()[:2] == ["all", "5"] and "1.000" in lines[1]


def test_the_command_prints_a_table_and_writes_the_numbers(data, tmp_path, capsys):
    path, folder = data
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": [1, 2], "val": [3], "test": [4, 5]}))
    out = tmp_path / "result.json"
    common = ["evaluate", "segmentation", "--annotations", str(path), "--images", str(folder)]
    assert cli.main([*common, "--split", str(splits), "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["n_images"] == 2 and result["part"] == "test"
    assert {"mean_iou", "boundary_iou_2pct", "ms_per_image"} <= result.keys()
    assert set(result["groups"]) == {"largest_small", "people_5_up", "largest_large", "crowd"}
    assert "ms an image" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"--annotations": "none.json"}, "none.json is missing"),
        ({"--images": "."}, "photos named in"),
        ({"--limit": "0"}, "limit=0"),
        ({"--size": "9"}, "32 to 4096"),
        ({"--split": "no.json"}, "no.json is missing"),
    ],
)
def test_bad_input_is_one_line(data, capsys, change, complaint):
    path, folder = data
    options = {"--annotations": str(path), "--images": str(folder), **change}
    assert cli.main(["evaluate", "segmentation", *sum(options.items(), ())]) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
