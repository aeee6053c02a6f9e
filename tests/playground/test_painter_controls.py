"""The painter in a real browser: people, keys, names, and what comes from Python."""

from __future__ import annotations

import numpy as np

from messi_lib.segmentation.people import people_from
from playground.brush import brushed
from playground.painter_page import RADIUS, SIZE


def found_people(opened) -> list:
    """Two people: a tall one on the left, a small one on the right."""
    region = np.zeros(SIZE, bool)
    region[20:120, 30:60] = region[60:100, 150:165] = True
    opened.painter.people = people_from(region)
    opened.painter.hole = region
    opened.tell("people_bytes", "ink")
    return opened.painter.people


def test_a_click_on_a_person_and_a_number_ask_python_to_toggle_them(open_painter):
    opened = open_painter()
    people = found_people(opened)
    assert opened.page.get_by_label("Click a person").get_attribute("aria-pressed") == "true"
    opened.page.mouse.click(*opened.at(45, 70))
    opened.page.mouse.click(*opened.at(100, 70))  # nobody stands there
    opened.press("2 3")
    sent = opened.page.evaluate("sent()")
    assert sent == [{"toggle": 1}, {"toggle": 2}]
    assert opened.listen() == 0
    opened.painter._handle_custom_msg(sent[0], [])
    opened.tell("ink")
    np.testing.assert_array_equal(opened.drawn() > 0, people[1].region)
    opened.press("Control+z")
    assert opened.listen() == 1
    assert opened.painter.hole[70, 45]


def test_without_people_there_is_no_tool_for_them(open_painter):
    opened = open_painter()
    button = opened.page.get_by_label("Click a person")
    assert button.is_disabled()
    opened.canvas.focus()
    opened.press("p 1")
    assert opened.page.evaluate("sent()") == []
    assert opened.page.get_by_label("Brush (B)").get_attribute("aria-pressed") == "true"
    found_people(opened)
    assert not button.is_disabled()
    opened.painter.set_photo(np.zeros((*SIZE, 3), np.uint8))
    opened.tell()
    assert button.is_disabled()


def test_the_keyboard_alone_can_paint(open_painter):
    opened = open_painter()
    opened.canvas.focus()
    opened.press("Enter")
    assert opened.listen() == 1
    dab = brushed([(SIZE[1] / 2, SIZE[0] / 2)], RADIUS, SIZE)
    np.testing.assert_array_equal(opened.ink(), dab)
    opened.press("ArrowLeft ArrowUp Enter")
    assert opened.listen() == 1
    place = (SIZE[1] / 2 - RADIUS / 2, SIZE[0] / 2 - RADIUS / 2)
    np.testing.assert_array_equal(opened.ink(), np.maximum(dab, brushed([place], RADIUS, SIZE)))


def test_escape_gives_a_stroke_up(open_painter):
    opened = open_painter()
    opened.page.mouse.move(*opened.at(50, 50))
    opened.page.mouse.down()
    opened.page.mouse.move(*opened.at(120, 50), steps=5)
    assert opened.drawn().any()
    opened.press("Escape")
    opened.page.mouse.up()
    assert opened.listen() == 0
    assert not opened.drawn().any()


def test_a_hole_that_arrives_during_a_stroke_loses_neither(open_painter):
    opened = open_painter()
    region = np.zeros(SIZE, bool)
    region[100:140, 20:60] = True
    opened.page.mouse.move(*opened.at(50, 30))
    opened.page.mouse.down()
    opened.page.mouse.move(*opened.at(120, 30), steps=5)
    opened.painter.hole = region
    opened.tell("ink")
    opened.page.mouse.move(*opened.at(150, 30), steps=5)
    opened.page.mouse.up()
    assert opened.listen() == 1
    assert opened.painter.hole[100:140, 20:60].all() and opened.painter.hole[30, 50:150].all()


def test_every_control_has_a_name_for_screen_readers(open_painter):
    opened = open_painter()
    nodes = opened.page.locator("button, input")
    names = [nodes.nth(i).get_attribute("aria-label") for i in range(nodes.count())]
    assert len(names) >= 16 and all(names) and len(set(names)) == len(names)
    spoken = opened.canvas.get_attribute("aria-label")
    assert spoken.startswith("Photo with the hole to fill, no hole painted. Keys: B brush")


def test_a_hole_from_python_is_shown_and_can_be_undone(open_painter):
    opened = open_painter()
    region = np.zeros(SIZE, bool)
    region[20:90, 30:77] = True
    opened.painter.hole = region
    opened.tell("ink")
    np.testing.assert_array_equal(opened.drawn() > 0, region)
    assert opened.listen() == 0  # nothing comes back
    opened.page.get_by_label("Undo (Ctrl+Z)").click()
    assert opened.listen() == 1
    assert not opened.painter.hole.any()


def test_another_photo_starts_afresh(open_painter):
    opened = open_painter()
    opened.drag((40, 75), (160, 75))
    assert opened.listen() == 1
    opened.painter.set_photo(np.full((60, 90, 3), 200, np.uint8))
    opened.tell()
    assert opened.drawn().shape == (60, 90)
    assert not opened.drawn().any()
    assert opened.page.get_by_label("Undo (Ctrl+Z)").is_disabled()
    assert opened.listen() == 0


def test_size_keys_change_the_brush(open_painter):
    opened = open_painter()
    opened.canvas.focus()
    for _ in range(8):
        opened.page.keyboard.press("]")
    opened.page.mouse.click(*opened.at(100, 75))
    assert opened.listen() == 1
    radius = np.sqrt(opened.painter.hole.sum() / np.pi)
    assert abs(radius - 0.14 * max(SIZE) / 2) < 0.7
