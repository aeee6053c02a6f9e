"""A page that shows the painter: a small stand-in for anywidget's model.

What the page sends goes into a real `MaskPainter` as the memoryview that a kernel receives.
"""

from __future__ import annotations

import base64

import numpy as np

from messi_lib.playground.painter import MaskPainter, unpack_ink
from playground.brush import TRAIL

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


RADIUS = 0.06 * max(SIZE) / 2
