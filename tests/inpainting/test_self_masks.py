"""Holes for training: what each kind hides, always something, and the same for the same seed."""

import numpy as np
import pytest

from messi_lib.inpainting.self_masks import KINDS, self_mask


def people(side=32):
    person, other = np.zeros((2, side, side), bool)
    unit = side // 16
    person[4 * unit : 12 * unit, 6 * unit : 10 * unit] = True
    other[2 * unit : 15 * unit, 8 * unit : 12 * unit] = True
    return person, other


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [16, 32, 64])
def test_each_kind_hides_what_it_says(kind, side):
    person, other = people(side)
    holes = [self_mask(person, rng(i), other, kind) for i in range(60)]
    for hole in holes:
        assert hole.dtype == bool and hole.shape == person.shape and hole.any()
        if kind != "strokes":
            assert hole[person].all()
        if kind == "all":
            assert hole.all()
        if kind == "box":
            rows, columns = hole.any(1), hole.any(0)
            assert np.array_equal(hole, rows[:, None] & columns[None])
    if kind == "strokes":
        assert any(not hole[person].all() for hole in holes)
        assert np.mean([hole[person].any() for hole in holes]) > 0.9
    different = {"all": 1, "outline": side // 8 + 1}.get(kind, 20)
    assert len({hole.tobytes() for hole in holes}) >= different


def test_another_outline_widens_the_hole():
    person, other = people()
    more = [self_mask(person, rng(i), other, "outlines").sum() for i in range(40)]
    less = [self_mask(person, rng(i), np.zeros_like(other), "outlines").sum() for i in range(40)]
    assert np.mean(more) > 1.3 * np.mean(less)


def test_kinds_come_in_their_shares_and_the_same_seed_gives_the_same():
    person, other = people()
    holes = [self_mask(person, rng(i), other) for i in range(600)]
    share = np.mean([hole.all() for hole in holes])
    assert abs(share - KINDS["all"]) < 0.05
    again = [self_mask(person, rng(i), other) for i in range(600)]
    assert all(np.array_equal(a, b) for a, b in zip(holes, again))
    assert sum(KINDS.values()) == pytest.approx(1)


def test_nobody_there_hides_everything_and_a_person_at_the_border_is_no_problem():
    nobody = np.zeros((32, 32), bool)
    assert self_mask(nobody, rng(), nobody, "box").all()
    corner = nobody.copy()
    corner[:3, -2:] = True
    for kind in KINDS:
        for i in range(20):
            assert self_mask(corner, rng(i), corner, kind).any()


def test_bad_arguments_are_refused():
    person, other = people()
    with pytest.raises(ValueError, match="unknown kind of hole 'circle': use one of outline"):
        self_mask(person, rng(), other, "circle")
    with pytest.raises(ValueError, match="must be bool"):
        self_mask(person.astype(np.uint8), rng(), other)
    with pytest.raises(ValueError, match="must be bool"):
        self_mask(person, rng(), other[:16])
