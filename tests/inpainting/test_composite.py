"""Compositing: exact outside, soft at the border, honest in colour."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from messi_lib.images import to_tensor
from messi_lib.inpainting.composite import (
    MAX_SHIFT,
    composite,
    feather_alpha,
    from_linear,
    match_colours,
    to_linear,
)
from messi_lib.inpainting.holes import grow
from messi_lib.inpainting.window import Window, choose_window


def noisy(shape=(50, 60), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def hole_at(top, left, height, width, shape=(50, 60)):
    region = np.zeros(shape, bool)
    region[top : top + height, left : left + width] = True
    return region


def flat(colour, size=16):
    return torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, size, size)


@given(
    st.tuples(st.integers(0, 45), st.integers(0, 55), st.integers(1, 50), st.integers(1, 60)),
    st.integers(0, 9),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_pixel_outside_hole_and_feather_is_identical(place, feather, match):
    top, left, height, width = place
    pixels, hole = noisy(), hole_at(top, left, height, width)
    before = pixels.copy()
    window = choose_window(hole, 1.3, feather)
    result, changed = composite(pixels, flat((-0.5, 0.9, 0.1)), window, hole, feather, match)
    assert np.array_equal(pixels, before), "the input stays"
    rows, columns = window.inside(hole.shape)
    shown = np.zeros_like(hole)
    shown[rows, columns] = True
    assert np.array_equal(changed, grow(hole, feather) & shown)
    assert (changed >= hole).all()
    assert np.array_equal(result[~changed], pixels[~changed])


def test_inside_is_the_patch_when_colour_is_left_alone():
    pixels, hole = noisy(), hole_at(10, 20, 20, 20)
    patch = to_tensor(noisy((40, 40), seed=1))
    result, _ = composite(pixels, patch, Window(0, 10, 40), hole, 3, match_colour=False)
    expected = noisy((40, 40), seed=1)
    assert np.array_equal(result[10:30, 20:40], expected[10:30, 10:30])


def test_without_a_feather_only_the_hole_changes():
    pixels, hole = noisy(), hole_at(10, 20, 20, 20)
    result, changed = composite(pixels, flat((1, 1, 1)), Window(0, 10, 40), hole, 0, False)
    assert np.array_equal(changed, hole)
    assert (result[hole] == 255).all()


def test_alpha_falls_from_one_to_zero_across_the_feather():
    alpha = feather_alpha(hole_at(20, 20, 10, 10), 5)
    profile = alpha[25, 29:37]
    assert profile[0] == 1 and (np.diff(profile[:7]) < 0).all()
    assert profile[5] > 0 and profile[6] == 0 and profile[7] == 0
    assert abs(profile[3] - 0.5) < 1e-6
    assert (feather_alpha(np.zeros((4, 4), bool), 3) == 0).all()


def test_mixing_is_linear_in_light():
    values = np.linspace(0, 1, 256)
    assert np.abs(from_linear(to_linear(values)) - values).max() < 1e-9
    assert abs(to_linear(np.array(0.5)) - 0.21404) < 1e-5
    pixels, hole = np.zeros((50, 60, 3), np.uint8), hole_at(10, 20, 20, 20)
    result, _ = composite(pixels, flat((1, 1, 1)), Window(0, 10, 40), hole, 5, False)
    half = result[20, 42, 0]  # third of five pixels: half the light
    assert half == round(255 * from_linear(np.array(0.5)).item()) == 188


def test_a_patch_that_agrees_with_the_photo_leaves_no_trace():
    pixels = np.full((50, 60, 3), (90, 140, 60), np.uint8)
    patch = to_tensor(pixels[:40, :40])
    result, _ = composite(pixels, patch, Window(0, 10, 40), hole_at(10, 20, 20, 20), 4)
    assert np.abs(result.astype(int) - pixels).max() <= 1


def lab_distance(a, b):
    a, b = (np.float32(c).reshape(1, 1, 3) / 255 for c in (a, b))
    difference = cv2.cvtColor(a, cv2.COLOR_RGB2LAB) - cv2.cvtColor(b, cv2.COLOR_RGB2LAB)
    return float(np.linalg.norm(difference))


def test_a_cast_is_taken_off_and_the_switch_leaves_it():
    pixels = np.full((50, 60, 3), (120, 120, 120), np.uint8)
    warm = flat(np.array([140, 122, 110]) / 127.5 - 1)
    hole = hole_at(10, 20, 20, 20)
    matched, _ = composite(pixels, warm, Window(0, 10, 40), hole, 3)
    raw, _ = composite(pixels, warm, Window(0, 10, 40), hole, 3, match_colour=False)
    assert lab_distance(matched[20, 30], (120, 120, 120)) < 1
    assert lab_distance(raw[20, 30], (140, 122, 110)) < 1


def everywhere(colour, size=48):
    return flat(np.array(colour) / 127.5 - 1, size)


def square(low, high, size=48):
    region = torch.zeros(1, 1, size, size, dtype=torch.bool)
    region[..., low:high, low:high] = True
    return region


def test_far_from_the_edge_the_correction_is_bounded():
    region = square(8, 40)
    patch = torch.where(region, everywhere((50, 50, 50)), everywhere((230, 230, 230)))
    matched = match_colours(patch, everywhere((230, 230, 230)), region, region)
    before, after = (
        cv2.cvtColor(((p[0, :, 24:25, 24:25] + 1) / 2).permute(1, 2, 0).contiguous().numpy(),
                     cv2.COLOR_RGB2LAB)[0, 0, 0] for p in (patch, matched)
    )  # fmt: skip
    assert abs(after - before - MAX_SHIFT[0]) < 0.2
    edge = matched[0, 0, 24, 8] - patch[0, 0, 24, 8]
    assert edge > 3 * (matched[0, 0, 24, 24] - patch[0, 0, 24, 24]) > 0


def test_a_seam_that_differs_along_the_edge_is_taken_off_where_it_is():
    """Left of the hole the photo is lighter than the patch, right of it darker: no shift serves."""
    ramp = torch.linspace(-0.3, 0.3, 48).view(1, 1, 1, 48)
    known = (torch.zeros(1, 3, 48, 48) - ramp).contiguous()
    region = square(12, 36)
    patch = torch.where(region, torch.zeros_like(known), known)
    matched = match_colours(patch, known, region, region)
    for inside, outside in ((12, 11), (35, 36)):
        seam = (patch[..., 20:28, inside] - known[..., 20:28, outside]).abs().mean()
        left = (matched[..., 20:28, inside] - known[..., 20:28, outside]).abs().mean()
        assert seam > 0.1 and left < 0.3 * seam


def test_known_cells_are_the_photo_and_unknown_ones_are_not_looked_at():
    generator = torch.Generator().manual_seed(0)
    patch, known = (torch.rand(1, 3, 48, 48, generator=generator) - 0.5 for _ in range(2))
    region, other = square(8, 24), square(26, 40)
    unknown = region | other
    matched = match_colours(patch, known, region, unknown)
    keep = ~region.expand_as(known)
    assert torch.equal(matched[keep], known[keep])
    repainted = torch.where(other, torch.ones_like(known), known)
    again = match_colours(patch, repainted, region, unknown)
    inside = region.expand_as(known)
    assert torch.equal(again[inside], matched[inside])


def test_the_colour_of_the_generated_middle_does_not_drive_the_correction():
    """A red shirt on grass must stay red: only the cells along the edge count."""
    grass, region = everywhere((76, 128, 51)), square(6, 42)
    patch = grass.clone()
    patch[..., 20:28, 20:28] = torch.tensor((0.6, -0.8, -0.8)).view(1, 3, 1, 1)
    matched = match_colours(patch, grass, region, region)
    assert (matched - patch).abs().max() < 0.02


def test_poisson_takes_a_step_off_altogether_and_keeps_the_gradients():
    pixels = np.full((50, 60, 3), 120, np.uint8)
    hole, window = hole_at(10, 20, 20, 20), Window(0, 10, 40)
    patch = np.full((40, 40, 3), 170, np.uint8)
    patch[18:22, 18:22] += 20  # something in the middle
    options = {"match_colour": False, "blend": "poisson"}
    result, changed = composite(pixels, to_tensor(patch), window, hole, 3, **options)
    assert np.array_equal(result[~changed], pixels[~changed])
    assert np.abs(result[20, 30].astype(int) - 140).max() <= 1
    rest = changed.copy()
    rest[17:23, 27:33] = False
    assert np.abs(result[rest].astype(int) - 120).max() <= 1
    with pytest.raises(ValueError, match="blend='glue'"):
        composite(pixels, to_tensor(patch), window, hole, 3, blend="glue")


@pytest.mark.parametrize("blend", ["feather", "poisson"])
def test_grain_stays_inside_too_and_comes_from_its_generator(blend):
    pixels, hole = noisy((120, 130)), hole_at(30, 40, 50, 50, (120, 130))
    patch = flat((0.1, 0.2, 0.0), 32)
    results = []
    for seed in (0, 0, 1):
        grain = torch.Generator().manual_seed(seed)
        result, changed = composite(
            pixels, patch, Window(15, 25, 80), hole, 4, grain=grain, blend=blend
        )
        assert np.array_equal(result[~changed], pixels[~changed])
        assert np.array_equal(changed, grow(hole, 4))
        results.append(result)
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_no_surroundings_no_correction():
    generator = torch.Generator().manual_seed(0)
    patch = torch.rand(1, 3, 20, 20, generator=generator) - 0.5
    region = torch.ones(1, 1, 20, 20, dtype=torch.bool)
    matched = match_colours(patch, torch.zeros_like(patch), region, region)
    assert torch.equal(matched, patch)
    everything = np.ones((20, 20), bool)
    result, changed = composite(noisy((20, 20)), flat((0, 0, 0)), Window(0, 0, 20), everything, 3)
    assert changed.all() and (result == 128).all()


def test_one_pixel_photo():
    pixels = np.zeros((1, 1, 3), np.uint8)
    hole = np.ones((1, 1), bool)
    result, changed = composite(pixels, flat((1, 1, 1)), choose_window(hole), hole, 2)
    assert changed.all() and (result == 255).all()


def test_an_empty_hole_or_one_outside_the_window_changes_nothing():
    pixels = noisy()
    for hole, window in (
        (np.zeros((50, 60), bool), Window(0, 0, 10)),
        (hole_at(40, 50, 5, 5), Window(0, 0, 10)),
    ):
        result, changed = composite(pixels, flat((1, 1, 1)), window, hole, 3)
        assert np.array_equal(result, pixels) and not changed.any()


def test_wrong_arguments():
    pixels = noisy()
    with pytest.raises(ValueError, match="bool"):
        composite(pixels, flat((0, 0, 0)), Window(0, 0, 9), np.ones((50, 60), np.uint8), 3)
    with pytest.raises(ValueError, match="uint8"):
        composite(pixels, flat((0, 0, 0)), Window(0, 0, 9), np.ones((5, 6), bool), 3)
    with pytest.raises(ValueError, match="feather"):
        composite(pixels, flat((0, 0, 0)), Window(0, 0, 9), np.ones((50, 60), bool), -1)
