"""Curating any photo with any name, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from curated import listing, table
from PIL import Image

from messi_lib.data.curate import curate, photos_in
from messi_lib.data.photo_lists import as_line, read_list
from messi_lib.data.subject import photos_of

# --- any photo, any name ------------------------------------------------------------------------


def test_every_mode_and_format(tmp_path, out, scenes, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "messi"))
    folder = tmp_path / "photos"
    folder.mkdir()
    images = [Image.fromarray(scene) for scene in scenes]
    grey = np.asarray(images[0].convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "16 bit.png")
    images[1].convert("CMYK").save(folder / "cmyk.jpg")
    frames = [images[2], images[3]]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:], quality=90)
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    images[4].save(folder / "photo.avif")
    palette = images[5].quantize(64)
    palette.info["transparency"] = 3
    palette.save(folder / "palette.png", transparency=3)
    turned = images[0].transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned.save(folder / "turned.jpg", exif=exif, quality=92)
    images[1].save(folder / "UPPER.WEBP")
    Image.new("RGB", (1, 1), "white").save(folder / "one.png")
    Image.new("RGB", (150, 150)).save(folder / "black.png")
    result = curate([folder], out)
    rows = table(out)
    assert not any(photo.problem for photo in result.photos)
    copies = {name: row["reasons"] for name, row in rows.items() if "duplicate" in row["reasons"]}
    pairs = [{"16 bit.png", "turned.jpg"}, {"cmyk.jpg", "UPPER.WEBP"}]
    pairs += [{"moving.webp", "moving.gif"}]  # both show the first frame
    for pair in pairs:
        (dropped,) = pair & copies.keys()
        (kept,) = pair - {dropped}
        assert copies[dropped].split(";")[0] == f"duplicate_of:{kept}"
    assert len(copies) == len(pairs)
    assert rows["one.png"]["verdict"] == "reject" and rows["black.png"]["verdict"] == "keep"


def test_any_name_survives_csv_html_and_lists(tmp_path, out, scenes, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "messi"))
    folder = tmp_path / "pho,tos"
    folder.mkdir()
    names = ["two\nlines.png", "照片, ü.png", " spaces .png", "#1.png", '"quoted"<b>.png']
    for name, scene in zip(names, scenes):
        Image.fromarray(scene).save(folder / name)
    curate([folder], out, holdout=0)
    assert set(table(out)) == set(names) == set(read_list(out / "kept.txt"))
    assert {path.name for path in photos_of(out)} == set(names)
    reject = listing(tmp_path / "no.txt", *map(as_line, names[:3]))
    assert curate([folder], out, reject=reject).complaints == []
    assert {path.name for path in photos_of(out)} == set(names[3:])
    page = (out / "report.html").read_text()
    assert "<b>.png" not in page and "&lt;b&gt;.png" in page


def test_two_folders_with_equal_names(tmp_path, out, scenes, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "messi"))
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        Image.fromarray(scenes[number]).save(tmp_path / folder / "x.png")
    folders = [tmp_path / "a", tmp_path / "b"]
    reject = listing(tmp_path / "no.txt", "x.png")
    result = curate(folders, out, reject=reject)
    assert set(table(out)) == {str(tmp_path / "a" / "x.png"), str(tmp_path / "b" / "x.png")}
    assert "may be any of 2 photos" in result.complaints[0] and len(result.kept()) == 2
    listing(reject, str(tmp_path / "a" / "x.png"))
    assert [photo.path for photo in curate(folders, out, reject=reject).kept()] == [
        tmp_path / "b" / "x.png"
    ]


def test_one_photo_and_links_in_a_circle(tmp_path, out, scenes, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "messi"))
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(scenes[0]).save(folder / "only.png")
    (folder / "round").symlink_to(folder)
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "gone.png").symlink_to(folder / "absent.png")
    (folder / "again.png").symlink_to(folder / "only.png")
    result = curate([folder], out, holdout=0.5)
    assert len(result.photos) == 1 == len(photos_of(out))
    assert result.photos[0].split == "train"


# --- bad input ----------------------------------------------------------------------------------


def test_bad_folders(photos, tmp_path, out):
    with pytest.raises(FileNotFoundError, match="absent"):
        curate([tmp_path / "absent"], out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no photos"):
        curate([tmp_path / "empty"], out)
    with pytest.raises(ValueError, match="no input"):
        curate([], out)
    (tmp_path / "empty" / "x.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="none of 1 photos can be read"):
        curate([tmp_path / "empty"], out)
    with pytest.raises(ValueError, match="is an input folder"):
        curate([photos], photos)
    with pytest.raises(ValueError, match="holds other files"):
        curate([photos], tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        curate([photos], photos / "1.png")
    with pytest.raises(ValueError, match="holdout=1"):
        curate([photos], out, holdout=1)
    assert not out.exists()


def test_out_inside_an_input_folder_is_no_input(photos):
    inside = photos / "report"
    curate([photos], inside)
    Image.new("RGB", (150, 150)).save(inside / "added.png")
    assert len(photos_in([photos], inside)) == 10
    assert len(curate([photos], inside).photos) == 10


def test_a_photo_in_both_lists_is_an_error_and_changes_nothing(photos, out, tmp_path):
    curate([photos], out)
    before = (out / "report.csv").read_bytes()
    accept = listing(tmp_path / "yes.txt", "1.png")
    reject = listing(tmp_path / "no.txt", str(photos / "1.png"))
    with pytest.raises(ValueError, match="1.png is in .*yes.txt and in .*no.txt"):
        curate([photos], out, accept=accept, reject=reject)
    with pytest.raises(FileNotFoundError, match="absent.txt"):
        curate([photos], out, accept=tmp_path / "absent.txt")
    assert (out / "report.csv").read_bytes() == before
