"""The painter's Python side: what the browser sends, and the hole at the photo's resolution."""

from __future__ import annotations

import numpy as np
import pytest
import traitlets

from messi_lib.playground.painter import (
    MaskPainter,
    pack_ink,
    pack_region,
    unpack_ink,
    working_shape,
)
from messi_lib.segmentation.people import people_from

RNG = np.random.default_rng(0)


def region(height: int, width: int) -> np.ndarray:
    found = np.zeros((height, width), bool)
    found[height // 4 : height // 2, width // 3 : width // 2] = True
    return found


def browser_sends(painter: MaskPainter, bits: bytes) -> None:
    """A comm message's binary part reaches the widget as a memoryview."""
    painter.set_state({"ink": memoryview(bits)})


def test_a_stroke_arrives_as_a_memoryview():
    painter = MaskPainter(np.zeros((30, 41, 3), np.uint8))
    painted = RNG.random((30, 41)) > 0.5
    browser_sends(painter, pack_region(painted))
    assert isinstance(painter.ink, bytes)
    np.testing.assert_array_equal(painter.hole, painted)


def test_why_the_trait_is_cbytes():
    class Naive(MaskPainter):
        ink = traitlets.Bytes().tag(sync=True)

    naive = Naive(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(traitlets.TraitError):  # in a notebook nobody sees it: the hole stays empty
        browser_sends(naive, pack_region(np.ones((8, 8), bool)))
    assert not naive.hole.any()


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 16), (1, 30)])
def test_packing_loses_nothing(size):
    painted = RNG.random(size) > 0.5
    bits = pack_region(painted)
    assert len(bits) == -(-size[0] * size[1] // 8)
    assert pack_ink(painted * np.uint8(255)) == bits
    np.testing.assert_array_equal(unpack_ink(bits, *size), painted * np.uint8(255))


@pytest.mark.parametrize("size", [(7, 9), (1, 2), (16, 16)])
def test_soft_values_travel_as_they_are(size):
    ink = RNG.integers(0, 256, size, dtype=np.uint8)
    ink[0, 0] = 7
    assert pack_ink(ink) == ink.tobytes()
    np.testing.assert_array_equal(unpack_ink(pack_ink(ink), *size), ink)


def test_bits_run_row_by_row_from_the_most_significant():
    painted = np.zeros((2, 8), bool)
    painted[0, 0] = painted[1, 7] = True
    assert pack_region(painted) == bytes([0b10000000, 0b00000001])


def test_a_hole_set_in_python_is_what_the_browser_gets():
    painter = MaskPainter(np.zeros((30, 41, 3), np.uint8))
    sent = []
    painter.observe(lambda change: sent.append(change["new"]), "ink")
    painter.hole = region(30, 41)
    assert sent == [pack_region(region(30, 41))]
    np.testing.assert_array_equal(painter.hole, region(30, 41))


def test_messages_stay_small_for_a_photo_of_24_megapixels():
    painter = MaskPainter(np.zeros((4000, 6000, 3), np.uint8))
    assert (painter.width, painter.height) == (1024, 683)
    assert len(painter.ink) < 100_000
    assert painter.hole.shape == (4000, 6000)


def test_large_photos_keep_exact_edges_where_nobody_painted():
    painter = MaskPainter(np.zeros((1500, 2100, 3), np.uint8))
    person = region(1500, 2100)
    person[1000, 1000] = True  # one pixel: max-pooled, so that it stays visible
    painter.hole = person
    np.testing.assert_array_equal(painter.hole, person)
    shown = unpack_ink(painter.ink, painter.height, painter.width) > 0
    assert shown[1000 * painter.height // 1500, 1000 * painter.width // 2100]
    painted = shown.copy()
    painted[:40, :50] = True
    browser_sends(painter, pack_region(painted))
    hole = painter.hole
    scale = 2100 / painter.width
    assert hole[: int(39 * scale), : int(49 * scale)].all()
    np.testing.assert_array_equal(hole[200:], person[200:])
    assert not hole[: int(41 * scale), int(51 * scale) + 1 :].any()
    browser_sends(painter, pack_region(shown))  # undo
    np.testing.assert_array_equal(painter.hole, person)


def test_erasing_a_large_region_leaves_nothing_under_the_eraser():
    painter = MaskPainter(np.zeros((1500, 2100, 3), np.uint8), region(1500, 2100))
    browser_sends(painter, pack_region(np.zeros((painter.height, painter.width), bool)))
    assert not painter.hole.any()


def test_soft_strokes_keep_their_strength():
    painter = MaskPainter(np.zeros((30, 41, 3), np.uint8))
    ink = RNG.integers(0, 256, (30, 41), dtype=np.uint8)
    browser_sends(painter, pack_ink(ink))
    np.testing.assert_array_equal(np.rint(painter.strength * 255), ink)
    np.testing.assert_array_equal(painter.hole, ink > 0)
    assert painter.strength.dtype == np.float32 and painter.strength.max() <= 1
    kept = painter.strength
    painter.hole = region(30, 41)
    assert set(np.unique(painter.strength)) == {0, 1}
    painter.strength = kept
    assert painter.ink == ink.tobytes()


def test_a_stroke_on_the_photo_before_is_ignored():
    painter = MaskPainter(np.zeros((30, 41, 3), np.uint8))
    late = pack_region(np.ones((30, 41), bool))
    painter.set_photo(np.zeros((20, 20, 3), np.uint8), region(20, 20))
    browser_sends(painter, late)
    np.testing.assert_array_equal(painter.hole, region(20, 20))


def test_the_hole_is_a_copy():
    painter = MaskPainter(np.zeros((20, 20, 3), np.uint8), region(20, 20))
    painter.hole[:] = True
    np.testing.assert_array_equal(painter.hole, region(20, 20))


def test_the_photo_travels_with_its_size_and_hole_in_one_message(monkeypatch):
    painter = MaskPainter()
    sent = []
    monkeypatch.setattr(painter, "send_state", lambda key=None: sent.append(set(key)))
    painter.set_photo(np.zeros((20, 30, 3), np.uint8), region(20, 30))
    assert sent == [{"photo_bytes", "ink", "width", "height"}]  # and no people: there were none


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((300, 400), (300, 400)),
        ((1024, 8), (1024, 8)),
        ((2048, 1024), (1024, 512)),
        ((1, 9000), (1, 1024)),
    ],
)
def test_working_shape(size, wanted):
    assert working_shape(*size) == wanted


def two_people() -> tuple[np.ndarray, list]:
    """A large photo with a large person and a small one."""
    person = np.zeros((1500, 2100), bool)
    person[101:700, 301:502] = person[333:444, 1001:1033] = True
    return person, people_from(person)


def test_a_click_leaves_a_person_and_another_takes_them_again():
    person, people = two_people()
    painter = MaskPainter(np.zeros((1500, 2100, 3), np.uint8), person)
    painter.people = people
    numbers = np.frombuffer(painter.people_bytes, np.uint8).reshape(painter.height, painter.width)
    assert set(np.unique(numbers)) == {0, 1, 2}
    painter._handle_custom_msg({"toggle": 2}, [])  # as the comm delivers it
    np.testing.assert_array_equal(painter.hole, people[0].region)
    painter._handle_custom_msg({"toggle": 2}, [])
    np.testing.assert_array_equal(painter.hole, person)  # exact, not at the copy's resolution


def test_taking_a_person_keeps_what_was_painted():
    person, people = two_people()
    painter = MaskPainter(np.zeros((1500, 2100, 3), np.uint8))
    painter.people = people
    ink = np.zeros((painter.height, painter.width), np.uint8)
    ink[600:640, 800:830] = 90
    browser_sends(painter, pack_ink(ink))
    painted = painter.strength
    painter.toggle(1)
    np.testing.assert_array_equal(painter.strength, np.maximum(painted, people[0].region))


def test_people_who_stay_keep_what_they_share_with_one_who_goes():
    a, b = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    a[5:50, 5:30], b[20:40, 25:45] = True, True
    people = [*people_from(a), *people_from(b)]
    painter = MaskPainter(np.zeros((60, 60, 3), np.uint8), a | b)
    painter.people = people
    painter.toggle(1)
    np.testing.assert_array_equal(painter.hole, b)


def test_clicks_that_mean_nobody_do_nothing():
    person, people = two_people()
    painter = MaskPainter(np.zeros((1500, 2100, 3), np.uint8), person)
    for content in ({"toggle": 1}, {"toggle": "1"}, {"toggle": -1}, {}):
        painter._handle_custom_msg(content, [])  # nobody was found yet
    painter.people = people
    for content in ({"toggle": 0}, {"toggle": 3}, {"toggle": None}):
        painter._handle_custom_msg(content, [])
    np.testing.assert_array_equal(painter.hole, person)
    with pytest.raises(ValueError, match="no person 3: 2 were found"):
        painter.toggle(3)
    with pytest.raises(ValueError, match="does not fit a photo"):
        painter.people = people_from(np.ones((3, 3), bool))


def test_another_photo_forgets_the_people():
    person, people = two_people()
    painter = MaskPainter(np.zeros((1500, 2100, 3), np.uint8), person)
    painter.people = people
    painter.set_photo(np.zeros((20, 20, 3), np.uint8))
    assert painter.people == () and painter.people_bytes == b""


@pytest.mark.parametrize(
    ("hole", "said"),
    [
        (np.zeros((20, 20), np.uint8), "hole is uint8: give bool"),
        (np.zeros((20, 21), bool), r"hole is \(20, 21\), the photo \(20, 20\)"),
    ],
)
def test_wrong_holes_are_refused_by_name(hole, said):
    painter = MaskPainter(np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(ValueError, match=said):
        painter.hole = hole
    assert not painter.hole.any()


def test_no_photo_yet():
    with pytest.raises(ValueError, match="set_photo"):
        MaskPainter().hole  # noqa: B018
    with pytest.raises(ValueError, match="set_photo"):
        MaskPainter().hole = np.zeros((3, 3), bool)
    with pytest.raises(ValueError, match="uint8"):
        MaskPainter(np.zeros((3, 3, 3), np.float32))
    with pytest.raises(ValueError, match="0 were found"):
        MaskPainter().toggle(1)


@pytest.mark.parametrize("strength", [np.full((20, 20), 1.5), np.zeros((20, 21))])
def test_wrong_strengths_are_refused(strength):
    painter = MaskPainter(np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(ValueError, match=r"give \(20, 20\) with values in \[0,1\]"):
        painter.strength = strength
