"""Collections to curate, and a source to export people from."""

from __future__ import annotations

import pytest
from coco_source import Source
from PIL import Image

from messi_lib.data.pitch import subject_scene


@pytest.fixture(scope="module")
def scenes():
    """Six photos of the subject, uint8 (192, 192, 3)."""
    return [subject_scene(9, index, 192).image for index in range(6)]


@pytest.fixture
def photos(tmp_path, scenes, monkeypatch):
    """Six scenes, a smaller copy of the first, its exact copy, a tiny photo and a broken file."""
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "messi"))
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number, scene in enumerate(scenes):
        Image.fromarray(scene).save(folder / f"{number}.png")
    small = Image.fromarray(scenes[0]).resize((150, 150))
    small.save(folder / "more" / "copy of 0.jpg", quality=80)
    (folder / "more" / "same.png").write_bytes((folder / "0.png").read_bytes())
    Image.fromarray(subject_scene(9, 77, 32).image).save(folder / "tiny.png")
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


@pytest.fixture
def out(tmp_path):
    """Where a command may write: nothing is there yet."""
    return tmp_path / "out"


@pytest.fixture
def direct(monkeypatch):
    """This machine's servers are reached without a proxy; errors are one line."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("MESSI_DEBUG", raising=False)


@pytest.fixture
def source(tmp_path) -> Source:
    """Twelve photos with one person each, in the folder of the test."""
    return Source(tmp_path)
