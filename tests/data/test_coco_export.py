"""A folder of COCO people: complete, equal to its source bit for bit, and resumed without doubt."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from faulty_server import FaultyServer
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from messi_lib.cli import main
from messi_lib.data import coco_export
from messi_lib.data.coco import check_outline, load_coco_people
from messi_lib.data.coco_export import flickr_page
from messi_lib.data.coco_select import Selection, is_open, read_annotations, select
from messi_lib.data.people import PeopleDataset
from messi_lib.data.splits import SPLITS, read_split

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "coco_people_320"
H, W = 24, 40
LEFT = [[2, 2, 14, 2, 14, 20, 2, 20]]
RIGHT = [[10, 4, 30, 4, 30, 22, 10, 22]]
TINY = [[1, 1, 3, 1, 3, 3, 1, 3]]
CROWD = {"size": [H, W], "counts": [0, 96, H * W - 96]}
LICENCES = [
    {"id": 1, "name": "Attribution-NonCommercial License",
     "url": "http://creativecommons.org/licenses/by-nc/2.0/"},
    {"id": 4, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def _direct(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("MESSI_DEBUG", raising=False)


def person(image_id: int, outline, number: int, **more) -> dict:
    return {"id": number, "image_id": image_id, "category_id": 7, "iscrowd": 0, "area": 1.0,
            "bbox": [0, 0, 1, 1], "segmentation": outline, **more}  # fmt: skip


class Source:
    """COCO content of 12 photos (ids 1 to 12) and a folder with them."""

    def __init__(self, folder: Path):
        self.folder, self.photos = folder, folder / "photos"
        self.json, self.out = folder / "instances_x.json", folder / "out"
        self.photos.mkdir()
        self.content = {
            "info": {"description": "x"},
            "licenses": LICENCES,
            "categories": [{"id": 7, "name": "person"}, {"id": 9, "name": "dog"}],
            "images": [
                {"id": n, "file_name": f"{n:04d}.png", "height": H, "width": W,
                 "license": 1 if n % 2 else 4, "coco_url": f"http://127.0.0.1:1/train/{n:04d}.png",
                 "flickr_url": f"http://farm1.staticflickr.com/1/{1000 + n}_ab_z.jpg"}
                for n in range(1, 13)
            ],
            "annotations": [person(n, LEFT, n) for n in range(1, 13)],
        }  # fmt: skip
        for n in range(1, 13):
            self.draw(self.photos / f"{n:04d}.png", n)

    @staticmethod
    def draw(path: Path, seed: int, height: int = H, width: int = W) -> None:
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise).save(path, "PNG")

    def entry(self, number: int) -> dict:
        return next(e for e in self.content["annotations"] if e["id"] == number)

    def select(self, **options):
        chosen = Selection(**({"test": 2} | options))
        return select(json.loads(json.dumps(self.content)), chosen, "x.json")

    def run(self, *arguments: object, images: bool = True) -> int:
        self.json.write_text(json.dumps(self.content))
        given = ["--annotations", self.json, "--out", self.out]
        given += ["--images", self.photos] if images else []
        given += [] if "--test" in arguments else ["--test", 2]
        return main([str(a) for a in ("data", "people", *given, *arguments)])

    def rows(self, name: str) -> list[dict]:
        return list(csv.DictReader((self.out / name).read_text().splitlines()))

    def written(self) -> list[dict]:
        """Images of the COCO file that was written."""
        return json.loads((self.out / "instances.json").read_text())["images"]

    def files(self) -> set[str]:
        found = self.out.rglob("*")
        return {str(path.relative_to(self.out)) for path in found if path.is_file()}


@pytest.fixture
def source(tmp_path) -> Source:
    return Source(tmp_path)


def complaint(capsys) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def oracle(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def ored(coco: COCO, image_id: int, crowd: bool) -> np.ndarray:
    image = coco.imgs[image_id]
    region = np.zeros((image["height"], image["width"]), bool)
    for entry in coco.imgToAnns[image_id]:
        if coco.cats[entry["category_id"]]["name"] == "person" and bool(entry["iscrowd"]) == crowd:
            region |= coco.annToMask(entry).astype(bool)
    return region


def check_masks(original: Path, out: Path, ids: list[int]) -> None:
    """The PNGs and the written COCO file equal the source's `annToMask`, or-ed, bit for bit."""
    before, after = oracle(original), oracle(out / "instances.json")
    for number in ids:
        stem = Path(after.imgs[number]["file_name"]).stem
        for folder, crowd in (("person", False), ("ignore", True)):
            with Image.open(out / folder / f"{stem}.png") as image:
                assert image.mode == "L"
                png = np.array(image)
            wanted = ored(before, number, crowd)
            assert np.array_equal(png, wanted * np.uint8(255)), (number, folder)
            assert np.array_equal(ored(after, number, crowd), wanted)


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


# --- going on -----------------------------------------------------------------------------------


def test_missing_and_foreign_photos_are_left_out_and_named(source, capsys):
    (source.photos / "0003.png").unlink()
    source.draw(source.photos / "0005.png", 5, height=30)
    (source.photos / "0007.png").write_bytes(b"no picture")
    assert source.run() == 1
    assert "3 photos are missing, see" in complaint(capsys)
    reasons = {row["image_id"]: row["reason"] for row in source.rows("failed.csv")}
    assert set(reasons) == {"3", "5", "7"}
    assert "is missing" in reasons["3"] and "40x30 pixels" in reasons["5"]
    assert "cannot be read" in reasons["7"]
    written = load_coco_people(source.out / "instances.json", source.out / "images")
    assert [photo.image_id for photo in written] == [1, 2, 4, 6, 8, 9, 10, 11, 12]
    before = json.loads((source.out / "splits.json").read_text())

    source.draw(source.photos / "0003.png", 3)
    source.draw(source.photos / "0005.png", 5)
    source.draw(source.photos / "0007.png", 7)
    stamp = (source.out / "person" / "0001.png").stat().st_mtime_ns
    assert source.run() == 0
    assert "12 photos in" in (shown := capsys.readouterr().out) and "3 new, 9 there" in shown
    assert not (source.out / "failed.csv").exists()
    assert (source.out / "person" / "0001.png").stat().st_mtime_ns == stamp
    after = json.loads((source.out / "splits.json").read_text())
    for part, numbers in after.items():
        assert set(before[part]) == set(numbers) - {3, 5, 7}, "nobody else has moved"
    check_masks(source.json, source.out, list(range(1, 13)))


def test_from_the_network_with_faults_and_again(source, capsys):
    contents = {path.name: path.read_bytes() for path in source.photos.iterdir()}
    with FaultyServer(contents) as server:
        faults = {2: ("404", 1), 3: ("truncate", 1), 4: ("redirect", 1), 5: ("500", 1)}
        for image in source.content["images"]:
            image["coco_url"] = server.url(image["file_name"], *faults.get(image["id"], ("ok", 1)))
        source.content["images"][8]["coco_url"] = "ftp://127.0.0.1/9.png"
        assert source.run(images=False) == 1
        rows = source.rows("failed.csv")
        assert [row["image_id"] for row in rows] == ["2", "9"]
        assert "404" in rows[0]["reason"] and "no http or https" in rows[1]["reason"]
        assert len(source.written()) == 10
        server.asked.clear()
        assert source.run(images=False) == 1
        assert [path[-8:] for _, path in server.asked] == ["0002.png"]
    assert source.run() == 0, "the last one comes from a folder"
    capsys.readouterr()
    check_masks(source.json, source.out, list(range(1, 13)))


def test_another_selection_in_one_folder_is_refused(source, capsys):
    assert source.run() == 0
    capsys.readouterr()
    files = source.files()
    assert source.run("--max-people", 2, "--seed", 1) == 2
    line = complaint(capsys)
    assert "max_people: 3 -> 2" in line and "seed: 0 -> 1" in line
    source.content["annotations"].pop()
    assert source.run() == 2
    assert "another selection" in complaint(capsys)
    assert source.files() == files


def test_a_full_disk_and_ctrl_c_leave_nothing_half_written(source, capsys, monkeypatch):
    real = coco_export.write_png

    def failing(error: BaseException):
        def write(pixels, path):
            if len(source.files()) > 17:
                raise error
            return real(pixels, path)

        return write

    full = OSError(28, "No space left on device", "x")
    for error, status in ((full, 2), (KeyboardInterrupt(), 130)):
        monkeypatch.setattr(coco_export, "write_png", failing(error))
        assert source.run() == status
        assert ("free some space" in complaint(capsys)) == (status == 2)
        assert "instances.json" not in source.files()
        assert not any(name.endswith(".tmp") for name in source.files())
    monkeypatch.setattr(coco_export, "write_png", real)
    assert source.run() == 0
    check_masks(source.json, source.out, list(range(1, 13)))


# --- bad input ----------------------------------------------------------------------------------


def change(path: str, value: object):
    """Set an entry of the content, e.g. `images.0.file_name`."""

    def apply(source: Source) -> None:
        *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        target = source.content
        for key in way:
            target = target[key]
        target[last] = value

    return apply


@pytest.mark.parametrize(
    "prepare, arguments, error",
    [
        (None, "--annotations absent.json", "absent.json is missing"),
        (None, "--category dragon", "no category 'dragon', only ['dog', 'person']"),
        (None, "--images absent", "absent is no folder"),
        (None, "--limit 0", "limit=0"),
        (None, "--limit -3", "limit=-3"),
        (None, "--test 12", "test=12: 12 examples in all"),
        (None, "--test -1", "test=-1"),
        (None, "--val 1", "val=1.0"),
        (None, "--negatives 2", "negatives=2.0"),
        (None, "--min-area -0.1", "min_area=-0.1"),
        (None, "--max-people -1", "max_people=-1"),
        (None, "--workers 0", "workers=0"),
        (None, "--timeout 0", "timeout=0"),
        (None, "--licence closed", "closed"),
        (change("images.0.file_name", "0002.png"), "", "images 1 and 2 are both called '0002.png'"),
        (change("images.0.file_name", "../a.png"), "", "'../a.png': it must be inside"),
        (change("images.0.file_name", ""), "", "image 1 has no file_name"),
        (change("images.0.id", 2), "", "image id 2 is no whole number, or occurs twice"),
        (change("images.0.height", "24"), "", "image 1 has height and width"),
        (change("images", 3), "", "no COCO instances file"),
        (change("categories", []), "", "no category 'person', only []"),
        (change("annotations", [3]), "", "no COCO instances file"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    prepare, arguments, error, source, capsys, monkeypatch
):
    monkeypatch.chdir(source.folder)
    if prepare:
        prepare(source)
    assert source.run(*arguments.split()) == 2
    assert error in complaint(capsys)
    assert not source.out.exists()


@pytest.mark.parametrize("text", ["no json", "[]", "3", '{"images": []}', "[" * 100_000, "\xff"])
def test_files_that_are_no_coco_are_named(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="latin-1")
    for read in (read_annotations, lambda path: load_coco_people(path, tmp_path)):
        with pytest.raises(ValueError, match=f"{path} is no COCO instances file"):
            read(path)


@pytest.mark.parametrize("place", ["photos", "photos/out", "."])
def test_out_and_images_must_not_mix(place, source, capsys):
    source.out = source.folder / place
    assert source.run() == 2
    assert "lie in each other" in complaint(capsys)
    assert len(list(source.photos.iterdir())) == 12


def test_places_that_cannot_be_or_hold_something_else(source, capsys):
    (source.folder / "file").write_text("in the way")
    source.out = source.folder / "file" / "out"
    assert source.run() == 2
    assert "cannot be written" in complaint(capsys)
    source.out = source.folder / "full"
    source.out.mkdir()
    (source.out / "mine.txt").write_text("keep me")
    assert source.run() == 2
    assert "was not made by this command" in complaint(capsys)
    assert source.files() == {"mine.txt"}
    (source.out / "selection.json").write_text("{broken")
    assert source.run() == 2
    assert "selection.json is damaged" in complaint(capsys)


@pytest.mark.parametrize("address", [None, "ftp://127.0.0.1/a.png", "file:///etc/hostname", 3])
def test_without_any_address_the_folder_is_asked_for(address, source, capsys):
    for image in source.content["images"]:
        image["coco_url"] = address
    assert source.run(images=False) == 2
    assert "give --images" in complaint(capsys)
    assert not source.out.exists()


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_run_lengths_are_accepted_exactly_if_they_cover_the_photo(height, width, data):
    """Short ones would be decoded into memory that nobody has written."""
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    region = np.array(bits, dtype=np.uint8).reshape(height, width)
    packed = rle.encode(np.asfortranarray(region))
    counts = packed["counts"].decode()
    for wrapped in (counts, packed["counts"]):
        outline = {"size": [height, width], "counts": wrapped}
        assert check_outline({"segmentation": outline}, height, width, "x") is outline
    cut = counts[: data.draw(st.integers(0, len(counts) - 1))]
    shorter = {"segmentation": {"size": [height, width], "counts": cut}}
    with pytest.raises(ValueError, match="do not add up"):
        check_outline(shorter, height, width, "x")


@pytest.mark.parametrize(
    "outline",
    [[[1, 2, 3, 4, 5, float("nan")]], [[1, 2, 3, 4, 5, 1e12]], [1, 2, 3, 4, 5, 6], [["a"] * 6],
     {"size": [H, W], "counts": [-1, H * W + 1]}, {"size": [H, W], "counts": [5]},
     {"size": [H, W], "counts": 3}, {"size": 3, "counts": [3]}, None, "x"],
)  # fmt: skip
def test_outlines_that_would_harm_the_decoder_are_refused(outline):
    with pytest.raises(ValueError, match="x: annotation 1 has"):
        check_outline({"id": 1, "segmentation": outline}, H, W, "x")


def test_flickr_pages():
    assert flickr_page("https://live.staticflickr.com/65/123_ab_c.jpg").endswith("?id=123")
    assert flickr_page("https://example.org/1.jpg") == flickr_page(None) == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_place(source, capsys):
    source.folder.chmod(0o500)
    try:
        source.json = source.photos / "a.json"
        assert source.run() == 2
        assert "cannot be written" in complaint(capsys)
    finally:
        source.folder.chmod(0o700)
