"""Output folders: what may be written where."""

import os

import pytest

from messi_lib.outputs import check_writable, photos_outside


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_results_inside_an_input_folder_are_no_inputs(tmp_path):
    touch(tmp_path / "a.jpg", tmp_path / "out" / "a.jpg", tmp_path / "out" / "holes" / "a.png")
    assert photos_outside([tmp_path], tmp_path / "out") == [tmp_path / "a.jpg"]
    given = tmp_path / "out" / "a.jpg"
    assert photos_outside([given], tmp_path / "out") == [given], "asked for by name"


def test_the_output_folder_is_no_input_folder(tmp_path):
    touch(tmp_path / "in" / "a.jpg")
    for out in (tmp_path / "in", tmp_path / "in" / ".." / "in"):
        with pytest.raises(ValueError, match="is an input folder"):
            photos_outside([tmp_path / "in"], out)
    touch(tmp_path / "out" / "b.jpg")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "link").symlink_to(tmp_path / "out")
    with pytest.raises(ValueError):
        photos_outside([tmp_path / "out" / ".." / "out"], tmp_path / "all" / "link")


def test_only_results_is_an_error(tmp_path):
    touch(tmp_path / "in" / "out" / "a.jpg")
    with pytest.raises(ValueError, match="all photos lie in the output folder"):
        photos_outside([tmp_path / "in"], tmp_path / "in" / "out")
    with pytest.raises(ValueError, match="no input"):
        photos_outside([], tmp_path)


def test_a_writable_folder_need_not_exist_and_is_not_made(tmp_path):
    check_writable(tmp_path / "new" / "deep")
    assert list(tmp_path.iterdir()) == []


def test_a_file_as_output_folder(tmp_path):
    touch(tmp_path / "file")
    for folder in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(PermissionError, match=r"file.*cannot be written.*another --out"):
            check_writable(folder)


def test_read_only_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="read-only"):
        check_writable(tmp_path)
    monkeypatch.undo()

    def full(**kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(PermissionError, match="No space left"):
        check_writable(tmp_path)
