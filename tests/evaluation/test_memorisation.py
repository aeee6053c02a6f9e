"""The audit flags generators that copy, planted with known truth, and none of the honest ones."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from messi_lib.evaluation import memorisation
from messi_lib.evaluation.features import extract
from messi_lib.evaluation.memorisation import (
    audit,
    mann_whitney_z,
    pairs_sheet,
    pixel_vectors,
    wilson_interval,
)

SIZE = 32


def pictures(seed: int, n: int) -> np.ndarray:
    """Smooth random images, uint8 (n, 32, 32, 3): as unlike each other as photos."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 7, 7, 3), dtype=np.uint8)
    sized = [cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for image in coarse]
    return np.stack(sized)


def noisy(image: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 10, image.shape)
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


def jpeg(image: np.ndarray, seed: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=40 + seed % 20)
    return np.array(Image.open(stream))


def mirrored(image: np.ndarray, seed: int) -> np.ndarray:
    return image[:, ::-1]


def planted(images: np.ndarray, train: np.ndarray, share: float, seed: int, ways) -> np.ndarray:
    """`images` with that share of them replaced by altered training images, taken in turn."""
    chosen = np.random.default_rng(seed).permutation(len(train))[: round(share * len(images))]
    copies = [ways[k % len(ways)](train[i], seed + k) for k, i in enumerate(chosen)]
    return np.concatenate([images[len(copies) :], copies]) if copies else images


def noise(seed: list[int], counts: tuple[int, ...], d: int) -> list[np.ndarray]:
    """Independent sets of features from one source."""
    return [np.random.default_rng([*seed, k]).normal(size=(c, d)) for k, c in enumerate(counts)]


def judge(generated: np.ndarray, train: np.ndarray, holdout: np.ndarray, space="pixels"):
    if space == "pixels":
        sets = pixel_vectors(generated, SIZE)[0], *pixel_vectors(train, SIZE)
        return audit(sets[0], sets[1], pixel_vectors(holdout, SIZE)[0], space=space,
                     train_flipped=sets[2])  # fmt: skip
    sets = [extract(images, space) for images in (generated, train, holdout)]
    flipped = extract(train[:, :, ::-1].copy(), space)
    return audit(*sets, space=space, train_flipped=flipped)


@pytest.fixture(scope="module")
def photos() -> tuple[np.ndarray, np.ndarray]:
    """Training and holdout."""
    return pictures(1, 160), pictures(2, 60)


# --- known truth --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("space", ["pixels", "random-conv"])
def test_five_percent_of_copies_are_flagged_and_none_are_not(photos, space, seed):
    fresh = pictures(100 + seed, 200)
    honest = judge(fresh, *photos, space)
    assert not honest.flagged and honest.share_close == 0 and honest.close_low == 0
    copied = judge(planted(fresh, photos[0], 0.05, seed, [noisy, jpeg, mirrored]), *photos, space)
    assert copied.flagged and copied.space == space and copied.close_low > 0.01
    # Random layers see the noise on some copies more than the picture below it.
    assert copied.share_close == 0.05 if space == "pixels" else 0.03 <= copied.share_close <= 0.05
    # The rank test alone is blind to so few: the reason for the ratio.
    assert copied.z_u > -3 and copied.z_u < honest.z_u


@pytest.mark.parametrize("way", [noisy, jpeg, mirrored])
def test_each_way_of_copying_is_found(photos, way):
    images = planted(pictures(7, 100), photos[0], 0.05, 3, [way])
    result = judge(images, *photos)
    wanted = np.random.default_rng(3).permutation(160)[:5]
    pairs = {image: photo for image, photo, _, _ in result.closest(5)}
    assert pairs == dict(zip(range(95, 100), wanted)) and result.flagged


@pytest.mark.parametrize("n, m, h", [(3, 4, 2), (8, 10, 5), (20, 30, 10), (40, 60, 20)])
def test_no_false_alarm_with_few_images(n, m, h):
    for seed in range(50):
        draws = noise([seed], (n, m, h), 24)
        result = audit(*draws, space="noise")
        assert not result.flagged, (seed, result)
        assert np.isfinite([result.z_u, result.z_drawn, result.share_below]).all()


@pytest.mark.parametrize("d", [1, 2, 3])
def test_closeness_in_the_nature_of_the_images_is_no_copying(d):
    """In few dimensions chance alone makes d1 / d2 small: the holdout shows it and counts."""
    draws = noise([5, d], (400, 200, 200), d)
    result = audit(*draws, space="plane")
    assert result.close_low > 0.01 and result.holdout_close > 0.01
    assert not result.flagged


def test_a_blurred_generator_is_near_to_all_photos_and_no_copier(photos):
    """Z_U falls far below -3 for it, which is why it is not believed alone."""
    soft = np.stack([cv2.GaussianBlur(image, (0, 0), 3) for image in pictures(8, 150)])
    result = judge(soft, *photos)
    assert result.z_u < -5 and abs(result.z_drawn) < 3 and not result.flagged
    copies = np.stack([cv2.GaussianBlur(image, (0, 0), 4) for image in photos[0][:150]])
    result = judge(copies, *photos)
    assert result.share_close < 0.05  # too blurred for the ratio
    assert result.z_u < -5 and result.z_drawn > 5 and result.flagged


def test_other_honest_generators(photos):
    fresh = pictures(9, 120)
    collapsed = judge(np.repeat(fresh[:1], 120, 0), *photos)
    assert not collapsed.flagged and abs(collapsed.z_drawn) < 3
    assert not judge(noisy(fresh, 1), *photos).flagged
    photocopier = judge(photos[0], *photos)
    assert photocopier.flagged and photocopier.share_close == 1 and photocopier.share_below == 1
    assert (photocopier.nearest.distance == 0).all() and (photocopier.nearest.ratio == 0).all()


def test_share_below_is_five_percent_for_fresh_images():
    values = []
    for seed in range(40):
        draws = noise([seed], (300, 80, 60), 8)
        values.append(audit(*draws, space="noise").share_below)
    error = np.std(values, ddof=1) / len(values) ** 0.5
    assert abs(np.mean(values) - 0.05) < 3 * error and error < 0.01


def test_z_drawn_has_mean_zero_and_deviation_one_without_copies():
    """Also for images that all have the same few nearest photos, which are no independent draws."""
    values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        made, train, holdout = (rng.normal(size=(c, 10)) for c in (60, 50, 25))
        values.append(audit(0.2 * made, train, holdout, space="noise").z_drawn)
    assert abs(np.mean(values)) < 3 / 200**0.5 and 0.85 < np.std(values) < 1.15


# --- parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hits, n, low, high",
    [  # Newcombe 1998, table I (method 3), and Brown, Cai and DasGupta 2001 for the rare case
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_interval_of_the_literature(hits, n, low, high):
    assert wilson_interval(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_solves_its_equation():
    """Its ends are the shares p with |hits / n - p| = z * sqrt(p (1 - p) / n)."""
    for hits, n in ((3, 17), (1, 500), (54, 1087)):
        for p in wilson_interval(hits, n):
            assert abs(hits / n - p) == pytest.approx(1.959964 * (p * (1 - p) / n) ** 0.5, rel=1e-9)
    for hits, n in ((0, 0), (-1, 5), (6, 5)):
        with pytest.raises(ValueError, match=f"{hits} hits among {n} cases"):
            wilson_interval(hits, n)


def test_rank_test_equals_that_of_scipy_and_has_its_sign():
    rng = np.random.default_rng(1)
    for a, b in (
        (rng.normal(size=40), rng.normal(size=30) + 0.5),
        (rng.integers(0, 6, 50) * 1.0, rng.integers(0, 8, 35) * 1.0),  # ties
    ):
        value = mann_whitney_z(a, b)
        wanted = scipy.stats.mannwhitneyu(a, b, use_continuity=False, method="asymptotic")
        assert value < 0  # a is the smaller
        assert 2 * scipy.stats.norm.sf(abs(value)) == pytest.approx(wanted.pvalue, rel=1e-9)
        assert mann_whitney_z(b, a) == pytest.approx(-value, rel=1e-12)
    assert mann_whitney_z(np.ones(5), np.ones(4)) == 0


def test_nearest_is_that_of_the_differences(monkeypatch):
    rng = np.random.default_rng(2)
    made, train, flipped = (rng.normal(size=(c, 6)) + 300 for c in (25, 40, 40))
    monkeypatch.setattr(memorisation, "BLOCK", 7)
    result = audit(made, train, train[:9] + 1, space="noise", train_flipped=flipped)
    both = np.stack([np.linalg.norm(made[:, None] - side, axis=2) for side in (train, flipped)])
    distances = both.min(0)
    wanted = np.sort(distances, 1)
    assert (result.nearest.index == distances.argmin(1)).all()
    assert np.allclose(result.nearest.distance, wanted[:, 0], rtol=1e-4)  # 300 +- 1 in float32
    assert np.allclose(result.nearest.ratio, wanted[:, 0] / wanted[:, 1], rtol=1e-4)
    rows = result.closest(6)
    assert len(rows) == 6 and [row[3] for row in rows] == sorted(result.nearest.ratio)[:6]
    assert all(result.nearest.index[i] == j and result.nearest.distance[i] == d
               for i, j, d, _ in rows)  # fmt: skip
    assert len(result.closest(100)) == 25 and result.closest(0) == []


def test_copies_among_the_training_photos_give_a_number(photos):
    """An exact copy of a photo that is there twice: 0 / 0 is a copy, not NaN."""
    train = np.concatenate([photos[0][:20], photos[0][:1]])
    result = judge(photos[0][:2], train, photos[1])
    assert result.nearest.ratio.tolist() == [0, 0]


def test_pixel_vectors_are_of_one_scale_and_mirrored():
    images = pictures(3, 5)
    whole, flipped = pixel_vectors(images, 16)
    assert whole.shape == flipped.shape == (5, 3 * 16 * 16) and whole.dtype == np.float32
    assert -1 <= whole.min() < -0.5 and 0.5 < whole.max() <= 1
    assert np.allclose(pixel_vectors(images[:, :, ::-1], 16)[0], flipped, atol=1e-6)
    exact = pixel_vectors(images, SIZE)[0].reshape(5, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
    assert np.array_equal(np.rint((exact + 1) * 127.5), images)
    assert pixel_vectors(images[:0])[0].shape == (0, 3 * 64 * 64)


def test_sheet_shows_each_image_beside_its_photo(photos):
    made = pictures(4, 6)
    larger = np.repeat(np.repeat(photos[0][:8], 2, 1), 2, 2)  # photos of another size
    sheet = pairs_sheet(made, larger, [(2, 7, 0.1, 0.2), (0, 1, 0.2, 0.3), (5, 5, 0.3, 0.4)], 2)
    gap = SIZE // 8
    assert sheet.dtype == np.uint8 and sheet.shape == (2 * SIZE + 3 * gap, 4 * SIZE + 3 * gap, 3)
    assert np.array_equal(sheet[gap : gap + SIZE, gap : gap + SIZE], made[2])
    beside = sheet[gap : gap + SIZE, gap + SIZE : gap + 2 * SIZE].astype(int)
    assert np.abs(beside - photos[0][7]).mean() < 4
    left = 2 * gap + 2 * SIZE
    assert np.array_equal(sheet[gap : gap + SIZE, left : left + SIZE], made[0])
    assert (sheet[2 * gap + SIZE :, left:] == 255).all()  # no fourth pair


def test_what_cannot_be_audited_is_named(photos):
    values = np.random.default_rng(1).normal(size=(6, 4))
    with pytest.raises(ValueError, match="train holds 1 image.*second nearest"):
        audit(values, values[:1], values, space="x")
    with pytest.raises(ValueError, match=r"holdout holds 0 image\(s\)"):
        audit(values, values, values[:0], space="x")
    with pytest.raises(ValueError, match="generated has width 4, train 3"):
        audit(values, values[:, :3], values, space="x")
    with pytest.raises(ValueError, match="train holds 6 images, train_flipped 5"):
        audit(values, values, values, space="x", train_flipped=values[:5])
    with pytest.raises(ValueError, match="train_flipped has shape"):
        audit(values, values, values, space="x", train_flipped=values[0])
    with pytest.raises(ValueError, match="expected square images"):
        pixel_vectors(np.zeros((2, 8, 9, 3), np.uint8))
    with pytest.raises(ValueError, match="expected uint8"):
        pixel_vectors(np.zeros((2, 8, 8, 3)))
    with pytest.raises(ValueError, match="0 pairs in 4 columns"):
        pairs_sheet(photos[0], photos[0], [])
    with pytest.raises(ValueError, match="train: expected square images"):
        pairs_sheet(photos[0], photos[0][:, :5], [(0, 0, 0.0, 0.0)])
