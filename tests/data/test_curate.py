"""Curating: nothing is lost or deleted, verdicts follow the rules and then the user's own lists."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from curated import listing, table
from PIL import Image

import messi_lib
from messi_lib.cli import main
from messi_lib.data import curate as module
from messi_lib.data import measured
from messi_lib.data.curate import curate
from messi_lib.data.measured import measure_all
from messi_lib.data.photo_lists import read_list
from messi_lib.data.splits import read_split
from messi_lib.data.subject import photos_of

REAL = Path(messi_lib.__file__).parents[1].parent / "shared" / "data" / "messi_photos"


# --- what is written ----------------------------------------------------------------------------


def test_verdicts_and_files(photos, out):
    before = {path: path.read_bytes() for path in photos.rglob("*.*")}
    result = curate([photos], out)
    rows = table(out)
    assert len(rows) == 10 == len(result.photos)
    assert rows["more/copy of 0.jpg"]["reasons"].startswith("duplicate_of:0.png")
    assert rows["more/same.png"]["reasons"].startswith("duplicate_of:0.png")
    assert rows["tiny.png"]["verdict"] == "reject" and "too_small" in rows["tiny.png"]["reasons"]
    assert rows["broken.jpg"]["reasons"] == "unreadable" and rows["broken.jpg"]["width"] == ""
    assert "broken.jpg" in rows["broken.jpg"]["problem"]
    kept = [f"{number}.png" for number in range(6)]
    assert [name for name, row in rows.items() if row["verdict"] == "keep"] == kept
    assert read_list(out / "kept.txt") == kept
    assert rows["0.png"]["group"] == rows["more/same.png"]["group"] != rows["1.png"]["group"]
    assert (rows["2.png"]["width"], rows["2.png"]["faces"]) == ("192", "")
    splits = {part: read_split(out / "splits.json", part) for part in ("train", "val", "test")}
    assert splits["val"] == [] and len(splits["test"]) == 1 and len(splits["train"]) == 5
    assert sorted(splits["train"] + splits["test"]) == [str(photos / name) for name in kept]
    groups = json.loads((out / "groups.json").read_text())
    assert list(groups["groups"].values()) == [["0.png", "more/copy of 0.jpg", "more/same.png"]]
    page = (out / "report.html").read_text()
    for title in ("unreadable (1)", "duplicate (2)", "too small (1)", "nothing found ("):
        assert f"<h2>{title}" in page
    assert {path: path.read_bytes() for path in photos.rglob("*.*")} == before
    assert sorted(path.name for path in out.iterdir()) == [
        "groups.json", "kept.txt", "report.csv", "report.html", "splits.json"
    ]  # fmt: skip


def test_training_reads_what_is_kept_and_not_held_out(photos, out):
    curate([photos], out, holdout=0.4)
    train, test = photos_of(out), photos_of(out, "test")
    assert len(train) == 4 and len(test) == 2 and not set(train) & set(test)
    assert all(path.parent == photos for path in train)


def test_weak_reasons_warn_and_strict_rejects(photos, out, scenes):
    Image.fromarray(scenes[3]).resize((12, 12)).resize((150, 150)).save(photos / "soft.png")
    Image.new("RGB", (160, 160), (200, 30, 30)).save(photos / "plain.png")

    def faces(pixels):
        return np.array([[10, 10, 60, 70, 0.9]] * (2 if pixels.shape[0] == 192 else 1))

    curate([photos], out, faces=faces, model_key="two faces")
    rows = table(out)
    assert (rows["soft.png"]["verdict"], rows["soft.png"]["reasons"]) == ("keep", "blurred")
    assert rows["plain.png"]["reasons"] == "blurred; drawn"
    assert rows["1.png"]["reasons"] == "several_faces" and rows["1.png"]["faces"] == "2"
    curate([photos], out, faces=faces, model_key="two faces", strict=True)
    assert not any(row["verdict"] == "keep" for row in table(out).values())
    assert read_list(out / "kept.txt") == []
    with pytest.raises(ValueError, match="no photos in its split"):
        photos_of(out)


def test_the_users_lists_overrule_everything(photos, out, tmp_path):
    accept = listing(tmp_path / "yes.txt", "tiny.png", "more/copy of 0.jpg", "broken.jpg", "nix")
    reject = listing(tmp_path / "no.txt", str(photos / "1.png"), "# 2.png")
    result = curate([photos], out, accept=accept, reject=reject)
    rows = table(out)
    for name in ("tiny.png", "more/copy of 0.jpg"):
        assert (rows[name]["verdict"], rows[name]["decided_by"]) == ("keep", "accept")
        assert rows[name]["reasons"]  # still told
    assert (rows["1.png"]["verdict"], rows["1.png"]["decided_by"]) == ("reject", "reject")
    assert rows["broken.jpg"]["verdict"] == "reject"
    assert len(result.complaints) == 2
    assert "nix is none" in result.complaints[0] and "broken.jpg cannot be" in result.complaints[1]
    assert rows["0.png"]["split"] == rows["more/copy of 0.jpg"]["split"]  # still one group


def test_copies_of_a_rejected_photo_do_not_take_its_place(photos, out, tmp_path):
    reject = listing(tmp_path / "no.txt", "0.png")
    curate([photos], out, reject=reject)
    rows = table(out)
    assert {row["verdict"] for name, row in rows.items() if row["group"] == "0"} == {"reject"}
    accept = listing(tmp_path / "yes.txt", "more/copy of 0.jpg")  # unless asked for
    curate([photos], out, accept=accept, reject=reject, strict=True)
    assert table(out)["more/copy of 0.jpg"]["verdict"] == "keep"


def test_lists_do_not_shuffle_the_splits(photos, out, tmp_path):
    curate([photos], out, holdout=0.34)
    before = {name: row["split"] for name, row in table(out).items()}
    trained = next(name for name, part in before.items() if part == "train" and name != "0.png")
    curate([photos], out, holdout=0.34, reject=listing(tmp_path / "no.txt", trained))
    after = {name: row["split"] for name, row in table(out).items()}
    changed = [name for name in before if before[name] != after[name]]
    assert changed == [trained]


def test_odd_ones_are_found(tmp_path, out, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "messi"))
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(22):
        patches = Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).resize((130, 130))
        patches.putpixel((0, 0), (255, 0, 255) if number == 5 else (0, 0, 0))  # the stranger
        patches.save(folder / f"{number:02}.png")

    def embed(pixels):
        stranger = pixels[0, 0, 0] == 255
        return np.append(pixels.reshape(-1, 3).mean(0) / 255, 5.0 * stranger)

    curate([folder], out, embed=embed, model_key="mark")
    rows = table(out)
    assert [name for name, row in rows.items() if "odd" in row["reasons"]] == ["05.png"]
    assert float(rows["05.png"]["oddness"]) > 5 and rows["05.png"]["verdict"] == "keep"


# --- the second run -----------------------------------------------------------------------------


def test_the_second_run_measures_nothing(photos, out, monkeypatch):
    curate([photos], out)
    first = (out / "report.csv").read_bytes()
    calls = []
    real = measured.load_photo
    monkeypatch.setattr(measured, "load_photo", lambda path: calls.append(path.name) or real(path))
    monkeypatch.setattr(module.duplicates, "find_duplicates", None)
    curate([photos], out)
    assert calls == ["broken.jpg"] and (out / "report.csv").read_bytes() == first
    (photos / "1.png").rename(photos / "renamed.png")
    monkeypatch.undo()
    monkeypatch.setenv("MESSI_DATA", str(photos.parent / "messi"))
    monkeypatch.setattr(measured, "load_photo", lambda path: calls.append(path.name) or real(path))
    calls.clear()
    curate([photos], out)
    assert calls == ["broken.jpg"] and "renamed.png" in table(out)


def test_another_model_or_a_torn_entry_is_measured_again(photos, monkeypatch):
    paths = [photos / "1.png"]
    calls = []

    def faces(pixels):
        calls.append(1)
        return np.zeros((0, 5))

    def embed(pixels):
        return np.arange(4)

    (entry,) = measure_all(paths, faces, embed, "a")
    (again,) = measure_all(paths, faces, embed, "a")
    assert len(calls) == 1 and again.measures == entry.measures and not again.of_face
    assert np.array_equal(again.vector, [0, 1, 2, 3]) and again.thumbnail == entry.thumbnail
    assert np.array_equal(again.print.descriptors, entry.print.descriptors)
    assert again.print.content == entry.print.content != ""
    measure_all(paths, faces, embed, "b")
    assert len(calls) == 2
    (stored,) = (photos.parent / "messi").rglob("*.npz")
    stored.write_bytes(stored.read_bytes()[:500])
    assert measure_all(paths, faces, embed, "b", workers=2)[0].measures == entry.measures
    assert len(calls) == 3


def test_the_embedding_is_that_of_the_face_if_there_is_one(photos):
    seen = []

    def embed(pixels):
        seen.append(pixels.shape)
        return np.zeros(2)

    def faces(pixels):
        return np.array([[50, 50, 90, 90, 0.9]])

    (entry,) = measure_all([photos / "1.png"], faces, embed, "faces")
    assert seen == [(60, 60, 3)] and entry.of_face
    (entry,) = measure_all([photos / "1.png"], lambda p: faces(p) / 4, embed, "tiny faces")
    assert seen[1] == (192, 192, 3) and not entry.of_face


# --- the command --------------------------------------------------------------------------------


def test_the_command(photos, out, tmp_path, capsys):
    reject = listing(tmp_path / "no.txt", "1.png", "nix.png")
    command = ["data", "subject", str(photos), "--out", str(out), "--reject", str(reject)]
    assert main([*command, "--smallest-side", "160"]) == 0  # the smaller copy goes anyway
    told = capsys.readouterr()
    assert "5 of 10 photos kept" in told.out and "largest group: 3 photos" in told.out
    assert "nix.png is none of the photos" in told.err and "broken.jpg" in told.err
    rows = table(out)
    assert all(row["faces"] != "" for name, row in rows.items() if name != "broken.jpg")
    assert "too_small" in rows["more/copy of 0.jpg"]["reasons"]


def test_the_command_tells_bad_input_in_one_line(photos, out, tmp_path, capsys):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    for folders, place, words in (
        ([tmp_path / "absent"], out, "does not exist"),
        ([photos], photos, "is an input folder"),
        ([photos], in_the_way / "out", "cannot be written"),
    ):
        assert main(["data", "subject", *map(str, folders), "--out", str(place)]) == 2
        message = capsys.readouterr().err
        assert words in message and message.count("\n") == 1
    assert not out.exists()


@pytest.mark.skipif(not REAL.exists(), reason="shared/data/messi_photos is absent")
def test_real_photos(tmp_path, out, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "messi"))
    result = curate(sorted(REAL.glob("*.jpg"))[:16], out)
    assert len(result.photos) == 16 and len(result.kept()) >= 12
    assert not result.counts()["drawn"] and not result.counts()["unreadable"]
