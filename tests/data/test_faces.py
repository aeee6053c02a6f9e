"""The face finder: maps become the boxes they mean, wrong files are named, real faces are found."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import messi_lib
from messi_lib.data import faces
from messi_lib.data.faces import FaceFinder, decode, distinct
from messi_lib.images import load_photo

REAL = Path(messi_lib.__file__).parents[1].parent / "shared" / "data" / "messi_photos"


@pytest.fixture(scope="module")
def finder():
    return FaceFinder()


def maps(found, shape=(30, 40)):
    """What the network would say of faces (x0, y0, x1, y1, score) with landmarks (5, 2)."""
    presence = np.full(shape, 0.01, np.float32)
    size, offset = np.zeros((2, 2, *shape), np.float32)
    landmarks = np.zeros((10, *shape), np.float32)
    for (x0, y0, x1, y1, score), points in found:
        x, y = (x0 + x1) / 8 - 0.5, (y0 + y1) / 8 - 0.5  # the centre, on the map
        place = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
        presence[place] = score
        size[:, *place] = np.log((y1 - y0) / 4), np.log((x1 - x0) / 4)
        offset[:, *place] = y - place[0], x - place[1]
        shares = (np.array(points) - (x0, y0)) / (x1 - x0, y1 - y0)
        landmarks[:, *place] = shares[:, ::-1].ravel()
    return presence, size, offset, landmarks


POINTS = np.array([[30, 40], [50, 40], [40, 52], [33, 62], [47, 62]], float)


def test_known_maps_give_the_known_box_and_landmarks():
    box = (24.0, 28.0, 57.0, 75.0, 0.9)
    boxes, points = decode(*maps([(box, POINTS)]), 0.5)
    assert boxes.dtype == points.dtype == np.float32
    assert np.allclose(boxes, [box], atol=1e-4) and np.allclose(points, [POINTS], atol=1e-4)
    assert len(decode(*maps([(box, POINTS)]), 0.95)[0]) == 0


@settings(max_examples=50, deadline=None)
@given(
    st.floats(30, 130), st.floats(30, 90), st.floats(6, 50), st.floats(6, 50), st.floats(0.51, 1)
)
def test_any_box_survives_the_maps(x, y, width, height, score):
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2, score)
    boxes, _ = decode(*maps([(box, POINTS)]), 0.5)
    assert np.allclose(boxes, [box], atol=1e-3)


def test_a_face_is_told_once_and_the_surest_first():
    near, far = (24.0, 28.0, 57.0, 75.0, 0.8), (100.0, 30.0, 120.0, 60.0, 0.95)
    twin = (33.0, 32.0, 66.0, 79.0, 0.7)  # the same face, two points of the map away
    boxes, _ = decode(*maps([(near, POINTS), (far, POINTS), (twin, POINTS)]), 0.5)
    assert np.allclose(boxes[:, 4], [0.95, 0.8, 0.7])
    assert distinct(boxes).tolist() == [0, 1]
    assert distinct(boxes, overlap=0.9).tolist() == [0, 1, 2]
    assert distinct(boxes[:0]).tolist() == []


def with_maps(finder, monkeypatch, found):
    """A finder whose network answers with these maps, whatever it is shown; and what it was."""
    shown = []

    def answer(self, blob):
        shown.append(blob)
        shape = blob.shape[2] // 4, blob.shape[3] // 4
        presence, *others = maps(found, shape)
        return [presence[None, None], *(other[None] for other in others)]

    monkeypatch.setattr(FaceFinder, "_maps", answer)
    return shown


def test_boxes_come_in_pixels_of_the_photo_clipped_and_sorted(finder, monkeypatch):
    small, large = (10.0, 20.0, 30.0, 44.0, 0.95), (200.0, -10.0, 400.0, 210.0, 0.6)
    beyond = (100.0, 250.5, 140.0, 256.0, 0.9)  # in the padding below the photo
    shown = with_maps(finder, monkeypatch, [(small, POINTS), (large, POINTS), (beyond, POINTS)])
    pixels = np.zeros((500, 960, 3), np.uint8)
    pixels[..., 0] = 200
    found = finder.faces(pixels)
    (blob,) = shown
    assert blob.shape == (1, 3, 256, 480)  # 250 rows, and padding to a multiple of 32
    assert blob[0, 0, :250].min() == 200 and blob[0, 1:].max() == 0, "RGB in [0, 255]"
    assert blob[0, 0, 250:].max() == 0
    wanted = [[400, 0, 800, 420, 0.6], [20, 40, 60, 88, 0.95]]  # twice as large, the largest first
    assert np.allclose(found.boxes, wanted, atol=1e-2) and len(found) == 2
    assert np.allclose(found.landmarks, [2 * POINTS] * 2, atol=1e-2)


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (40, 60)])
def test_photos_without_a_face_give_none(finder, shape):
    boxes = finder(np.full((*shape, 3), 128, np.uint8))
    assert boxes.shape == (0, 5) and boxes.dtype == np.float32
    assert finder.faces(np.zeros((*shape, 3), np.uint8)).landmarks.shape == (0, 5, 2)


def test_bad_arguments_and_files_are_named(finder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="threshold=1.5"):
        FaceFinder(threshold=1.5)
    with pytest.raises(ValueError, match="size=8"):
        FaceFinder(size=8)
    with pytest.raises(ValueError, match=r"uint8 array \(H,W,3\)"):
        finder(np.zeros((20, 20), np.uint8))
    with pytest.raises(FileNotFoundError, match="absent.onnx is missing"):
        FaceFinder(tmp_path / "absent.onnx")
    shipped = faces.embedded_faces().read_bytes()
    for content in (b"", b"not a network", shipped[:100_000]):
        (tmp_path / "torn.onnx").write_bytes(content)
        with pytest.raises(ValueError, match="torn.onnx is no CenterFace") as error:
            FaceFinder(tmp_path / "torn.onnx")
        assert "\n" not in str(error.value)
    monkeypatch.setattr(faces, "embedded_faces", lambda: tmp_path / "torn.onnx")
    with pytest.raises(ValueError, match="damaged or another file .100,000 bytes"):
        FaceFinder()


def test_the_key_tells_weights_and_options_apart(finder):
    assert finder.sha256 == faces.SHA256 and finder.key == FaceFinder().key
    keys = {finder.key, FaceFinder(size=320).key, FaceFinder(threshold=0.6).key}
    assert len(keys) == 3


def test_threads_and_copies_find_the_same(finder):
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (60 + 10 * i, 90, 3), dtype=np.uint8) for i in range(6)]
    eager = FaceFinder(threshold=0.005, size=96)  # finds plenty in noise
    alone = [eager(photo) for photo in photos]
    assert sum(map(len, alone)) > 0
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(eager, photos))
    copied = copy.copy(eager)  # by its state, as for the workers of a data loader
    for photo, one, other in zip(photos, alone, together):
        assert np.array_equal(one, other) and np.array_equal(one, copied(photo))


@pytest.mark.skipif(not REAL.exists(), reason="shared/data/messi_photos is absent")
def test_real_faces_are_found_with_eyes_above_the_mouth(finder):
    paths = sorted(REAL.glob("*.jpg"))[::30]
    upright = found = same = 0
    for path in paths:
        pixels = load_photo(path).pixels
        result = finder.faces(pixels)
        if not len(result):
            continue
        found += 1
        left, right, _, *mouth = result.landmarks[0]
        upright += max(left[1], right[1]) < min(point[1] for point in mouth)
        mirrored = finder(np.ascontiguousarray(pixels[:, ::-1]))
        width = pixels.shape[1]
        back = mirrored[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (width, 0, width, 0)
        # The same face in the mirror, within a fifth of its size.
        side = (result.boxes[0, 2:4] - result.boxes[0, :2]).max()
        same += bool(len(back)) and np.abs(back - result.boxes[0, :4]).max(1).min() < side / 5
    assert found >= 0.95 * len(paths)
    assert upright >= 0.9 * found and same >= 0.9 * found
