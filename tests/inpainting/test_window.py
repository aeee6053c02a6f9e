"""The window around a hole: there and back without a shift."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from messi_lib.images import to_tensor, to_uint8
from messi_lib.inpainting.window import (
    Window,
    choose_window,
    cut,
    cut_region,
    look,
    uncut,
    without,
)


def hole_at(top, left, height, width, shape=(60, 80)):
    region = np.zeros(shape, bool)
    region[top : top + height, left : left + width] = True
    return region


def test_a_hole_in_the_middle_is_centred_with_context():
    window = choose_window(hole_at(20, 30, 20, 10), context=1.5)
    assert window == Window(15, 20, 30)
    rows, columns = window.inside((60, 80))
    assert (rows, columns) == (slice(15, 45), slice(20, 50))


@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    st.floats(1, 3),
    st.integers(0, 10),
)
@settings(max_examples=150, deadline=None)
def test_any_window_shows_its_hole_and_no_more_outside_than_needed(shape, place, context, feather):
    top, left = int(place[0] * (shape[0] - 1)), int(place[1] * (shape[1] - 1))
    height = 1 + int(place[2] * (shape[0] - top - 1))
    width = 1 + int(place[3] * (shape[1] - left - 1))
    window = choose_window(hole_at(top, left, height, width, shape), context, feather)
    assert max(height, width) <= window.size <= max(shape)
    for first, length, start, extent in (
        (window.top, shape[0], top, height),
        (window.left, shape[1], left, width),
    ):
        assert first <= start and start + extent <= first + window.size
        if window.size <= length:
            assert 0 <= first <= length - window.size, "fits, so it lies inside"
        else:
            assert first <= 0 and first + window.size >= length, "shows all there is"


def test_window_errors():
    with pytest.raises(ValueError, match="empty"):
        choose_window(np.zeros((5, 5), bool))
    with pytest.raises(ValueError, match="context"):
        choose_window(hole_at(1, 1, 2, 2), context=0.5)


@pytest.mark.parametrize("window", [Window(-3, 2, 10), Window(-20, -31, 50), Window(0, 0, 7)])
def test_look_mirrors_as_numpy_does(window):
    values = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    padded = np.pad(values, ((60, 60), (60, 60), (0, 0)), mode="reflect")
    top, left = window.top + 60, window.left + 60
    expected = padded[top : top + window.size, left : left + window.size]
    assert np.array_equal(look(values, window), expected)
    assert np.array_equal(look(values[..., 0], window), expected[..., 0])


def test_a_photo_of_one_pixel_is_repeated():
    assert (look(np.full((1, 1), 9, np.uint8), Window(-2, -2, 5)) == 9).all()


def test_there_and_back_at_native_size_is_exact():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for window in (Window(3, 5, 12), Window(-4, 20, 16), Window(-5, -3, 40)):
        patch = cut(pixels, window, window.size)
        back = uncut(patch, window, (20, 30))
        seen = to_uint8(torch.from_numpy(back).permute(2, 0, 1))
        assert np.array_equal(seen, pixels[window.inside((20, 30))])


@pytest.mark.parametrize("window", [Window(8, 10, 40), Window(-13, 25, 60)])
def test_there_and_back_through_a_smaller_size_does_not_shift(window):
    y, x = np.mgrid[0:64, 0:80] / 64.0
    smooth = np.stack([0.5 + 0.4 * np.sin(3 * y), 0.5 + 0.4 * np.cos(2 * x), 0.3 + 0.3 * x * y], 2)
    pixels = np.rint(smooth * 255).astype(np.uint8)
    back = uncut(cut(pixels, window, 16), window, (64, 80))
    expected = to_tensor(pixels[window.inside((64, 80))])[0].permute(1, 2, 0).numpy()
    error = (back - expected)[4:-4, 4:-4]
    for dy, dx in ((1, 0), (0, 1)):  # a shift by one pixel would be worse
        moved = np.roll(expected, (dy, dx), (0, 1))[4:-4, 4:-4]
        assert np.abs(error).mean() < 0.4 * np.abs(back[4:-4, 4:-4] - moved).mean()
    assert np.abs(error).max() < 0.06


def test_the_small_image_has_no_colour_of_the_person_beside_the_hole():
    pixels = np.full((60, 80, 3), 60, np.uint8)
    hole = hole_at(20, 30, 20, 15)
    pixels[hole] = (255, 0, 0)
    window = Window(10, 18, 40)
    keep = ~cut_region(hole, window, 16)[0].expand(3, -1, -1)
    tinted = cut(pixels, window, 16)[0][keep]
    clean = cut(pixels, window, 16, hole)[0][keep]
    assert (tinted - tinted.median()).abs().max() > 0.05, "or there would be nothing to take out"
    assert torch.allclose(clean, torch.tensor(60 / 127.5 - 1), atol=1e-5)


def test_unknown_pixels_become_their_nearest_known_ones():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    unknown = hole_at(0, 3, 9, 6, (9, 9))
    filled = without(pixels, unknown)
    assert np.array_equal(filled[:, :3], pixels[:, :3])
    assert np.array_equal(filled[:, 3], pixels[:, 2]) and (filled[4, 3:] == pixels[4, 2]).all()
    assert without(pixels, np.zeros((9, 9), bool)) is pixels
    assert (without(pixels, np.ones((9, 9), bool)) == 128).all()


def test_the_hole_in_the_window_loses_no_pixel_and_is_mirrored_too():
    hole = hole_at(2, 40, 3, 3)
    window = Window(-10, 30, 40)
    region = cut_region(hole, window, 8)
    assert region.shape == (1, 1, 8, 8) and region.dtype == torch.bool
    cells = np.argwhere(region[0, 0].numpy()).tolist()
    assert [2, 2] in cells, "rows 2..4 are rows 12..14 of the window, cell 2"
    assert [1, 2] in cells, "rows -2..-4, the reflection, are rows 6..8, cell 1"
    assert not cut_region(np.zeros((60, 80), bool), window, 8).any()
