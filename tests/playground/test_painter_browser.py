"""The painter in a real browser: strokes of a real pointer, and of fingers."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from messi_lib.playground.painter import MaskPainter
from messi_lib.playground.viewer import ResultViewer
from playground.brush import brushed
from playground.painter_page import RADIUS, SIZE


@pytest.mark.parametrize("widget", [MaskPainter, ResultViewer])
def test_the_javascript_is_valid(widget):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node absent: the widgets were NOT checked for syntax errors")
    command = [node, "--input-type=module", "--check"]
    code = str(widget._esm)
    checked = subprocess.run(command, input=code, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr
    broken = subprocess.run(command, input=code + "}", capture_output=True, text=True, timeout=60)
    assert broken.returncode != 0, "node --check accepts anything here"


def test_one_stroke_is_one_message_with_exactly_the_painted_pixels(open_painter):
    opened = open_painter()
    opened.page.mouse.move(*opened.at(50, 40))
    opened.trail()
    opened.drag((50, 40), (150, 100), steps=60)
    assert opened.listen() == 1
    wanted = brushed(opened.trail(), RADIUS, SIZE)
    assert 1000 < (wanted > 0).sum() < 2500
    np.testing.assert_array_equal(opened.painter.hole, wanted > 0)
    np.testing.assert_array_equal(opened.drawn(), wanted)


def test_a_soft_brush_fades_and_a_hard_one_paints_over_it(open_painter):
    opened = open_painter()
    opened.page.get_by_label("Brush softness, %").fill("80")
    opened.page.mouse.move(*opened.at(60, 40))
    opened.trail()
    opened.drag((60, 40), (140, 40))
    assert opened.listen() == 1
    soft = brushed(opened.trail(), RADIUS, SIZE, 0.8)
    assert len(np.unique(soft)) > 10
    np.testing.assert_array_equal(opened.ink(), soft)
    np.testing.assert_array_equal(opened.drawn(), soft)
    np.testing.assert_array_equal(np.rint(opened.painter.strength * 255), soft)
    opened.page.get_by_label("Brush softness, %").fill("0")
    opened.drag((60, 40), (140, 40))
    assert opened.listen() == 1
    np.testing.assert_array_equal(
        opened.ink(), np.maximum(soft, brushed(opened.trail(), RADIUS, SIZE))
    )


def test_the_lasso_fills_what_it_encloses(open_painter):
    opened = open_painter()
    opened.canvas.focus()
    opened.press("l")
    opened.page.mouse.move(*opened.at(40, 30))
    opened.page.mouse.down()
    for corner in ((140, 30), (140, 110), (40, 110)):
        opened.page.mouse.move(*opened.at(*corner), steps=5)
    opened.page.mouse.up()
    assert opened.listen() == 1
    box = np.zeros(SIZE, bool)
    box[30:110, 40:140] = True
    assert (opened.painter.hole != box).sum() <= 2 * (80 + 100), "at most the edge differs"
    assert opened.painter.hole[32:108, 42:138].all() and not opened.painter.hole[:28].any()
    opened.press("Escape")
    opened.page.mouse.move(*opened.at(60, 50))
    opened.page.mouse.down(button="right")  # takes a piece out of it
    for corner in ((120, 50), (120, 90), (60, 90)):
        opened.page.mouse.move(*opened.at(*corner), steps=5)
    opened.page.mouse.up(button="right")
    assert opened.listen() == 1
    assert not opened.painter.hole[53:87, 63:117].any() and opened.painter.hole[35, 45]


def test_a_lasso_that_crosses_itself_has_no_gaps(open_painter):
    opened = open_painter()
    opened.canvas.focus()
    opened.press("l")
    opened.page.mouse.move(*opened.at(40, 30))
    opened.page.mouse.down()
    for corner in ((140, 30), (140, 110), (40, 110)) * 2:  # twice around
        opened.page.mouse.move(*opened.at(*corner), steps=3)
    opened.page.mouse.up()
    opened.listen()
    assert opened.painter.hole[35:105, 45:135].all()


def test_fill_fills_an_enclosed_area_and_the_right_button_empties_one(open_painter):
    opened = open_painter()
    ring = np.zeros(SIZE, bool)
    ring[20:100, 30:130] = True
    ring[30:90, 40:120] = False
    opened.painter.hole = ring
    opened.tell("ink")
    opened.canvas.focus()
    opened.press("f")
    opened.page.mouse.click(*opened.at(80, 60))
    assert opened.listen() == 1
    full = ring.copy()
    full[30:90, 40:120] = True
    np.testing.assert_array_equal(opened.painter.hole, full)
    opened.page.mouse.click(*opened.at(80, 60))
    assert opened.listen() == 0, "it is full already"
    opened.page.mouse.click(*opened.at(80, 60), button="right")
    assert opened.listen() == 1
    assert not opened.painter.hole.any()


def test_strokes_on_an_enlarged_and_moved_photo_land_where_they_are_seen(open_painter):
    opened = open_painter()
    x, y = opened.at(100, 75)
    opened.page.mouse.move(x, y)
    opened.page.keyboard.down("Control")
    opened.page.mouse.wheel(0, -600)
    opened.page.keyboard.up("Control")
    opened.page.mouse.click(x, y)  # the place under the pointer stayed there
    assert opened.listen() == 1
    centre = np.argwhere(opened.painter.hole).mean(0) + 0.5
    assert np.abs(centre - (75, 100)).max() < 0.5
    assert opened.page.locator("canvas.messi-ink").bounding_box()["width"] > 5 * opened.box["width"]
    opened.press("h")
    opened.page.mouse.down()
    opened.page.mouse.move(x - 90, y, steps=4)
    opened.page.mouse.up()
    assert opened.listen() == 0, "moving is not painting"
    opened.press("Delete b")
    opened.listen()
    opened.trail()
    opened.page.mouse.click(x, y)
    opened.listen()
    moved = np.argwhere(opened.painter.hole).mean(0) + 0.5
    assert np.abs(moved - opened.trail()[-1][::-1]).max() < 0.6 and moved[1] > centre[1] + 3
    opened.press("0")
    assert opened.canvas.bounding_box() == opened.box
    assert opened.page.get_by_label("Zoom out (-)").is_disabled()


def test_eraser_undo_and_redo(open_painter):
    opened = open_painter()
    opened.drag((40, 75), (160, 75))
    assert opened.listen() == 1
    painted = opened.painter.hole
    opened.page.keyboard.press("e")
    opened.drag((100, 40), (100, 110))
    assert opened.listen() == 1
    erased = opened.painter.hole
    np.testing.assert_array_equal(erased & ~painted, False)
    assert not erased[75, 100] and erased[75, 50] and erased[75, 150]
    opened.page.keyboard.press("Control+z")
    assert opened.listen() == 1
    np.testing.assert_array_equal(opened.painter.hole, painted)
    opened.page.keyboard.press("Control+Shift+Z")
    assert opened.listen() == 1
    np.testing.assert_array_equal(opened.painter.hole, erased)
    opened.page.get_by_label("Undo (Ctrl+Z)").click()
    opened.page.get_by_label("Undo (Ctrl+Z)").click()
    assert opened.listen() == 2
    assert not opened.painter.hole.any()
    assert opened.page.get_by_label("Undo (Ctrl+Z)").is_disabled()


def test_right_button_erases_and_strokes_that_change_nothing_send_nothing(open_painter):
    opened = open_painter()
    opened.drag((40, 75), (160, 75), button="right")
    assert opened.listen() == 0
    opened.drag((40, 75), (160, 75))
    opened.drag((40, 75), (160, 75), button="right")
    assert opened.listen() == 2
    assert not opened.painter.hole.any()


def test_invert_and_clear(open_painter):
    opened = open_painter()
    opened.drag((40, 75), (160, 75))
    opened.listen()
    painted = opened.painter.hole
    opened.page.get_by_label("Invert (I)").click()
    assert opened.listen() == 1
    np.testing.assert_array_equal(opened.painter.hole, ~painted)
    assert int.from_bytes(opened.painter.ink) % 2 ** (-SIZE[0] * SIZE[1] % 8) == 0
    share = f"{100 * (~painted).mean():.1f}"
    assert opened.page.get_by_role("status").text_content() == f"hole: {share} % of the photo"
    opened.canvas.focus()
    opened.page.keyboard.press("Delete")
    assert opened.listen() == 1
    assert not opened.painter.hole.any()


def test_a_stroke_that_leaves_the_photo_goes_on(open_painter):
    opened = open_painter()
    opened.drag((100, 75), (SIZE[1] + 60, 75))
    assert opened.listen() == 1
    assert opened.painter.hole[75, 100:].all()


def test_a_finger_paints_and_a_lost_finger_does_not(open_painter):
    opened = open_painter(has_touch=True, viewport={"width": 390, "height": 780})
    session = opened.page.context.new_cdp_session(opened.page)

    def touch(kind, *point):
        points = [dict(zip("xy", opened.at(*point)))] if point else []
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 50, 50)
    for x in range(60, 151, 10):
        touch("touchMove", x, 50)
    touch("touchEnd")
    assert opened.listen() == 1
    painted = opened.painter.hole
    assert painted[50, 50:150].all() and not painted[100].any()
    touch("touchStart", 50, 100)
    touch("touchMove", 150, 100)
    touch("touchCancel")
    assert opened.listen() == 0
    np.testing.assert_array_equal(opened.drawn() > 0, painted)


def test_two_fingers_zoom_and_paint_nothing(open_painter):
    opened = open_painter(has_touch=True, viewport={"width": 390, "height": 780})
    session = opened.page.context.new_cdp_session(opened.page)

    def touch(kind, *points):
        points = [{**dict(zip("xy", opened.at(*at))), "id": i} for i, at in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (90, 70))
    touch("touchMove", (92, 70))
    touch("touchStart", (92, 70), (110, 70))
    for k in range(1, 9):
        touch("touchMove", (92 - 4 * k, 70), (110 + 4 * k, 70))
    touch("touchEnd")
    assert opened.listen() == 0 and not opened.drawn().any()
    assert opened.canvas.bounding_box()["width"] > 2 * opened.box["width"]


def test_a_closed_view_lets_go_of_the_model(open_painter):
    opened = open_painter()
    assert opened.page.evaluate("listeners.size") == 1
    opened.page.evaluate("cleanup()")
    assert opened.page.evaluate("listeners.size") == 0
