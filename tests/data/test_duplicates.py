"""Duplicates: a changed copy of a photo is found however it was changed, another scene is not."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import messi_lib
from messi_lib.data.duplicates import (
    DUPLICATE,
    RELATED,
    Pair,
    compare,
    find_duplicates,
    group,
    keep_best,
)
from messi_lib.data.fingerprints import fingerprint, perceptual_hash, small_grey
from messi_lib.data.pitch import subject_scene
from messi_lib.images import load_photo

REAL = Path(messi_lib.__file__).parents[1].parent / "shared" / "data" / "messi_photos"


def encoded(pixels: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def brightened(pixels: np.ndarray) -> np.ndarray:
    return np.clip(pixels * 1.2 + 12, 0, 255).astype(np.uint8)


def spoiled(pixels: np.ndarray) -> np.ndarray:
    """Three quarters of each side, mirrored, smaller, brighter and re-encoded."""
    height, width = pixels.shape[:2]
    part = pixels[height // 8 : height // 8 * 7, width // 8 : width // 8 * 7]
    small = cv2.resize(part[:, ::-1], None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    return encoded(brightened(small), 75)


CHANGES = {
    "re-encoded": lambda p: encoded(p, 60),
    "smaller": lambda p: cv2.resize(p, (170, 170), interpolation=cv2.INTER_AREA),
    "larger": lambda p: cv2.resize(p, None, fx=1.6, fy=1.6, interpolation=cv2.INTER_CUBIC),
    "mirrored": lambda p: np.ascontiguousarray(p[:, ::-1]),
    "cropped": lambda p: p[40:264, 60:284],  # 70% of the side
    "brightened": brightened,
    "all of it": lambda p: spoiled(p),
}


@pytest.fixture(scope="module")
def scenes():
    return [subject_scene(3, index, 320).image for index in range(6)]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(scenes, change):
    for scene in scenes[:3]:
        original, copy = fingerprint(scene), fingerprint(CHANGES[change](scene))
        pairs = find_duplicates([original, copy])
        assert [(p.first, p.second, p.level) for p in pairs] == [(0, 1, DUPLICATE)]
        assert pairs[0].mirrored == (change in ("mirrored", "all of it"))
        wanted = {"cropped": 1 / 0.7, "all of it": 4 / 3}.get(change, 1.0)
        assert pairs[0].scale == pytest.approx(wanted, rel=0.03)
        back = find_duplicates([copy, original])
        assert [p.level for p in back] == [DUPLICATE]


def test_different_scenes_are_not_pairs(scenes):
    assert find_duplicates([fingerprint(scene) for scene in scenes]) == []


def test_a_moved_subject_before_the_same_ground_is_related_and_no_duplicate():
    random = np.random.default_rng(1)
    ground = cv2.resize(random.integers(0, 256, (40, 40, 3), np.uint8), (320, 320))
    photos = []
    for left in (40, 170):
        photo = ground.copy()
        figure = cv2.resize(random.integers(0, 256, (20, 10, 3), np.uint8), (80, 170))
        photo[120:290, left : left + 80] = figure
        photos.append(fingerprint(photo))
    (pair,) = find_duplicates(photos)
    assert pair.level == RELATED and pair.spots >= 12


def test_equal_bytes_are_paired_without_looking(scenes):
    prints = [fingerprint(scenes[0], "a"), fingerprint(scenes[1], "b"), fingerprint(scenes[0], "a")]
    (pair,) = find_duplicates(prints)
    assert (pair.first, pair.second, pair.level) == (0, 2, DUPLICATE)


def test_photos_without_features():
    """SIFT finds nothing in them, so only the hash and the pixels can tell."""
    black = np.zeros((60, 80, 3), np.uint8)
    ramp = np.tile(np.linspace(0, 255, 320, dtype=np.uint8)[None, :, None], (240, 1, 3))
    prints = [fingerprint(photo) for photo in (black, ramp, black[:30, :40], 255 - ramp)]
    assert len(prints[0].points) == 0
    found = {(p.first, p.second): p for p in find_duplicates(prints)}
    assert found[0, 2].level == DUPLICATE  # both black
    assert found[1, 3].mirrored  # the inverted ramp is the mirrored one
    assert found.keys() == {(0, 2), (1, 3)}
    for shape in ((1, 1), (1, 500), (500, 1)):
        tiny = fingerprint(np.zeros((*shape, 3), np.uint8))
        assert max(tiny.grey.shape) == 320 and min(tiny.grey.shape) >= 8
        assert compare(tiny, prints[1]) is None
    assert find_duplicates([]) == [] == find_duplicates(prints[:1])


def test_a_descriptor_is_mirrored_by_reordering(scenes):
    """The reordered descriptors are those that SIFT finds in the mirrored photo."""
    here = fingerprint(scenes[0])
    there = fingerprint(np.ascontiguousarray(scenes[0][:, ::-1]))
    alike = there.unit_descriptors() @ here.unit_descriptors(mirrored=True).T
    assert np.median(alike.max(1)) > 0.99
    nearest = alike.argmax(1)
    distance = np.linalg.norm(there.points - here.mirrored_points()[nearest], axis=1)
    assert np.median(distance) < 1
    assert np.median((there.unit_descriptors() @ here.unit_descriptors().T).max(1)) < 0.95
    assert np.allclose(np.linalg.norm(here.unit_descriptors(), axis=1), 1, atol=1e-5)


def test_the_hash_survives_what_leaves_the_picture_as_it_is(scenes):
    def bits(a, b):
        one, other = (perceptual_hash(small_grey(pixels)) for pixels in (a, b))
        return int(np.bitwise_count(one ^ other))

    for change in ("re-encoded", "smaller", "larger", "brightened"):
        assert bits(scenes[0], CHANGES[change](scenes[0])) <= 8, change
    assert min(bits(scenes[0], other) for other in scenes[1:]) > 8
    assert fingerprint(scenes[0]).hashes[1] == fingerprint(scenes[0][:, ::-1].copy()).hashes[0]


# --- what is kept, and what stays together ------------------------------------------------------


def test_the_best_of_a_shot_is_kept():
    pairs = [Pair(0, 1, DUPLICATE), Pair(1, 2, DUPLICATE), Pair(2, 3, RELATED)]
    assert keep_best([1, 5, 2, 9], pairs) == {0: 1, 2: 1}
    assert keep_best([5, 1, 4, 9], pairs) == {1: 0}  # 2 shows nothing of 0: it stays
    assert keep_best([3, 3, 3, 3], pairs[:1]) == {1: 0}
    assert keep_best([3, 3, 3, 3], pairs[:1], sizes=[10, 20, 0, 0]) == {0: 1}
    assert keep_best([4, 3, 3, 3], pairs[:1], sizes=[10, 20, 0, 0]) == {1: 0}
    assert keep_best([], []) == {}


def test_every_copy_of_a_file_goes_with_it(scenes):
    """The better version is a duplicate of each of the equal files, not of the first alone."""
    small = CHANGES["smaller"](scenes[0])
    files = [(small, "a"), (scenes[0], "b"), (small, "a"), (scenes[1], "c"), (small, "a")]
    pairs = find_duplicates([fingerprint(pixels, content) for pixels, content in files])
    assert keep_best([1, 4, 1, 4, 1], pairs) == {0: 1, 2: 1, 4: 1}
    assert keep_best([4, 1, 4, 4, 4], pairs) == {1: 0, 2: 0, 4: 0}


def test_a_crop_goes_unless_it_is_much_better():
    crop_of = Pair(0, 1, DUPLICATE, scale=0.5)  # 0 is twice as close
    assert keep_best([100, 60], [crop_of]) == {0: 1}
    assert keep_best([100, 40], [crop_of]) == {1: 0}
    assert keep_best([100, 60], [Pair(0, 1, DUPLICATE, scale=2.0)]) == {1: 0}
    assert keep_best([-1, -1], [crop_of]) == {1: 0}


links = st.lists(
    st.builds(
        Pair,
        first=st.integers(0, 5),
        second=st.integers(6, 11),
        level=st.sampled_from([DUPLICATE, RELATED]),
        spots=st.integers(0, 99),
        scale=st.sampled_from([0.3, 1.0, 3.0]),
    ),
    max_size=25,
)


@given(links, st.lists(st.integers(-1, 9), min_size=12, max_size=12))
def test_what_is_dropped_has_a_kept_duplicate_and_no_two_kept_are_duplicates(pairs, scores):
    dropped = keep_best(scores, pairs)
    same = {frozenset((p.first, p.second)) for p in pairs if p.level == DUPLICATE}
    for worse, better in dropped.items():
        assert better not in dropped and frozenset((worse, better)) in same
    for pair in same:
        assert pair & dropped.keys()


@given(links, st.integers(1, 12))
def test_groups_hold_duplicates_together_and_are_bounded(pairs, largest):
    labels, given_up = group(12, pairs, largest)
    assert all(labels[label] == label <= number for number, label in enumerate(labels))
    for pair in pairs:
        together = labels[pair.first] == labels[pair.second]
        assert together or (pair.level == RELATED and pair in given_up)
    if all(pair.level == RELATED for pair in pairs):
        assert max(labels.count(label) for label in labels) <= largest
    free, none = group(12, pairs)
    assert none == []
    assert all(free[pair.first] == free[pair.second] for pair in pairs)


def test_the_strongest_links_are_followed_first():
    chain = [Pair(i, i + 1, RELATED, spots=10 + i) for i in range(5)]
    labels, given_up = group(6, chain, largest=3)
    assert labels == [0, 0, 0, 3, 3, 3] and given_up == [chain[2]]


@pytest.mark.skipif(not REAL.exists(), reason="shared/data/messi_photos is absent")
def test_real_photos_and_their_copies():
    photos = [load_photo(path).pixels for path in sorted(REAL.glob("*.jpg"))[:12]]
    prints = [fingerprint(photo) for photo in photos]
    before = {(p.first, p.second) for p in find_duplicates(prints)}
    copies = [fingerprint(spoiled(p)) for p in photos[:4]]
    found = {(p.first, p.second): p.level for p in find_duplicates(prints + copies)}
    assert all(found.get((i, 12 + i)) == DUPLICATE for i in range(4))
    assert before <= found.keys()
