"""Telling people apart: the middle of a collection, and real faces where there are some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import messi_lib
from messi_lib.data import identity
from messi_lib.data.curate import curate
from messi_lib.data.faces import FaceFinder
from messi_lib.data.identity import FaceIdentity
from messi_lib.data.pitch import subject_scene
from messi_lib.data.quality import face_crop, strangers
from messi_lib.images import load_photo, write_png

REAL = Path(messi_lib.__file__).parents[1].parent / "shared" / "data"


def test_strangers_lie_far_from_the_middle_and_do_not_move_it():
    rng = np.random.default_rng(0)
    subject = rng.normal(0, 0.03, (20, 128)) + rng.normal(0, 0.1, 128)
    others = rng.normal(0, 0.1, (6, 128))  # nearly a third of all
    distance, odd = strangers(np.concatenate([subject, others]), limit=0.7)
    assert not odd[:20].any() and odd[20:].all()
    assert distance[:20].max() < distance[20:].min()
    few, none = strangers(subject[:5])
    assert np.isnan(few).all() and not none.any(), "five faces have no middle worth the name"


class Told:
    """An identity that is told: the red of a face's middle."""

    of_faces = True

    def __call__(self, face):
        return np.full(4, face[face.shape[0] // 2, face.shape[1] // 2, 0] / 255)


def test_a_stranger_is_reported_and_photos_without_a_face_are_not_judged(tmp_path):
    for number in range(12):
        pixels = subject_scene(5, number, 160).image.copy()
        pixels[40:100, 40:100] = 250 if number == 7 else 20 + number
        write_png(pixels, tmp_path / "in" / f"{number:02d}.png")

    def faces(pixels):
        if pixels[70, 70, 0] == 20:  # photo 0 shows none
            return np.zeros((0, 5), np.float32)
        return np.array([[40, 40, 100, 100, 0.9]], np.float32)

    result = curate([tmp_path / "in"], tmp_path / "out", faces=faces, embed=Told())
    odd = {photo.label for photo in result.photos if "odd_one_out" in photo.reasons}
    assert odd == {"07.png"}
    assert result.photos[0].entry.vector is None and result.photos[0].oddness is None
    assert result.photos[7].keep, "a warning, no verdict"


def test_without_the_packages_the_remedy_is_said(monkeypatch):
    monkeypatch.setattr(identity, "PACKAGES", ("no_such_package_a", "no_such_package_b"))
    assert not identity.available()
    with pytest.raises(ModuleNotFoundError, match="dlib-bin"):
        FaceIdentity()


def test_real_strangers_are_told_from_the_subject():
    """Press photos of one man, and people of other photos."""
    if not REAL.is_dir():
        pytest.skip("the real photos are not on this machine")
    if not identity.available():
        pytest.skip("dlib-bin and face-recognition-models are not installed")
    find, know = FaceFinder(), FaceIdentity()

    def faces_in(folder: Path, step: int, count: int) -> list[np.ndarray]:
        found = []
        for path in sorted(folder.glob("**/*.jpg"))[::step]:
            pixels = load_photo(path).pixels
            boxes = find(pixels)
            face = face_crop(pixels, boxes[boxes[:, 4] > 0.7])
            if face is not None and min(face.shape[:2]) >= 60:
                found.append(know(face))
            if len(found) == count:
                break
        return found

    his = faces_in(REAL / "messi_photos", 20, 16)
    theirs = faces_in(REAL / "coco_open_full", 1, 5)
    assert len(his) >= 12 and len(theirs) == 5
    _, odd = strangers(np.stack(his + theirs))
    assert odd[: len(his)].mean() < 0.1 and odd[len(his) :].mean() > 0.7
