"""`messi playground` in a process of its own, and a page of it in the browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from playground.brush import TRAIL
from playground.conftest import PATIENCE

MESSI = "import sys; from messi_lib.cli import main; sys.exit(main(sys.argv[1:]))"

FAILED = "[data-mime-type='application/vnd.jupyter.error'], .jp-mod-error"  # a cell's traceback


@contextmanager
def serving(folder: Path, code: str, *arguments: str) -> Iterator[str]:
    """A server's address, while it runs. `folder` gets its Jupyter settings and its log."""
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(folder / "config")}
    environment |= {"JUPYTER_DATA_DIR": str(folder / "data")}
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            env=environment,
        )
    try:
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/\S*\?token=\S+", line)
        assert address, line + (folder / "server.log").read_text()
        yield address[0]
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=60)
        assert status == 0, "Ctrl+C ends it in good order"
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address[0], timeout=5)


class Page:
    """A page with a playground, used as a person does; its errors and messages are counted."""

    def __init__(self, browser, **context: object):
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.add_init_script(TRAIL)
        self.problems: list[str] = []
        self.sent: list[bytes] = []  # messages to kernels that say something to a widget
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._console)
        self.page.on("requestfailed", lambda r: self.problems.append(f"{r.url}: {r.failure}"))
        self.page.on("websocket", lambda s: s.on("framesent", self._frame))

    def _console(self, message) -> None:
        if message.type == "error":
            self.problems.append(message.text)

    def _frame(self, payload) -> None:
        data = payload.encode() if isinstance(payload, str) else payload
        if b"comm_msg" in data:
            self.sent.append(data)

    def shown(self) -> None:
        """Wait until the painter shows its photo."""
        self.page.wait_for_selector(f"canvas.messi-ink, {FAILED}")
        failed = self.page.locator(FAILED)
        assert not failed.count(), failed.first.inner_text()
        self.page.wait_for_function(
            "document.querySelector('.messi-painter img').naturalWidth > 0"
            "&& document.querySelector('canvas.messi-ink').width > 0"
        )

    @property
    def canvas(self):
        return self.page.locator("canvas.messi-ink")

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def says(self, text: str) -> str:
        """Wait until the line under the buttons contains this; returns the line."""
        line = self.page.locator(".messi-message", has_text=re.compile(text))
        line.wait_for()
        return line.inner_text()

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place in the page of a share of the photo's width and height."""
        box = self.canvas.bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def drag(self, start: tuple, end: tuple, steps: int = 60) -> list:
        """A real drag; returns the pointer's places in pixels of the working copy."""
        self.canvas.scroll_into_view_if_needed()
        self.page.mouse.move(*self.at(*start))
        self.page.evaluate("trail.length = 0")
        self.page.mouse.down()
        self.page.mouse.move(*self.at(*end), steps=steps)
        self.page.mouse.up()
        return self.page.evaluate("trail.splice(0)")

    def status(self) -> str:
        return self.page.locator(".messi-painter .messi-status").inner_text()

    def slide(self, name: str, value: int) -> None:
        """Type a number into the field beside a slider of ipywidgets."""
        row = self.page.locator(".messi-settings > *", has=self.page.get_by_text(name, exact=True))
        field = row.locator(".widget-readout")
        field.click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(str(value))
        self.page.keyboard.press("Enter")

    def save(self, name: str, folder: Path) -> Path:
        """Click on a button that saves a file, and wait for it."""
        with self.page.expect_download() as waiting:
            self.press(name)
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path
