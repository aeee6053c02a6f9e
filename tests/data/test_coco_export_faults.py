"""An export that was stopped or met faults goes on; bad input is one line, nothing written."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from coco_source import H, Source, W, check_masks, complaint
from faulty_server import FaultyServer
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle

from messi_lib.data import coco_export
from messi_lib.data.coco import check_outline, load_coco_people
from messi_lib.data.coco_export import flickr_page
from messi_lib.data.coco_select import read_annotations

pytestmark = pytest.mark.usefixtures("direct")

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
