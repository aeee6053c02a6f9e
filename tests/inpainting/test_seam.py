"""The two numbers of a seam: what they see, and what they must not see."""

import math

import cv2
import numpy as np
import pytest

from messi_lib.inpainting.seam import Seam, measure, overall


def photo(seed=0, size=160):
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(105, 135, (5, 5, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.rint(smooth + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)


def disc(size=160, radius=40):
    y, x = np.mgrid[:size, :size]
    return (y - size // 2) ** 2 + (x - size // 2) ** 2 <= radius**2


@pytest.mark.parametrize("gap", [0, 5])
def test_a_photo_has_no_seam_where_nothing_was_done(gap):
    seam = measure(photo(), disc(), gap)
    assert seam.lab < 4 and seam.gradient == pytest.approx(1, abs=0.12)


def test_a_lighter_hole_is_a_seam_of_that_size():
    even = np.full((160, 160, 3), 120, np.uint8)
    values = [measure(even, disc())]
    for shift in (5, 10, 20):
        pixels = even.copy()
        pixels[disc()] += np.uint8(shift)
        lab = [cv2.cvtColor(np.full((1, 1, 3), v, np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0, 0]
               for v in (120, 120 + shift)]  # fmt: skip
        seam = measure(pixels, disc())
        assert seam.lab == pytest.approx(lab[1] - lab[0], rel=0.01)
        assert seam.badness > values[-1].badness and seam.gradient > values[-1].gradient
        values.append(seam)
    assert values[0] == Seam(0.0, 1.0) and values[0].badness == 0


def test_both_rings_lie_beyond_the_feather():
    """A soft border hides a step from rings that touch: with the gap it is seen."""
    even = np.full((160, 160, 3), 120.0, np.float32)
    distance = cv2.distanceTransform((~disc()).astype(np.uint8), cv2.DIST_L2, 5)
    even += 30 * np.clip(1 - distance / 12, 0, 1)[..., None]
    pixels = np.rint(even).astype(np.uint8)
    assert measure(pixels, disc(), 12).lab > 2 * measure(pixels, disc(), 0).lab


def test_differences_of_both_signs_do_not_cancel():
    pixels = np.full((160, 160, 3), 120, np.uint8)
    pixels[disc()] = 140
    pixels[:, 80:][disc()[:, 80:]] = 100
    assert measure(pixels, disc()).lab > 5


def test_a_blurred_border_is_below_one_and_an_edge_above():
    pixels, hole = photo(1), disc()
    soft = cv2.GaussianBlur(pixels, (0, 0), 4)
    rim = cv2.morphologyEx(hole.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5))) > 0
    assert measure(np.where(rim[..., None], soft, pixels), hole).gradient < 0.75
    rim = hole & ~(cv2.erode(hole.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    line = np.where(rim[..., None], pixels // 2, pixels)
    assert measure(line, hole).gradient > 1.3


def test_another_hole_is_no_surroundings():
    pixels, hole = photo(), disc()
    other = np.zeros_like(hole)
    other[:, 125:] = True
    repainted = pixels.copy()
    repainted[other] = (255, 0, 0)
    unknown = hole | other
    # steepness is measured across one pixel, so that a ring that touches the other hole sees it
    assert measure(repainted, hole, 0, unknown).lab == measure(pixels, hole, 0, unknown).lab
    assert measure(repainted, hole, 4).lab > measure(pixels, hole, 4).lab


def test_a_hole_at_the_border_and_one_without_surroundings():
    pixels = photo()
    corner = np.zeros((160, 160), bool)
    corner[:50, :50] = True
    assert math.isfinite(measure(pixels, corner).badness)
    for hole in (np.ones((160, 160), bool), np.zeros((160, 160), bool)):
        seam = measure(pixels, hole)
        assert math.isnan(seam.lab) and math.isnan(seam.badness)
    assert math.isnan(measure(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1), bool)).lab)


def test_the_mean_over_holes_passes_over_those_without_a_seam():
    none = Seam(math.nan, math.nan)
    assert overall([Seam(2.3, 1.0), none, Seam(4.6, 2.0)]) == pytest.approx((1 + 3) / 2)
    assert overall([none]) == overall([]) == 0


def test_wrong_arguments():
    with pytest.raises(ValueError, match="bool"):
        measure(photo(), disc().astype(np.uint8))
    with pytest.raises(ValueError, match="gap"):
        measure(photo(), disc(), -1)
    with pytest.raises(ValueError, match="uint8"):
        measure(photo()[:5], disc())
