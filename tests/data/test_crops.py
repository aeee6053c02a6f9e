"""Crops: square windows inside the photo, nobody squeezed, the person kept whole or by the head."""

from __future__ import annotations

import numpy as np
import pytest

from messi_lib.data import crops


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


def test_a_square_person_stays_square():
    pixels, person = photo_with((40, 90, 70, 120))
    for image in (crops.centre_crop(pixels, 60), crops.person_crop(pixels, person, 60)):
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
    kept = (crops.person_crop(pixels, person, 64)[..., 0] > 127).sum()
    assert kept > 0.02 * 64 * 64


def test_the_centre_crop_loses_a_person_at_the_side():
    """Post-mortem 9, and the fix."""
    pixels, person = photo_with((20, 165, 110, 199))
    assert (crops.centre_crop(pixels, 64)[..., 0] > 127).sum() == 0
    assert (crops.person_crop(pixels, person, 64)[..., 0] > 127).sum() > 200


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


def test_square_window_keeps_the_box_and_the_photo():
    assert crops.square_window((50, 90, 70, 110), (120, 200), context=2) == (40, 80, 40)
    assert crops.square_window((0, 190, 20, 200), (120, 200), context=2) == (0, 160, 40)
    assert crops.square_window((0, 0, 120, 200), (120, 200)) == (0, 40, 120)


def test_shrinking_does_not_alias():
    """Stripes of one pixel become an even grey; every fourth pixel alone would be white."""
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[:, ::2] = 255
    small = crops.centre_crop(pixels, 32)[4:-4, 4:-4]
    assert abs(small.astype(float).mean() - 127.5) < 3 and small.std() < 8
    assert pixels[::4, ::4].min() == 255


def test_auto_asks_the_finder_and_falls_back():
    pixels, person = photo_with((20, 160, 110, 199))
    asked = []

    def finder(image):
        asked.append(image.shape)
        return person

    image, how = crops.auto_crop(pixels, 48, finder)
    assert how == "person" and asked == [(120, 200, 3)]
    assert np.array_equal(image, crops.person_crop(pixels, person, 48))
    image, how = crops.auto_crop(pixels, 48, lambda p: np.zeros(p.shape[:2], bool))
    assert how == "centre" and np.array_equal(image, crops.centre_crop(pixels, 48))
    assert crops.auto_crop(pixels, 48)[1] == "centre"


def test_bad_arguments_are_named():
    pixels, person = photo_with((20, 20, 40, 40))
    with pytest.raises(ValueError, match="does not lie inside a photo of 200x120"):
        crops.crop(pixels, (0, 150, 64), 32)
    with pytest.raises(ValueError, match="size=0"):
        crops.centre_crop(pixels, 0)
    with pytest.raises(ValueError, match="region is empty"):
        crops.person_crop(pixels, np.zeros_like(person), 32)
    with pytest.raises(ValueError, match="person is bool"):
        crops.person_crop(pixels, person[:10], 32)
