"""The playground in a real browser: does the view keep up with the brush, how long is the wait?

Starts `messi playground` on a photo of 640x480 and on one of 24 megapixels, drags the pointer
through it, and presses Generate, in the system's Chromium without a GPU (what the tests do, timed).

    python benchmarks/playground.py --threads 2

Prints one JSON line per photo: frames a second and the longest gap between two frames during drags
of 60 moves (small hard brush, largest soft one), messages to the kernel and their bytes per drag,
and seconds from the click on Generate to the result on the screen.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from playground.served import MESSI, Page, serving  # noqa: E402

FRAMES = """() => {
  window.frames_at = [];
  const tick = (now) => { frames_at.push(now); window.ticking = requestAnimationFrame(tick); };
  window.ticking = requestAnimationFrame(tick);
}"""


def photo(width: int, height: int, path: Path) -> Path:
    """A shipped photo at that size: cut to the shape, enlarged where it is too small."""
    sample = Image.open(ROOT / "data" / "samples" / "pitch.jpg").convert("RGB")
    cut = round(sample.width * height / width)
    top = sample.height - cut
    sample.crop((0, top, sample.width, sample.height)).resize((width, height)).save(
        path, quality=92
    )
    return path


def drag(shown: Page, brush: int, softness: int) -> dict:
    """Frames and messages of one drag of 60 moves."""
    page = shown.page
    page.get_by_label("Brush size, % of the photo").fill(str(brush))
    page.get_by_label("Brush softness, %").fill(str(softness))
    page.wait_for_timeout(500)
    shown.sent.clear()
    page.evaluate(FRAMES)
    shown.drag((0.2, 0.3), (0.8, 0.6), steps=60)
    page.evaluate("cancelAnimationFrame(ticking)")
    gaps = np.diff(page.evaluate("frames_at")[1:])
    page.wait_for_timeout(1000)
    return {
        "fps": round(1000 / gaps.mean(), 1),
        "longest_gap_ms": round(float(gaps.max()), 1),
        "moves_s": round(60 / (gaps.sum() / 1000), 1),
        "messages": len(shown.sent),
        "bytes": sum(map(len, shown.sent)),
    }


def measure(browser, file: Path, size: tuple[int, int], folder: Path) -> dict:
    with serving(folder, MESSI, "playground", "--no-browser", "--photo", str(file)) as address:
        shown = Page(browser, viewport={"width": 1280, "height": 900})
        began = time.perf_counter()
        shown.page.goto(address)
        shown.shown()
        opened = time.perf_counter() - began
        result = {"size": list(size), "page_s": round(opened, 1)}
        result["hard"], result["soft"] = drag(shown, 6, 0), drag(shown, 30, 100)
        shown.press("Clear (Delete)")
        waits = []
        for _ in range(3):  # the first loads the generator
            shown.drag((0.4, 0.4), (0.6, 0.7))
            began = time.perf_counter()
            shown.press("Generate")
            shown.says("generating")
            shown.says("done in")
            shown.page.wait_for_function("document.querySelector('.messi-viewer img').complete")
            waits.append(round(time.perf_counter() - began, 2))
        result["painted_to_result_s"] = waits
        assert shown.problems == [], shown.problems
        shown.context.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        for size in ((640, 480), (6000, 4000)):
            file = photo(*size, Path(folder) / f"{size[0]}.jpg")
            line = {"benchmark": "playground", "load": round(os.getloadavg()[0], 1)}
            line |= {"threads": options.threads}
            line |= measure(browser, file, size, Path(folder))
            print(json.dumps(line), flush=True)
        browser.close()


if __name__ == "__main__":
    main()
