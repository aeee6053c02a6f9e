"""The painter's Python side: what the browser sends, and the hole at the photo's resolution."""

from __future__ import annotations

import numpy as np
import pytest
import traitlets

from messi_lib.playground.painter import MaskPainter, pack_region, unpack_region, working_shape

RNG = np.random.default_rng(0)


def region(height: int, width: int) -> np.ndarray:
    found = np.zeros((height, width), bool)
    found[height // 4 : height // 2, width // 3 : width // 2] = True
    return found


def browser_sends(painter: MaskPainter, bits: bytes) -> None:
    """A comm message's binary part reaches the widget as a memoryview."""
    painter.set_state({"hole_bits": memoryview(bits)})


def test_a_stroke_arrives_as_a_memoryview():
    painter = MaskPainter(np.zeros((30, 41, 3), np.uint8))
    painted = RNG.random((30, 41)) > 0.5
    browser_sends(painter, pack_region(painted))
    assert isinstance(painter.hole_bits, bytes)
    np.testing.assert_array_equal(painter.hole, painted)


def test_why_the_trait_is_cbytes():
    class Naive(MaskPainter):
        hole_bits = traitlets.Bytes().tag(sync=True)

    naive = Naive(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(traitlets.TraitError):  # in a notebook nobody sees it: the hole stays empty
        browser_sends(naive, pack_region(np.ones((8, 8), bool)))
    assert not naive.hole.any()


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 16), (1, 30)])
def test_packing_loses_nothing(size):
    painted = RNG.random(size) > 0.5
    bits = pack_region(painted)
    assert len(bits) == -(-size[0] * size[1] // 8)
    np.testing.assert_array_equal(unpack_region(bits, *size), painted)


def test_bits_run_row_by_row_from_the_most_significant():
    painted = np.zeros((2, 8), bool)
    painted[0, 0] = painted[1, 7] = True
    assert pack_region(painted) == bytes([0b10000000, 0b00000001])


def test_a_hole_set_in_python_is_what_the_browser_gets():
    painter = MaskPainter(np.zeros((30, 41, 3), np.uint8))
    sent = []
    painter.observe(lambda change: sent.append(change["new"]), "hole_bits")
    painter.hole = region(30, 41)
    assert sent == [pack_region(region(30, 41))]
    np.testing.assert_array_equal(painter.hole, region(30, 41))


def test_messages_stay_small_for_a_photo_of_24_megapixels():
    painter = MaskPainter(np.zeros((4000, 6000, 3), np.uint8))
    assert (painter.width, painter.height) == (1024, 683)
    assert len(painter.hole_bits) < 100_000
    assert painter.hole.shape == (4000, 6000)


def test_large_photos_keep_exact_edges_where_nobody_painted():
    painter = MaskPainter(np.zeros((1500, 2100, 3), np.uint8))
    person = region(1500, 2100)
    person[1000, 1000] = True  # one pixel: max-pooled, so that it stays visible
    painter.hole = person
    np.testing.assert_array_equal(painter.hole, person)
    shown = unpack_region(painter.hole_bits, painter.height, painter.width)
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
    assert sent == [{"photo_bytes", "hole_bits", "width", "height"}]


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
