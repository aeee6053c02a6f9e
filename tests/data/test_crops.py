"""Crops: square windows inside the photo, nobody squeezed, the face or the person kept."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import messi_lib
from messi_lib.data import crops
from messi_lib.data.faces import FaceFinder
from messi_lib.images import load_photo

REAL = Path(messi_lib.__file__).parents[1].parent / "shared" / "data" / "messi_photos"


def photo_with(box, shape=(120, 200), colour=(255, 40, 40)):
    """Black photo with one coloured person; returns pixels and region."""
    person = np.zeros(shape, bool)
    y0, x0, y1, x1 = box
    person[y0:y1, x0:x1] = True
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[person] = colour
    return pixels, person


def stretched(pixels, size):
    """The predecessor's resize: to a square, whatever the proportions were."""
    from messi_lib.images import resize, to_tensor, to_uint8

    return to_uint8(resize(to_tensor(pixels), (size, size)))[0]


def proportions(image):
    red = image[..., 0] > 127
    return red.any(0).sum() / red.any(1).sum()


def cut(pixels, person, size):
    """The largest person of a photo, uint8 (size, size, 3)."""
    return crops.crop(pixels, crops.person_window(person, smallest=size), size)


def test_a_square_person_stays_square():
    pixels, person = photo_with((40, 90, 70, 120))
    for image in (crops.centre_crop(pixels, 60), cut(pixels, person, 60)):
        assert image.shape == (60, 60, 3) and image.dtype == np.uint8
        assert proportions(image) == pytest.approx(1, abs=0.07)
    assert proportions(stretched(pixels, 60)) == pytest.approx(0.6, abs=0.07)  # post-mortem 8


@pytest.mark.parametrize(
    "box", [(5, 2, 65, 30), (50, 170, 118, 198), (30, 90, 50, 100), (0, 0, 118, 60)]
)
def test_a_person_that_fits_is_whole_wherever_it_stands(box):
    pixels, person = photo_with(box)
    top, left, side = crops.person_window(person)
    y0, x0, y1, x1 = box
    assert top <= y0 and left <= x0 and top + side >= y1 and left + side >= x1
    assert top >= 0 and left >= 0 and top + side <= 120 and left + side <= 200
    kept = (cut(pixels, person, 64)[..., 0] > 127).sum()
    assert kept > 0.02 * 64 * 64


def test_the_centre_crop_loses_a_person_at_the_side():
    """Post-mortem 9, and the fix."""
    pixels, person = photo_with((20, 165, 110, 199))
    assert (crops.centre_crop(pixels, 64)[..., 0] > 127).sum() == 0
    assert (cut(pixels, person, 64)[..., 0] > 127).sum() > 200


def test_a_person_too_long_for_a_square_keeps_the_head():
    """Lying across a wide photo, head on the right; and standing in a tall one."""
    person = np.zeros((60, 200), bool)
    person[30:50, 10:190] = True
    person[20:30, 170:190] = True  # the head
    top, left, side = crops.person_window(person)
    assert side == 60 and left <= 170 and left + side >= 190 and top <= 20
    tall = np.zeros((300, 80), bool)
    tall[60:290, 20:60] = True
    top, left, side = crops.person_window(tall, headroom=0.1)
    assert side == 80 and top == 60 - 8


def test_the_largest_person_is_chosen():
    _, person = photo_with((40, 20, 60, 30))
    person[10:100, 150:180] = True
    _, left, side = crops.person_window(person)
    assert left <= 150 and left + side >= 180
    assert crops.largest_person(person)[50, 160] and not crops.largest_person(person)[50, 25]


def test_a_distant_person_is_not_blown_up():
    _, person = photo_with((60, 100, 66, 104))
    assert crops.person_window(person)[2] == 8
    assert crops.person_window(person, smallest=64)[2] == 64
    assert crops.person_window(person, smallest=500)[2] == 120  # the photo has no more


def test_shrinking_does_not_alias():
    """Stripes of one pixel become an even grey; every fourth pixel alone would be white."""
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[:, ::2] = 255
    small = crops.centre_crop(pixels, 32)[4:-4, 4:-4]
    assert abs(small.astype(float).mean() - 127.5) < 3 and small.std() < 8
    assert pixels[::4, ::4].min() == 255


def test_the_finder_is_asked_and_the_middle_is_the_fallback():
    pixels, person = photo_with((20, 160, 110, 199))
    asked = []

    def finder(image):
        asked.append(image.shape)
        return person

    focus = crops.find_focus(pixels, 48, finder)
    assert focus.how == "person" and asked == [(120, 200, 3)]
    assert focus.window == crops.person_window(person, smallest=48)
    focus = crops.find_focus(pixels, 48, lambda p: np.zeros(p.shape[:2], bool))
    assert focus.how == "centre" and focus.window == crops.centre_window(120, 200)
    assert crops.find_focus(pixels, 48).how == "centre"


def test_bad_arguments_are_named():
    pixels, _ = photo_with((20, 20, 40, 40))
    with pytest.raises(ValueError, match="does not lie inside a photo of 200x120"):
        crops.crop(pixels, (0, 150, 64), 32)
    with pytest.raises(ValueError, match="size=0"):
        crops.centre_crop(pixels, 0)
    assert crops.person_window(np.zeros((120, 200), bool)) is None  # nobody there is no error


# --- faces ---------------------------------------------------------------------------------------


@st.composite
def faces_in_photos(draw):
    """A box inside a photo, and the photo's height and width."""
    height, width = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    x0, y0 = draw(st.floats(0, width - 0.5)), draw(st.floats(0, height - 0.5))
    x1, y1 = draw(st.floats(x0 + 0.1, width)), draw(st.floats(y0 + 0.1, height))
    return (x0, y0, x1, y1), (height, width)


def inside(window, shape):
    top, left, side = window
    return (
        side >= 1 and top >= 0 and left >= 0 and top + side <= shape[0] and left + side <= shape[1]
    )


def holds(window, box):
    top, left, side = window
    x0, y0, x1, y1 = box
    return left <= x0 and top <= y0 and x1 <= left + side and y1 <= top + side


def fits(box, shape):
    """Is there a square of whole pixels in the photo that holds the box?"""
    x0, y0, x1, y1 = box
    extent = max(math.ceil(x1) - math.floor(x0), math.ceil(y1) - math.floor(y0))
    return extent <= min(shape)


@settings(max_examples=300, deadline=None)
@given(faces_in_photos(), st.floats(0, 0.99), st.floats(1, 8), st.integers(1, 400))
def test_a_face_that_fits_is_whole_whatever_the_framing(case, headroom, context, smallest):
    box, shape = case
    window = crops.face_window(box, shape, headroom, context, smallest)
    assert inside(window, shape)
    assert window[2] >= min(smallest, *shape)
    if fits(box, shape):
        assert holds(window, box)
        assert box[1] - window[0] >= 0, "room above the face is never negative"
    else:
        assert window[2] == min(shape)


@settings(max_examples=150, deadline=None)
@given(faces_in_photos(), st.integers(1, 6), st.integers(1, 64), st.integers(0, 9))
def test_all_crops_of_a_photo_keep_the_face(case, n, smallest, seed):
    box, shape = case
    focus = crops.face_focus(box, shape, smallest=smallest)
    found = crops.windows(focus, shape, n, smallest, seed, "photo")
    assert found[0] == focus.window and 1 <= len(found) <= n
    assert len(set(found)) == len(found)
    assert all(inside(window, shape) for window in found)
    assert all(window[2] >= min(smallest, focus.window[2]) for window in found)
    assert not fits(box, shape) or all(holds(window, box) for window in found)
    assert found == crops.windows(focus, shape, n, smallest, seed, "photo")
    assert crops.windows(focus, shape, n + 1, smallest, seed, "photo")[: len(found)] == found


def test_further_crops_differ_by_seed_and_photo_and_not_by_much():
    focus = crops.face_focus((300, 200, 360, 280), (600, 800))
    found = crops.windows(focus, (600, 800), 5, seed=1, name="a")
    assert len(found) == 5
    assert found[1:] != crops.windows(focus, (600, 800), 5, seed=2, name="a")[1:]
    assert found[1:] != crops.windows(focus, (600, 800), 5, seed=1, name="b")[1:]
    top, left, side = focus.window
    for y, x, other in found[1:]:
        assert 0.79 * side < other < 1.26 * side
        assert abs(y + other / 2 - top - side / 2) <= 0.1 * other + 2
        assert abs(x + other / 2 - left - side / 2) <= 0.1 * other + 2
    with pytest.raises(ValueError, match="n=0"):
        crops.windows(focus, (600, 800), 0)


def test_further_crops_of_a_person_keep_all_of_it_or_the_head():
    person = np.zeros((200, 300), bool)
    person[60:150, 100:140] = True
    focus = crops.person_focus(person)
    assert focus.keep == (60, 100, 150, 140)
    for window in crops.windows(focus, person.shape, 6):
        assert holds(window, (100, 60, 140, 150))
    person = np.zeros((300, 80), bool)
    person[60:290, 20:60] = True  # longer than a square of this photo
    focus = crops.person_focus(person)
    assert focus.keep == (60, 20, 106, 60)
    for window in crops.windows(focus, person.shape, 6):
        assert holds(window, (20, 60, 60, 106))
    centre = crops.find_focus(np.zeros((40, 40, 3), np.uint8))
    assert centre.keep is None and len(crops.windows(centre, (40, 40), 4)) == 4
    assert crops.windows(crops.Focus("centre", (0, 0, 1)), (1, 1), 4) == [(0, 0, 1)]


def test_a_face_has_hair_above_and_shoulders_below():
    """200 px of photo above a face of 80: the window begins 0.2 * 280 px above it."""
    assert crops.face_window((300, 200, 360, 280), (600, 800)) == (144, 190, 280)
    assert crops.face_window((300, 10, 360, 90), (600, 800)) == (0, 190, 280)  # at the upper edge
    assert crops.face_window((0, 200, 40, 280), (600, 800))[1] == 0
    assert crops.face_window((0, 0, 500, 600), (600, 800)) == (0, 0, 600)


def test_the_largest_sure_face_is_the_main_one():
    small, doubtful, main = (0, 0, 20, 20, 0.99), (0, 0, 50, 40, 0.1), (50, 0, 80, 40, 0.8)
    assert tuple(crops.main_face([small, doubtful, main])) == main
    assert crops.main_face(np.zeros((0, 5), np.float32)) is None


def test_the_face_comes_first_then_the_person_then_the_middle():
    pixels, person = photo_with((20, 10, 110, 49))

    def nobody(photo):
        return np.zeros(photo.shape[:2], bool)

    def face(photo):
        return np.array([[150, 30, 170, 54, 0.9]], np.float32)

    def faceless(photo):
        return np.zeros((0, 5), np.float32)

    focus = crops.find_focus(pixels, 32, lambda p: person, face)
    window = crops.face_window((150, 30, 170, 54), (120, 200), smallest=32)
    assert focus.how == "face" and focus.window == window
    tight = crops.Framing(face_context=2)
    assert crops.find_focus(pixels, 32, None, face, tight).window[2] == 48
    focus = crops.find_focus(pixels, 32, lambda p: person, faceless)
    assert focus.how == "person" and focus.window == crops.person_window(person, smallest=32)
    assert crops.find_focus(pixels, 32, nobody, faceless).how == "centre"


def test_impossible_faces_and_framings_are_named():
    with pytest.raises(ValueError, match="no area in a photo of 200x120"):
        crops.face_window((210, 10, 230, 40), (120, 200))
    with pytest.raises(ValueError, match="headroom=1.0"):
        crops.face_window((10, 10, 30, 40), (120, 200), headroom=1.0)
    with pytest.raises(ValueError, match="context=0.5"):
        crops.face_window((10, 10, 30, 40), (120, 200), context=0.5)
    pixels, _ = photo_with((20, 10, 110, 49))
    with pytest.raises(ValueError, match="person is bool"):
        crops.find_focus(pixels, 32, lambda p: np.ones((5, 5), bool))


@pytest.mark.skipif(not REAL.exists(), reason="shared/data/messi_photos is absent")
def test_real_faces_stay_whole():
    finder = FaceFinder(size=320)
    kept = {"auto": [], "centre": []}
    for path in sorted(REAL.glob("*.jpg"))[::11][:40]:
        pixels = load_photo(path).pixels
        face = crops.main_face(finder(pixels))
        if face is not None:
            auto = crops.find_focus(pixels, 128, face_finder=lambda p, face=face: face[None])
            kept["auto"].append(holds(auto.window, face[:4]))
            kept["centre"].append(holds(crops.centre_window(*pixels.shape[:2]), face[:4]))
    assert len(kept["auto"]) >= 36
    assert np.mean(kept["auto"]) >= 0.98 and np.mean(kept["auto"]) >= np.mean(kept["centre"])
