"""KID is unbiased, and its jackknife error is the spread one would see over repetitions."""

from __future__ import annotations

import numpy as np
import pytest

from messi_lib.evaluation import kernel
from messi_lib.evaluation.kernel import kid


def draw(seed: int, n: int, d: int = 12, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) * 0.8 + shift


def by_the_book(a, b) -> float:
    """Gretton et al. 2012, eq. 3, pair by pair."""
    d = a.shape[1]

    def k(x, y):
        return (x @ y / d + 1) ** 3

    n, m = len(a), len(b)
    within_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


def test_equals_the_definition():
    a, b = draw(1, 9), draw(2, 7, shift=0.3)
    assert kid(a, b)[0] == pytest.approx(by_the_book(a, b), rel=1e-12)


def test_error_is_the_leave_one_out_jackknife():
    a, b = draw(3, 8), draw(4, 6, shift=0.2)
    without_a = [by_the_book(np.delete(a, i, 0), b) for i in range(8)]
    without_b = [by_the_book(a, np.delete(b, i, 0)) for i in range(6)]
    variance = 7 * np.var(without_a) + 5 * np.var(without_b)
    assert kid(a, b)[1] == pytest.approx(variance**0.5, rel=1e-10)


def test_blocks_do_not_change_the_result(monkeypatch):
    a, b = draw(5, 23), draw(6, 31, shift=0.1)
    whole = kid(a, b)
    monkeypatch.setattr(kernel, "BLOCK", 5)
    assert kid(a, b) == pytest.approx(whole, rel=1e-12)


def test_mean_over_null_draws_is_zero():
    values = np.array([kid(draw(2 * s, 40), draw(2 * s + 1, 30))[0] for s in range(100)])
    assert abs(values.mean()) < 3 * values.std(ddof=1) / 10
    assert (values < 0).sum() > 20  # an unbiased estimate of zero is often negative


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_error_fits_the_spread_over_repetitions(shift):
    results = np.array([kid(draw(2 * s, 60), draw(2 * s + 1, 60, shift=shift)) for s in range(80)])
    spread, error = results[:, 0].std(ddof=1), results[:, 1].mean()
    assert spread / 2 < error < 2 * spread


def test_a_difference_is_seen():
    value, error = kid(draw(1, 80), draw(2, 80, shift=0.5))
    assert value > 5 * error


def test_too_few_images_are_named():
    with pytest.raises(ValueError, match=r"features_a holds 2 image\(s\): at least 3"):
        kid(draw(1, 2), draw(2, 5))
