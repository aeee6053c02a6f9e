"""The painter in a real browser: a real pointer, and a small stand-in for anywidget's model.

What the page sends goes into a real `MaskPainter` as the memoryview that a kernel receives.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from messi_lib.playground.painter import MaskPainter, unpack_ink
from messi_lib.playground.viewer import ResultViewer
from messi_lib.segmentation.people import people_from
from playground.brush import TRAIL, brushed
from playground.conftest import PATIENCE

SIZE = (150, 203)  # height, width: not a multiple of 8, so that the last byte has unused bits
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="painter.css"><body style="margin:10px"><div id="here"></div>
<script type="module">
import painter from "./painter.js";
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const decode = (state) => Object.fromEntries(Object.entries(state).map(
  ([key, value]) => [key, value?.base64 === undefined ? value : bytes(value.base64)]));
const listeners = new Set();
const model = {
  state: decode(await (await fetch("state.json")).json()),
  messages: [],
  sent: [],
  changed: {},
  get(key) { return this.state[key]; },
  set(key, value) { this.changed[key] = this.state[key] = value; this.tell(); },
  save_changes() { this.messages.push(this.changed); this.changed = {}; },
  send(content) { this.sent.push(content); },
  on(event, callback) { listeners.add(callback); },
  off(event, callback) { listeners.delete(callback); },
  tell() { for (const callback of listeners) callback(); },
};
window.fromPython = (state) => { Object.assign(model.state, decode(state)); model.tell(); };
window.messages = () => model.messages.map((message) => Object.fromEntries(
  Object.entries(message).map(([key, view]) =>
    [key, btoa(String.fromCharCode(...new Uint8Array(view.buffer)))])));
window.sent = () => model.sent;
TRAIL
window.listeners = listeners;
window.cleanup = painter.render({ model, el: document.getElementById("here") });
window.ready = true;
</script>""".replace("TRAIL", TRAIL)


SYNCED = (
    "photo_bytes", "ink", "people_bytes", "width", "height",
    "brush", "softness", "opacity", "label",
)  # fmt: skip


def wire(painter: MaskPainter, *names: str) -> dict:
    """The painter's synced traits as the page wants them: bytes in base64."""
    names = names or SYNCED
    state = {name: getattr(painter, name) for name in names}
    return {
        key: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for key, value in state.items()
    }


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


class Opened:
    """A page that shows a painter, and the painter that hears what the page sends."""

    def __init__(self, page, painter: MaskPainter):
        self.page, self.painter, self.heard = page, painter, 0
        self.canvas = page.locator("canvas.messi-ink")
        self.box = self.canvas.bounding_box()
        self.scale = self.box["width"] / painter.width

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point of the photo in the page."""
        return self.box["x"] + x * self.scale, self.box["y"] + y * self.scale

    def drag(self, start, end, steps=20, button="left"):
        mouse = self.page.mouse
        mouse.move(*self.at(*start))
        mouse.down(button=button)
        mouse.move(*self.at(*end), steps=steps)
        mouse.up(button=button)

    def listen(self) -> int:
        """Give the new messages to the painter; returns how many there were."""
        messages = self.page.evaluate("messages()")[self.heard :]
        self.heard += len(messages)
        for message in messages:
            assert list(message) == ["ink"]
            self.painter.set_state({"ink": memoryview(base64.b64decode(message["ink"]))})
        return len(messages)

    def tell(self, *names: str):
        """What the painter's traits are now goes to the page."""
        self.page.evaluate("(state) => fromPython(state)", wire(self.painter, *names))

    def trail(self) -> list:
        """The pointer's places since the last call, in the photo's pixels."""
        return self.page.evaluate("trail.splice(0)")

    def drawn(self) -> np.ndarray:
        """What the page shows: uint8 (H, W), how opaque the ink is."""
        alpha = self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {"
            "const c = document.querySelector('canvas.messi-ink');"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "const every = Uint8Array.from({length: c.width * c.height}, (_, i) => d[4 * i + 3]);"
            "done(btoa(every.reduce((text, value) => text + String.fromCharCode(value), ''))); })))"
        )
        values = np.frombuffer(base64.b64decode(alpha), np.uint8)
        return values.reshape(self.painter.height, self.painter.width)

    def ink(self) -> np.ndarray:
        """What Python has of it, uint8 (H, W), on the working copy."""
        return unpack_ink(self.painter.ink, self.painter.height, self.painter.width)

    def press(self, keys: str):
        for key in keys.split():
            self.page.keyboard.press(key)


@pytest.fixture
def open_painter(browser):
    """Function: open a page with a painter on a photo of the given size."""
    closers = []

    def opened(size=SIZE, **context) -> Opened:
        pixels = np.zeros((*size, 3), np.uint8)
        pixels[..., 1] = np.linspace(40, 220, size[1])[None]
        painter = MaskPainter(pixels)
        files = {
            "/": (PAGE.encode(), "text/html"),
            "/state.json": (json.dumps(wire(painter)).encode(), "application/json"),
            "/painter.js": (str(MaskPainter._esm).encode(), "text/javascript"),
            "/painter.css": (str(MaskPainter._css).encode(), "text/css"),
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body, kind = files.get(self.path, (b"", ""))
                self.send_response(200 if kind else 404)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        surroundings = browser.new_context(**context)
        page = surroundings.new_page()
        page.set_default_timeout(PATIENCE)
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        closers.append((server, surroundings, problems))
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_function("window.ready && document.querySelector('img').naturalWidth > 0")
        return Opened(page, painter)

    yield opened
    for server, surroundings, problems in closers:
        surroundings.close()
        server.shutdown()
        server.server_close()
        assert problems == []


RADIUS = 0.06 * max(SIZE) / 2


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
