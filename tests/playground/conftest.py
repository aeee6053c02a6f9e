"""One Chromium for all browser tests, pages in it, their screenshots; and photos to play with."""

from __future__ import annotations

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from messi_lib.playground import playground as module
from messi_lib.playground.painter import MaskPainter
from playground.painter_page import PAGE, SIZE, Opened, wire
from playground.scenes import ONE, TWO, scene

PATIENCE = 120_000  # milliseconds: other work may be using the machine


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright absent: the playground was NOT tried in a browser"
    )
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("chromium absent: the playground was NOT tried in a browser")
    with api.sync_playwright() as playwright:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
        running = playwright.chromium.launch(
            executable_path=executable, args=arguments, timeout=PATIENCE
        )
        yield running
        running.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """`runs/playground` of the repository: here people look, so it is no temporary folder."""
    folder = Path(__file__).resolve().parents[2] / "runs" / "playground"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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


@pytest.fixture
def samples(tmp_path, monkeypatch):
    """Two sample photos, a and b."""
    folder = tmp_path / "samples"
    folder.mkdir()
    Image.fromarray(scene(ONE)).save(folder / "a.png")
    Image.fromarray(scene(TWO)).save(folder / "b.png")
    monkeypatch.setattr(module, "samples_dir", lambda: folder)
    return folder
