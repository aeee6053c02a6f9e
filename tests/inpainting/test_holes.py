"""Holes: grown, filled, and touching ones made one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from messi_lib.inpainting.holes import (
    bounding_box,
    crop_around,
    distance_to,
    fill,
    grow,
    make_holes,
)


def box(top, left, height, width, shape=(60, 80)):
    region = np.zeros(shape, bool)
    region[top : top + height, left : left + width] = True
    return region


@given(st.integers(0, 500), st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_grow_is_dilation_by_a_disc(seed, radius):
    region = np.random.default_rng(seed).random((23, 31)) > 0.98
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    expected = ndimage.binary_dilation(region, y**2 + x**2 <= radius**2)
    assert np.array_equal(grow(region, radius), expected)


def test_distance_is_euclidean_and_infinite_without_a_region():
    distance = distance_to(box(10, 10, 5, 5))
    assert distance[12, 12] == 0 and distance[12, 20] == 6
    assert abs(distance[18, 18] - np.hypot(4, 4)) < 1e-4
    assert np.isinf(distance_to(np.zeros((4, 4), bool))).all()
    assert (distance_to(np.ones((4, 4), bool)) == 0).all()


def test_bounding_box_and_crop():
    assert bounding_box(box(3, 4, 5, 6)) == (3, 4, 8, 10)
    assert crop_around(box(3, 4, 5, 6), 4) == (slice(0, 12), slice(0, 14))
    assert bounding_box(np.zeros((3, 3), bool)) is None
    assert crop_around(np.zeros((3, 3), bool), 2) is None


def test_fill_closes_what_is_enclosed_only():
    ring = box(10, 10, 20, 20) & ~box(15, 15, 5, 5)
    assert np.array_equal(fill(ring), box(10, 10, 20, 20))
    bay = box(10, 10, 20, 20) & ~box(15, 15, 5, 15)
    assert np.array_equal(fill(bay), bay)


def test_hole_is_larger_than_its_person_by_a_share_of_its_size():
    person = box(20, 30, 20, 10)
    (hole,) = make_holes([person], grow_by=0.1, feather=0.2)
    assert np.array_equal(hole.full(person.shape), grow(person, 2))
    assert hole.feather == 4 and hole.members == (0,)
    (exact,) = make_holes([person], grow_by=0, feather=0)
    assert np.array_equal(exact.full(person.shape), person) and exact.feather == 0


def test_a_person_twice_equals_once():
    person, other = box(5, 5, 20, 10), box(5, 50, 20, 10)
    once = make_holes([person, other], 0.1, 0.1)
    twice = make_holes([person, person, other], 0.1, 0.1)
    assert len(once) == len(twice) == 2
    for a, b in zip(once, twice):
        assert np.array_equal(a.region, b.region)
        assert (a.top, a.left, a.feather) == (b.top, b.left, b.feather)
    assert [hole.members for hole in twice] == [(0, 1), (2,)]


@pytest.mark.parametrize(("gap", "count"), [(0, 1), (4, 1), (6, 1), (7, 2), (30, 2)])
def test_holes_whose_feathers_touch_become_one(gap, count):
    # grow 0.05 * 20 = 1 and feather 0.1 * 20 = 2: each reaches 3 pixels into the gap
    left, right = box(20, 10, 20, 10), box(20, 20 + gap, 20, 10)
    holes = make_holes([left, right], 0.05, 0.1)
    assert len(holes) == count
    union = np.logical_or.reduce([hole.full(left.shape) for hole in holes])
    assert (union >= (left | right)).all()
    assert sum(len(hole.members) for hole in holes) == 2


def test_no_pixel_belongs_to_two_holes_or_their_feathers():
    rng = np.random.default_rng(0)
    regions = []
    for _ in range(25):
        top, left, height, width = rng.integers((0, 0, 3, 3), (180, 180, 30, 30))
        regions.append(box(top, left, height, width, (200, 200)))
    holes = make_holes(regions, 0.06, 0.1)
    reached = np.zeros((200, 200), int)
    for hole in holes:
        reached += grow(hole.full((200, 200)), hole.feather)
    assert 1 < len(holes) < 25
    assert sorted(m for hole in holes for m in hole.members) == list(range(25))
    assert reached.max() == 1


def test_a_person_in_two_pieces_joins_what_both_pieces_touch():
    torn = box(10, 5, 10, 10) | box(10, 50, 10, 10)
    near = box(10, 16, 10, 10)
    holes = make_holes([near, torn], 0, 0.05)
    assert len(holes) == 1 and holes[0].members == (0, 1)


@pytest.mark.parametrize(
    ("other", "count"),
    [
        (box(20, 31, 20, 10), 2),  # somebody beside, as tall
        (box(28, 31, 12, 10), 2),  # a child beside
        (box(34, 31, 6, 10), 1),  # an arm, or a bag
        (box(41, 20, 20, 10), 1),  # legs below a table
        (box(20, 21, 20, 10), 1),  # the same person, found twice
    ],
)
def test_people_side_by_side_keep_a_hole_each_and_pieces_of_one_do_not(other, count):
    one = box(20, 20, 20, 10)
    assert len(make_holes([one, other], 0.05, 0.1)) == 1
    holes = make_holes([one, other], 0.05, 0.1, apart=True)
    assert len(holes) == count
    assert sorted(member for hole in holes for member in hole.members) == [0, 1]
    for hole in holes:
        for member in hole.members:
            assert (hole.full(one.shape) >= [one, other][member]).all()


def test_people_apart_are_as_without_the_others():
    regions = [box(20, 20 + 11 * n, 20, 10) for n in range(4)]
    together = make_holes(regions, 0.05, 0.1, apart=True)
    for hole, region in zip(together, regions):
        (alone,) = make_holes([region], 0.05, 0.1)
        assert (hole.top, hole.left, hole.feather) == (alone.top, alone.left, alone.feather)
        assert np.array_equal(hole.region, alone.region)


def test_nothing_and_nonsense():
    assert make_holes([], 0.1, 0.1) == []
    assert make_holes([np.zeros((5, 5), bool)], 0.1, 0.1) == []
    (everything,) = make_holes([np.ones((5, 5), bool)], 0.1, 0.1)
    assert everything.full((5, 5)).all()
    (one,) = make_holes([np.ones((1, 1), bool)], 0.1, 0.1)
    assert one.region.shape == (1, 1)
    with pytest.raises(ValueError, match="bool"):
        make_holes([np.ones((5, 5), np.uint8)], 0.1, 0.1)
    with pytest.raises(ValueError, match="one shape"):
        make_holes([np.ones((5, 5), bool), np.ones((5, 6), bool)], 0.1, 0.1)
    with pytest.raises(ValueError, match="negative"):
        make_holes([np.ones((5, 5), bool)], -0.1, 0.1)
