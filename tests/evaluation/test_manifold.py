"""Precision, recall, density and coverage: by hand, by the definition, and on known generators."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from messi_lib.evaluation import manifold
from messi_lib.evaluation.manifold import Prdc, prdc


def draw(seed: int, n: int, d: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def shares(result: Prdc) -> tuple[float, float, float, float]:
    return dataclasses.astuple(result)[:4]


def by_the_book(real, made, k):
    """The definitions, distance by distance."""

    def gap(x, y):
        return float(np.linalg.norm(x - y))

    n = len(real)
    reach_real, reach_made = (
        [sorted(gap(x, y) for j, y in enumerate(s) if j != i)[k - 1] for i, x in enumerate(s)]
        for s in (real, made)
    )
    inside = [[gap(g, r) <= reach_real[i] for i, r in enumerate(real)] for g in made]
    precision = sum(any(row) for row in inside) / n
    recall = sum(any(gap(r, g) <= reach_made[j] for j, g in enumerate(made)) for r in real) / n
    density = sum(sum(row) for row in inside) / (k * n)
    coverage = sum(any(row[i] for row in inside) for i in range(n)) / n
    return precision, recall, density, coverage


def test_by_hand_on_a_line():
    """Balls around 0, 1, 3 reach 1, 1, 2; those around 0.5, 0.8, 10 reach 0.3, 0.3, 9.2."""
    real, made = np.array([[0.0], [1], [3]]), np.array([[0.5], [0.8], [10]])
    # 0.5 and 0.8 are in two real balls each, 10 in none; nothing is near 3, and only 0 is alone.
    assert shares(prdc(real, made, k=1)) == pytest.approx((2 / 3, 2 / 3, 4 / 3, 2 / 3))
    # 2.2 is only in the ball of 3, and every real ball holds something.
    made = np.array([[0.5], [2.2], [10]])
    assert shares(prdc(real, made, k=1)) == pytest.approx((2 / 3, 1, 1, 1))
    assert prdc(real, made, k=1).precision == prdc(made, real, k=1).recall


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_equals_the_definition(k, shift):
    real, made = draw(1, 40), draw(2, 40) * 0.7 + shift
    assert shares(prdc(real, made, k)) == pytest.approx(by_the_book(real, made, k), abs=1e-12)


def test_blocks_order_rotation_scale_and_place_do_not_matter(monkeypatch):
    real, made = draw(3, 50), draw(4, 50) * 1.1 + 0.5
    whole = prdc(real, made)
    assert (whole.n, whole.k) == (50, 5) and len({0.0, 1.0, *shares(whole)}) == 6
    turn = np.linalg.qr(draw(5, 6))[0]
    assert prdc(real[::-1], made[::-1].copy()) == whole
    assert prdc(3 * real @ turn + 1000, 3 * made @ turn + 1000) == whole
    monkeypatch.setattr(manifold, "BLOCK", 7)
    assert prdc(real, made) == whole


def test_a_perfect_generator_has_the_expected_numbers():
    """Real and generated from one source: each is as likely the neighbour of a photo as another.

    So density is 1 on average, and coverage 1 - (n-1)...(n-k) / ((2n-1)...(2n-k)), Naeem et al.
    """
    n, k, results = 60, 3, []
    for seed in range(60):
        results.append(shares(prdc(draw(2 * seed, n), draw(2 * seed + 1, n), k)))
    means = np.mean(results, 0)
    errors = np.std(results, 0, ddof=1) / len(results) ** 0.5
    expected = 1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
    assert abs(means[2] - 1) < 3 * errors[2] and errors[2] < 0.03
    assert abs(means[3] - expected) < 3 * errors[3] and errors[3] < 0.01
    assert abs(means[0] - means[1]) < 3 * (errors[0] + errors[1])  # two names of one number


def test_what_each_number_sees():
    real, fresh = draw(6, 200), draw(7, 200)
    good = prdc(real, fresh)
    one_mode = prdc(real, fresh * 0.05)  # pretty, but all alike
    assert one_mode.precision > good.precision and one_mode.recall < 0.1 < good.recall
    assert one_mode.coverage < 0.9 * good.coverage and one_mode.density > 2
    bad = prdc(real, fresh * 4)  # diverse, but wrong
    assert bad.precision < 0.5 * good.precision and bad.recall > good.recall
    # One odd photo far away makes precision believe in everything on its side, density does not.
    odd = real.copy()
    odd[0] = 40
    strange = draw(8, 200) + 15
    assert prdc(odd, strange).precision == 1 and prdc(real, strange).precision == 0
    assert prdc(odd, strange).density < 0.25 and prdc(odd, strange).coverage < 0.01


def test_copies_shrink_the_balls():
    """Why `check_distinct` comes first: post-mortem 11 in these four numbers."""
    real, made = draw(9, 100), draw(10, 100)
    plain = prdc(real, made)
    copied = prdc(np.repeat(real, 2, 0), np.repeat(made, 2, 0))
    assert copied.precision < 0.95 * plain.precision and copied.recall < 0.95 * plain.recall


def test_impossible_sets_are_named():
    with pytest.raises(ValueError, match="30 real and 20 generated.*subsample.*to 20"):
        prdc(draw(1, 30), draw(2, 20))
    with pytest.raises(ValueError, match="k=5 with 5 images a side: give 1 to 4"):
        prdc(draw(1, 5), draw(2, 5))
    with pytest.raises(ValueError, match="real has width 6, generated 4"):
        prdc(draw(1, 9), draw(2, 9, 4))
    with pytest.raises(ValueError, match="generated holds values that are no numbers"):
        prdc(draw(1, 9), draw(2, 9) * np.nan)
