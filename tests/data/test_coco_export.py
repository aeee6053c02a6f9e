"""A folder of COCO people: complete, equal to its source bit for bit, and chosen by the rules."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from coco_source import CROWD, LEFT, LICENCES, RIGHT, TINY, H, W, check_masks, oracle, person
from pycocotools import mask as rle

from messi_lib.cli import main
from messi_lib.data.coco import load_coco_people
from messi_lib.data.coco_select import is_open, read_annotations
from messi_lib.data.people import PeopleDataset
from messi_lib.data.splits import SPLITS, read_split

pytestmark = pytest.mark.usefixtures("direct")

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "coco_people_320"


# --- what is written ----------------------------------------------------------------------------


def test_the_folder_is_complete_and_can_be_read_back(source, capsys):
    source.content["annotations"] += [person(1, RIGHT, 20), person(2, LEFT, 21, category_id=9),
                                      person(3, CROWD, 22, iscrowd=1)]  # fmt: skip
    assert source.run("--max-people", 0) == 0
    shown = capsys.readouterr().out
    assert "12 of 12 photos chosen" in shown and "12 photos in" in shown
    check_masks(source.json, source.out, list(range(1, 13)))
    written = json.loads((source.out / "instances.json").read_text())
    assert written["images"] == source.content["images"] and written["licenses"] == LICENCES
    assert written["categories"] == [{"id": 7, "name": "person"}]
    people = [e for e in source.content["annotations"] if e["category_id"] == 7]
    assert sorted(written["annotations"], key=lambda e: e["id"]) == people
    for photo in source.photos.iterdir():
        assert (source.out / "images" / photo.name).read_bytes() == photo.read_bytes()

    splits = {part: read_split(source.out / "splits.json", part) for part in SPLITS}
    assert sorted(sum(splits.values(), [])) == list(range(1, 13)) and len(splits["test"]) == 2
    place = source.out / "instances.json", source.out / "images"
    held = load_coco_people(*place, ids=splits["test"])
    assert [photo.image_id for photo in held] == splits["test"]
    image, region, _ = PeopleDataset(*place, 32, ids=splits["train"]).item(0, 0)
    assert image.shape == (3, 32, 32) and region.any()

    (row,) = [row for row in source.rows("attribution.csv") if row["image_id"] == "4"]
    assert row["licence"] == "Attribution License" and row["licence_url"].endswith("/by/2.0/")
    assert row["page"] == "https://www.flickr.com/photo.gne?id=1004"
    assert row["coco_url"].endswith("0004.png")
    assert not (source.out / "failed.csv").exists()


def test_what_a_file_lacks_is_completed(source):
    for entry in source.content["annotations"]:
        for key in ("id", "area", "bbox", "iscrowd"):
            del entry[key]
    assert source.run() == 0
    coco = oracle(source.out / "instances.json")
    assert len(coco.anns) == 12 and coco.anns[1]["bbox"] == [2, 2, 12, 18]
    assert coco.anns[1]["area"] == coco.annToMask(coco.anns[1]).sum()


def test_names_that_would_collide_get_their_id(source):
    names = {1: "a.png", 2: "sub/a.jpg", 3: "A.webp", 4: "a_1.png"}
    for number, name in names.items():
        (source.photos / f"{number:04d}.png").unlink()
        source.draw(source.photos / name, number)
        source.content["images"][number - 1]["file_name"] = name
    assert source.run() == 0
    written = source.written()[:4]
    found = [image["file_name"] for image in written]
    assert found == ["a_1_.png", "a_2.jpg", "A_3.webp", "a_1.png"]
    for image in written:
        original = source.photos / names[image["id"]]
        assert (source.out / "images" / image["file_name"]).read_bytes() == original.read_bytes()
    assert len(list((source.out / "person").iterdir())) == 12


@pytest.mark.skipif(not REAL.exists(), reason="shared/data/coco_people_320 is absent")
def test_real_photos_have_their_masks_bit_for_bit(tmp_path):
    out = tmp_path / "out"
    arguments = ["--annotations", REAL / "instances_person.json", "--images", REAL / "images",
                 "--out", out, "--max-people", 0, "--limit", 60, "--test", 10]  # fmt: skip
    assert main([str(a) for a in ("data", "people", *arguments)]) == 0
    ids = [image["id"] for image in json.loads((out / "instances.json").read_text())["images"]]
    assert len(ids) == 60
    check_masks(REAL / "instances_person.json", out, ids)


# --- the choice ---------------------------------------------------------------------------------


def test_each_photo_left_out_is_counted_under_its_reason(source, capsys):
    source.content["annotations"] += [person(2, RIGHT, 20), person(3, CROWD, 21, iscrowd=1)]
    source.entry(4)["segmentation"] = TINY
    source.entry(5)["image_id"] = 1
    source.entry(6)["segmentation"] = [[1, 2, 3, 4]]
    assert source.run("--max-people", 2, "--negatives", 0) == 0
    printed = capsys.readouterr()
    assert "8 of 12 photos chosen" in printed.out
    for reason in ("1 too many people", "1 people too small", "1 no people", "1 broken outline"):
        assert reason in printed.out
    assert "image 6: annotation 6 has no outline" in printed.err
    assert {image["id"] for image in source.written()} == {1, 2, 7, 8, 9, 10, 11, 12}
    chosen = source.select(max_people=1, negatives=1.0)
    assert set(chosen.names) == {5, *range(7, 13)}, "a crowd, two people; 5 shows nobody"


def test_the_smallest_area_is_that_of_the_largest_person(source):
    source.content["annotations"].append(person(1, TINY, 20))
    source.entry(2)["segmentation"] = TINY
    area = oracle_area(LEFT) / (H * W)
    assert set(source.select(min_area=area).names) == {1, *range(3, 13)}
    with pytest.raises(ValueError, match="none of its photos is chosen .people too small 12"):
        source.select(min_area=area + 1e-6)


def oracle_area(outline: list) -> int:
    return int(rle.area(rle.merge(rle.frPyObjects(outline, H, W))))


def test_open_licences_only(source):
    assert sorted(source.select(licence="open").names) == [2, 4, 6, 8, 10, 12]
    for image in source.content["images"][:4]:
        del image["license"]
    assert sorted(source.select(licence="open").names) == [6, 8, 10, 12]


@pytest.mark.parametrize(
    "name, url, wanted",
    [
        ("Attribution License", "http://creativecommons.org/licenses/by/2.0/", True),
        ("Attribution-ShareAlike License", "http://creativecommons.org/licenses/by-sa/2.0/", True),
        ("Attribution-NonCommercial-ShareAlike License", "", False),
        ("Attribution-NoDerivs License", "http://creativecommons.org/licenses/by-nd/2.0/", False),
        ("No known copyright restrictions", "http://flickr.com/commons/usage/", True),
        ("United States Government Work", "http://www.usa.gov/copyright.shtml", True),
        ("US Government Work", "", True),
        ("CC BY 2.0", "", True),
        ("CC BY-SA 4.0", "", True),
        ("CC BY-NC 2.0", "", False),
        ("CC BY-ND 2.0", "", False),
        ("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/", True),
        ("CC BY 2.0", "http://creativecommons.org/licenses/by-nc/2.0/", False),
        ("Licensed by an agency", "", False),
        ("Not public domain", "", False),
        ("All rights reserved", "http://creativecommons.org/licenses/by/2.0/", False),
        ("", "", False),
    ],
)
def test_licences(name, url, wanted):
    assert is_open({"id": 1, "name": name, "url": url}) is wanted
    assert not is_open(None)


def test_negatives_are_a_share_and_each_decides_for_itself(source):
    images = [source.content["images"][0] | {"id": n, "file_name": f"{n}.png"} for n in range(400)]
    source.content["images"], source.content["annotations"] = images, []
    kept = set(source.select(negatives=0.25).names)
    assert 70 < len(kept) < 130
    source.content["images"] = images[::2]
    assert set(source.select(negatives=0.25).names) == {n for n in kept if n % 2 == 0}
    source.content["images"] = images
    assert kept < set(source.select(negatives=0.5).names)


def test_another_limit_has_the_same_test_photos(source):
    some, every = source.select(limit=6), source.select()
    assert len(some.names) == 6 and some.splits["test"] == every.splits["test"]
    assert some.left_out == {"over the limit": 6}


# --- the archive --------------------------------------------------------------------------------


def pack(path: Path, members: dict[str, object], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, json.dumps(content))
    return path


def test_the_official_archive_is_both_files_in_one(source):
    first, second = (json.loads(json.dumps(source.content)) for _ in range(2))
    first["images"], second["images"] = first["images"][:8], second["images"][8:]
    first["annotations"] = first["annotations"][:8]
    second["annotations"] = second["annotations"][8:]
    members = {"annotations/instances_train2017.json": first,
               "annotations/instances_val2017.json": second,
               "annotations/captions_val2017.json": []}  # fmt: skip
    read = read_annotations(pack(source.folder / "a.zip", members))
    assert read["images"] == source.content["images"] and read["licenses"] == LICENCES
    assert read["annotations"] == source.content["annotations"]
    second["categories"][0]["name"] = "cat"
    with pytest.raises(ValueError, match="categories 7 is 'person' in one file and 'cat'"):
        read_annotations(pack(source.folder / "b.zip", members))
    with pytest.raises(ValueError, match="image id 1 is no whole number, or occurs twice"):
        read_annotations(pack(source.folder / "c.zip", {"instances_a.json": first,
                                                         "instances_b.json": first}))  # fmt: skip
    with pytest.raises(ValueError, match="holds no instances_"):
        read_annotations(pack(source.folder / "d.zip", {"captions.json": []}))
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = pack(source.folder / "e.zip", members, compression)
        damaged = bytearray(path.read_bytes())
        damaged[200:300] = b"\xff" * 100
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="e.zip cannot be unpacked"):
            read_annotations(path)


def test_photos_may_lie_as_the_official_archives_unpack(source):
    (source.photos / "train").mkdir()
    for n in range(1, 7):
        (source.photos / f"{n:04d}.png").rename(source.photos / "train" / f"{n:04d}.png")
    assert source.run() == 0
