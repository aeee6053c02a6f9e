"""The Frechet distance equals the reference for any n and d, and is never NaN or negative."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_fid import fid_score

from messi_lib.evaluation.features import extract
from messi_lib.evaluation.frechet import check_distinct, frechet_distance, frechet_jackknife
from messi_lib.evaluation.kernel import kid


def gaussian(seed: int, n: int, d: int, decay: float = 0.0, shift: float = 0.0) -> np.ndarray:
    """Features like Inception's: positive, with a spectrum that falls like i^-decay."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(d).standard_normal((d, d)) / d**0.5
    spectrum = np.arange(1, d + 1) ** -decay
    return np.maximum(generator.standard_normal((n, d)) * spectrum @ mixing + shift, 0)


def reference(monkeypatch, a, b) -> float:
    """pytorch-fid's own algebra; SciPy 1.18 removed the `disp` argument that it passes."""
    monkeypatch.setattr(fid_score.linalg, "sqrtm", lambda matrix, disp=True: (ROOT(matrix), None))
    statistics = [(x.mean(0), np.cov(x, rowvar=False)) for x in (a, b)]
    return float(fid_score.calculate_frechet_distance(*statistics[0], *statistics[1]))


ROOT = scipy.linalg.sqrtm


@pytest.mark.parametrize("decay", [0.0, 1.0])
@pytest.mark.parametrize("n, m, d", [(20, 20, 64), (30, 45, 64), (64, 50, 64)])
def test_equals_pytorch_fid_with_fewer_images_than_features(monkeypatch, n, m, d, decay):
    a, b = gaussian(1, n, d, decay, 0.2), gaussian(2, m, d, decay, 0.3)
    assert frechet_distance(a, b) == pytest.approx(reference(monkeypatch, a, b), rel=1e-5)


@pytest.mark.parametrize("decay", [0.0, 1.0])
@pytest.mark.parametrize("n, m, d", [(200, 300, 24), (400, 100, 64)])
def test_equals_pytorch_fid_with_more_images_than_features(monkeypatch, n, m, d, decay):
    a, b = gaussian(3, n, d, decay, 0.1), gaussian(4, m, d, decay, 0.4)
    assert frechet_distance(a, b) == pytest.approx(reference(monkeypatch, a, b), rel=1e-9)


def test_few_images_against_many(monkeypatch):
    a, b = gaussian(5, 20, 64, 0.5, 0.1), gaussian(6, 300, 64, 0.5, 0.1)
    assert frechet_distance(a, b) == pytest.approx(reference(monkeypatch, a, b), rel=1e-5)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)


@pytest.mark.slow
def test_equals_pytorch_fid_at_the_width_of_inception(monkeypatch):
    a, b = gaussian(7, 200, 2048, 0.5, 0.1), gaussian(8, 200, 2048, 0.5, 0.12)
    assert frechet_distance(a, b) == pytest.approx(reference(monkeypatch, a, b), rel=1e-5)


@pytest.mark.filterwarnings("ignore:Matrix is singular")
def test_equals_pytorch_fid_when_badly_conditioned(monkeypatch):
    """Variances over sixteen orders of magnitude, and a dead feature."""
    a, b = gaussian(13, 300, 24, 6.0), gaussian(14, 300, 24, 6.0, 1e-3)
    a[:, 5], b[:, 5] = 0, 0
    value = frechet_distance(a, b)
    assert value > 0 and value == pytest.approx(reference(monkeypatch, a, b), rel=1e-5)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_number():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for n, m, d in ((40, 30, 64), (200, 100, 24)):
        a, b = gaussian(1, n, d, 0.5, 0.1), gaussian(2, m, d, 0.5, 0.2)
        wanted = frechet_jackknife(a, b)
        found = frechet_jackknife(torch.from_numpy(a).cuda(), torch.from_numpy(b).cuda())
        assert found == pytest.approx(wanted, rel=1e-6)


# --- its standard error -------------------------------------------------------------------------


def left_out_one_by_one(a: np.ndarray, b: np.ndarray, groups: int) -> float:
    """The jackknife error by its definition: every distance computed anew."""
    variance = 0.0
    for split, other in ((a, b), (b, a)):
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0)).numpy()
        parts = np.array_split(order, min(groups, len(split)))
        values = [frechet_distance(np.delete(split, part, 0), other) for part in parts]
        variance += (len(parts) - 1) * np.var(values)
    return variance**0.5


@pytest.mark.parametrize("groups", [2, 12])
@pytest.mark.parametrize(
    "n, m, d", [(40, 40, 64), (30, 45, 64), (200, 150, 24), (20, 150, 64), (150, 20, 64), (5, 4, 3)]
)
def test_error_is_that_of_the_definition(n, m, d, groups):
    a, b = gaussian(1, n, d, 0.5, 50.1), gaussian(2, m, d, 0.5, 50.2)  # far from zero
    value, error = frechet_jackknife(a, b, groups)
    assert value == pytest.approx(frechet_distance(a, b), rel=1e-9)
    assert error == pytest.approx(left_out_one_by_one(a, b, groups), rel=1e-5)


@pytest.mark.parametrize("n, m, d", [(60, 60, 96), (150, 90, 16)])
def test_error_fits_the_spread_over_repetitions(n, m, d):
    results = []
    for seed in range(40):
        a, b = gaussian(2 * seed, n, d, 0.5), gaussian(2 * seed + 1, m, d, 0.5, 0.2)
        results.append(frechet_jackknife(a, b))
    spread, error = np.std(results, 0, ddof=1)[0], np.mean(results, 0)[1]
    assert 0.6 * spread < error < 2 * spread


def test_bootstrap_shifts_the_distance_and_the_jackknife_does_not():
    """Drawing with replacement fills the sets with copies: all its values lie above the truth."""
    a, b = gaussian(15, 80, 64, 0.5), gaussian(16, 80, 64, 0.5, 0.1)
    value, error = frechet_jackknife(a, b)
    generator = np.random.default_rng(1)
    draws = [
        frechet_distance(a[generator.integers(0, 80, 80)], b[generator.integers(0, 80, 80)])
        for _ in range(40)
    ]
    assert min(draws) > value and np.mean(draws) > value + 3 * error


def test_error_needs_something_to_leave_out():
    good = gaussian(1, 6, 4)
    with pytest.raises(ValueError, match="groups=1: at least 2"):
        frechet_jackknife(good, good, groups=1)
    with pytest.raises(ValueError, match=r"features_b holds 2 image\(s\): at least 3"):
        frechet_jackknife(good, good[:2])
    value, error = frechet_jackknife(good, good)
    assert value < 1e-9 and np.isfinite(error)


def test_known_distance_of_two_gaussians():
    """Features with exactly the moments (0, 1) and (3, 4): 3^2 + (1 - 2)^2 a dimension."""
    generator = np.random.default_rng(9)
    raw = generator.standard_normal((500, 8))
    white = raw - raw.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    assert frechet_distance(white, 2 * white + 3) == pytest.approx(8 * (9 + 1), rel=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 12), st.integers(0, 10**6))
def test_is_a_distance_for_any_shape(n, m, d, seed):
    generator = np.random.default_rng(seed)
    a, b = generator.standard_normal((n, d)), generator.standard_normal((m, d)) * 3
    value = frechet_distance(a, b)
    assert np.isfinite(value) and value >= 0
    assert 0 <= frechet_distance(a, a) < 1e-9
    assert frechet_distance(a[::-1], b) == pytest.approx(value, rel=1e-9, abs=1e-9)
    turn = np.linalg.qr(generator.standard_normal((d, d)))[0]
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(value, rel=1e-8, abs=1e-8)


def test_dead_and_tiny_features_stay_finite():
    dead = np.zeros((10, 16))
    dead[:, 0] = 1e-160
    assert frechet_distance(dead, dead) == 0
    assert frechet_distance(dead, dead + 2) == pytest.approx(16 * 4)


def test_tensors_and_arrays_agree():
    a, b = gaussian(1, 12, 8), gaussian(2, 14, 8)
    assert frechet_distance(torch.from_numpy(a), torch.from_numpy(b)) == frechet_distance(a, b)
    single = frechet_distance(a.astype(np.float32), b.astype(np.float32))
    assert single == pytest.approx(frechet_distance(a, b), rel=1e-5)


def test_impossible_features_are_named():
    good = gaussian(1, 5, 4)
    with pytest.raises(ValueError, match=r"features_b holds 1 image\(s\): at least 2"):
        frechet_distance(good, good[:1])
    with pytest.raises(ValueError, match="width 4, features_b 3"):
        frechet_distance(good, good[:, :3])
    with pytest.raises(ValueError, match=r"features_a has shape \(4,\)"):
        frechet_distance(good[0], good)
    with pytest.raises(ValueError, match="features_b holds values that are no numbers"):
        frechet_distance(good, np.where(np.eye(5, 4) > 0, np.nan, good))


def test_duplication_hides_from_fid_but_breaks_kid():
    """Post-mortem 11: copies to reach a wanted number do not move FID, and shift KID."""
    a, b = gaussian(11, 60, 96, 0.5, 0.1), gaussian(12, 60, 96, 0.5, 0.1)
    plain = frechet_distance(a, b)
    copied = frechet_distance(np.repeat(a, 3, 0), np.repeat(b, 3, 0))
    assert copied == pytest.approx(plain, rel=0.03)
    fresh = frechet_distance(gaussian(11, 180, 96, 0.5, 0.1), gaussian(12, 180, 96, 0.5, 0.1))
    assert fresh < 0.6 * plain  # what three times as many real images do
    pairs = [(gaussian(20 + s, 60, 96, 0.5), gaussian(60 + s, 60, 96, 0.5)) for s in range(20)]
    honest = np.array([kid(x, y)[0] for x, y in pairs])
    broken = np.array([kid(np.repeat(x, 3, 0), np.repeat(y, 3, 0))[0] for x, y in pairs])
    error = honest.std(ddof=1) / len(pairs) ** 0.5
    assert abs(honest.mean()) < 3 * error  # two samples of one source: zero
    assert broken.mean() > 5 * error
    assert (broken > honest).all()


def test_copies_are_refused():
    images = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    check_distinct(images)
    with pytest.raises(ValueError, match="2 of 8 images are copies.*image 1 and image 6"):
        check_distinct(np.concatenate([images, images[1:3]]))
    with pytest.raises(ValueError, match="b.png and c.png"):
        check_distinct([images[0], images[1], images[1]], ["a.png", "b.png", "c.png"])


def test_one_changed_pixel_is_another_image():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[1, 2, 2, 0] = 1
    check_distinct(images)
    assert frechet_distance(extract(images), extract(images)) == pytest.approx(0, abs=1e-9)
