"""The membrane against what is known of harmonic functions, and against a dense solution."""

import numpy as np
import pytest

from messi_lib.inpainting import poisson
from messi_lib.inpainting.holes import grow
from messi_lib.inpainting.poisson import membrane


def square(size=40, low=10, high=30):
    inside = np.zeros((size, size), bool)
    inside[low:high, low:high] = True
    return inside, grow(inside, 1) & ~inside


def test_a_constant_and_a_plane_are_continued():
    inside, edge = square()
    y, x = np.mgrid[:40, :40].astype(np.float32)
    for values in (np.full((40, 40), 0.3), 0.01 * x - 0.02 * y + 0.1):
        difference = np.where(edge, values, np.nan)[..., None].astype(np.float32)
        found = membrane(difference, inside, edge)
        assert np.abs(found[inside, 0] - values[inside]).max() < 1e-5
        assert not found[~(inside | edge)].any(), "0 elsewhere, and nothing read there"


def test_it_is_the_solution_of_laplace():
    inside, edge = square(16, 4, 12)
    difference = np.random.default_rng(0).normal(size=(16, 16, 3)).astype(np.float32)
    found = membrane(difference, inside, edge).astype(np.float64)
    places = np.argwhere(inside)
    for y, x in places:
        mean = (found[y - 1, x] + found[y + 1, x] + found[y, x - 1] + found[y, x + 1]) / 4
        assert np.allclose(found[y, x], mean, atol=1e-5)
    assert np.abs(found[inside]).max() <= np.abs(difference[edge]).max(), "maximum principle"


def test_at_the_photo_border_it_ends_level():
    inside = np.zeros((20, 20), bool)
    inside[:, :10] = True
    edge = np.zeros_like(inside)
    edge[:, 10] = True
    found = membrane(np.full((20, 20, 1), 0.4, np.float32), inside, edge)
    assert np.abs(found[inside] - 0.4).max() < 1e-4


def test_without_an_edge_it_is_zero():
    inside = np.ones((9, 9), bool)
    assert not membrane(np.ones((9, 9, 3), np.float32), inside, ~inside).any()
    assert not membrane(np.ones((9, 9, 3), np.float32), ~inside, inside)[~inside].any()


def test_a_part_that_reaches_no_edge_gets_nothing():
    inside, edge = square()
    inside[0:3, 0:3] = True
    found = membrane(np.ones((40, 40, 1), np.float32), inside, edge)
    assert np.abs(found[0:3, 0:3]).max() < 1e-6 and found[20, 20] == pytest.approx(1, abs=1e-4)


def test_coarse_cells_come_close_to_single_pixels(monkeypatch):
    size = 150
    y, x = np.mgrid[:size, :size]
    inside = (y - 75) ** 2 + (x - 75) ** 2 <= 60**2
    edge = grow(inside, 1) & ~inside
    difference = (np.sin(np.arctan2(y - 75, x - 75)) * 0.2).astype(np.float32)[..., None]
    exact = membrane(difference, inside, edge)
    monkeypatch.setattr(poisson, "SIDE", 40)
    coarse = membrane(difference, inside, edge)
    assert np.abs(exact - coarse)[inside].max() < 0.04
    assert np.abs(exact - coarse)[inside].mean() < 0.01
