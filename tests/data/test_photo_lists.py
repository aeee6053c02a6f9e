"""Lists of photos: every name survives being written as a line and read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messi_lib.data.photo_lists import as_line, find_listed, labels_of, read_list

PHOTOS = [Path(name) for name in ("a/x.jpg", "a/sub/y.jpg", "b/x.jpg", "b/z.jpg", "c/y.jpg")]
FOLDERS = [Path("a"), Path("b"), Path("c")]


@given(st.lists(st.text(min_size=1, max_size=12)))
def test_every_label_is_a_line_that_means_itself(tmp_path_factory, labels):
    path = tmp_path_factory.getbasetemp() / "labels.txt"
    path.write_text("\n".join(map(as_line, labels)) + "\n", encoding="utf-8")
    assert read_list(path) == labels


def test_plain_names_stay_plain_and_others_are_quoted():
    for name in ("a.jpg", "folder/photo (1), best.jpg", "照片.jpg", "it's.jpg"):
        assert as_line(name) == name
    assert as_line("two\nlines.jpg") == r'"two\nlines.jpg"'
    assert as_line("# 1.jpg") == '"# 1.jpg"'
    assert as_line(" a.jpg") == '" a.jpg"'
    assert as_line("\udcff.jpg") == r'"\udcff.jpg"'


def test_comments_and_empty_lines_are_passed_over(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeff# first\r\n\r\n  a.jpg  \r\n#b.jpg\r\n".encode())
    assert read_list(path) == ["a.jpg"]


def test_bad_lists(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.txt"):
        read_list(tmp_path / "absent.txt")
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        read_list(path)
    path.write_text('fine.jpg\n"broken\n')
    with pytest.raises(ValueError, match="line 2"):
        read_list(path)


def test_labels_are_short_and_different():
    labels = labels_of(PHOTOS, FOLDERS)
    assert labels[1] == "sub/y.jpg" and labels[3:] == ["z.jpg", "y.jpg"]
    assert labels[0] == str(Path("a/x.jpg").absolute()) != labels[2]
    for number, label in enumerate(labels):
        assert find_listed([label], PHOTOS, FOLDERS, "list") == ({number}, [])


def test_photos_are_found_by_path_relative_path_and_name():
    def found(*lines):
        return find_listed(lines, PHOTOS, FOLDERS, "list.txt")

    assert found(str(Path("b/z.jpg").absolute()))[0] == {3}
    assert found("b/z.jpg", "./a/../b/x.jpg")[0] == {2, 3}
    assert found("z.jpg", "sub/y.jpg")[0] == {1, 3}
    assert found("y.jpg")[0] == {4}  # a path below a folder comes before a bare name
    both, complaints = found("x.jpg", "nobody.jpg", "z.jpg")
    assert both == {3} and len(complaints) == 2
    assert "x.jpg may be any of 2 photos" in complaints[0]
    assert "list.txt: nobody.jpg is none of the photos" in complaints[1]
    assert "\n" not in found("two\nlines")[1][0]
