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
from pathlib import Path

import numpy as np
import pytest

from messi_lib.playground import painter as painter_module
from messi_lib.playground.painter import MaskPainter

SOURCE = Path(painter_module.__file__).parent
PATIENCE = 120_000  # milliseconds: other work may be using the machine
SIZE = (150, 203)  # height, width: not a multiple of 8, so that the last byte has unused bits
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
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
  changed: {},
  get(key) { return this.state[key]; },
  set(key, value) { this.changed[key] = this.state[key] = value; this.tell(); },
  save_changes() { this.messages.push(this.changed); this.changed = {}; },
  on(event, callback) { listeners.add(callback); },
  off(event, callback) { listeners.delete(callback); },
  tell() { for (const callback of listeners) callback(); },
};
window.fromPython = (state) => { Object.assign(model.state, decode(state)); model.tell(); };
window.messages = () => model.messages.map((message) => Object.fromEntries(
  Object.entries(message).map(([key, view]) =>
    [key, btoa(String.fromCharCode(...new Uint8Array(view.buffer)))])));
window.listeners = listeners;
window.cleanup = painter.render({ model, el: document.getElementById("here") });
window.ready = true;
</script>"""


def wire(painter: MaskPainter, *names: str) -> dict:
    """The painter's synced traits as the page wants them: bytes in base64."""
    names = names or ("photo_bytes", "hole_bits", "width", "height", "brush", "opacity", "label")
    state = {name: getattr(painter, name) for name in names}
    return {
        key: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for key, value in state.items()
    }


def test_the_javascript_is_valid():
    node = shutil.which("node")
    if node is None:
        pytest.skip("node absent: painter.js was NOT checked for syntax errors")
    source = (SOURCE / "painter.js").read_text()
    command = [node, "--input-type=module", "--check"]
    checked = subprocess.run(command, input=source, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr
    broken = subprocess.run(command, input=source + "}", capture_output=True, text=True, timeout=60)
    assert broken.returncode != 0, "node --check accepts anything here"


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright absent: the painter was NOT tested in a browser"
    )
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("chromium absent: the painter was NOT tested in a browser")
    with api.sync_playwright() as playwright:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
        running = playwright.chromium.launch(
            executable_path=executable, args=arguments, timeout=PATIENCE
        )
        yield running
        running.close()


class Opened:
    """A page that shows a painter, and the painter that hears what the page sends."""

    def __init__(self, page, painter: MaskPainter):
        self.page, self.painter, self.heard = page, painter, 0
        self.canvas = page.locator("canvas")
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
            assert list(message) == ["hole_bits"]
            self.painter.set_state(
                {"hole_bits": memoryview(base64.b64decode(message["hole_bits"]))}
            )
        return len(messages)

    def tell(self, *names: str):
        """What the painter's traits are now goes to the page."""
        self.page.evaluate("(state) => fromPython(state)", wire(self.painter, *names))

    def drawn(self) -> np.ndarray:
        """Where the page shows ink: bool (H, W)."""
        alpha = self.page.evaluate(
            "() => { const c = document.querySelector('canvas');"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "return Array.from({length: c.width * c.height}, (_, i) => d[4 * i + 3]); }"
        )
        assert set(alpha) <= {0, 255}, "what is shown must be what was sent"
        return np.array(alpha).reshape(self.painter.height, self.painter.width) > 0


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
            "/painter.js": ((SOURCE / "painter.js").read_bytes(), "text/javascript"),
            "/painter.css": ((SOURCE / "painter.css").read_bytes(), "text/css"),
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


def capsule(start, end, radius, size=SIZE) -> np.ndarray:
    """Pixels whose centre is within `radius` of the segment: what a round brush covers."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    a, b = np.array(start, float), np.array(end, float)
    along = ((x - a[0]) * (b - a)[0] + (y - a[1]) * (b - a)[1]) / max(((b - a) ** 2).sum(), 1e-9)
    along = along.clip(0, 1)
    return np.hypot(x - a[0] - along * (b - a)[0], y - a[1] - along * (b - a)[1]) <= radius


def test_one_stroke_is_one_message_with_the_painted_pixels(open_painter):
    opened = open_painter()
    opened.drag((50, 40), (150, 100), steps=60)
    assert opened.listen() == 1
    hole = opened.painter.hole
    radius = 0.06 * max(SIZE) / 2
    wanted = capsule((50, 40), (150, 100), radius)
    assert (hole & ~capsule((50, 40), (150, 100), radius + 1)).sum() == 0
    assert (~hole & capsule((50, 40), (150, 100), radius - 1)).sum() == 0
    assert abs(hole.sum() / wanted.sum() - 1) < 0.03
    np.testing.assert_array_equal(opened.drawn(), hole)


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
    assert opened.painter.hole.sum() < 40  # the brush's soft rim may leave single pixels


def test_invert_and_clear(open_painter):
    opened = open_painter()
    opened.drag((40, 75), (160, 75))
    opened.listen()
    painted = opened.painter.hole
    opened.page.get_by_label("Invert (I)").click()
    assert opened.listen() == 1
    np.testing.assert_array_equal(opened.painter.hole, ~painted)
    assert int.from_bytes(opened.painter.hole_bits) % 2 ** (-SIZE[0] * SIZE[1] % 8) == 0
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
    opened.tell("hole_bits")
    np.testing.assert_array_equal(opened.drawn(), region)
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
    np.testing.assert_array_equal(opened.drawn(), painted)


def test_a_closed_view_lets_go_of_the_model(open_painter):
    opened = open_painter()
    assert opened.page.evaluate("listeners.size") == 1
    opened.page.evaluate("cleanup()")
    assert opened.page.evaluate("listeners.size") == 0
