"""The playground as a person uses it: JupyterLab in Chromium, a mouse, and the weights that ship.

The tests go on with one page, each from an empty hole: opening JupyterLab takes longer than all of
them.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from playground.brush import brushed
from playground.served import Page, serving

pytestmark = pytest.mark.slow

SERVE = (
    "import sys; from messi_lib.playground.server import serve_lab;"
    "sys.exit(serve_lab(sys.argv[1], browser=False))"
)
SHOW = "from messi_lib.playground.playground import Playground\nplay = Playground()\nplay"
SIZE = (512, 512)  # of the sample photo, which is painted on as it is
RADIUS = 0.06 * 512 / 2
QUIET = {"fetchNews": "false", "checkForUpdates": False}


def cell(source: str) -> dict:
    empty = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    return empty | {"id": f"cell{len(source)}", "source": source}


class Lab(Page):
    """JupyterLab with a notebook of two cells: the playground, and one for questions."""

    def __init__(self, browser, address: str, folder):
        super().__init__(browser, viewport={"width": 1280, "height": 900}, accept_downloads=True)
        self.folder = folder
        self.page.goto(address)
        self.ready()
        self.run(0)
        self.shown()

    def ready(self) -> None:
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.wait_for_selector("text=| Idle")

    def run(self, number: int) -> None:
        self.page.locator(".jp-Notebook .jp-InputArea-editor").nth(number).click()
        self.page.keyboard.press("Control+Enter")

    def ask(self, expression: str) -> object:
        """Write a cell that answers, run it, and read the answer: as a person would, but JSON."""
        answer = self.folder / "answer.json"
        answer.unlink(missing_ok=True)
        editor = self.page.locator(".jp-Notebook .jp-InputArea-editor").nth(1)
        editor.scroll_into_view_if_needed()
        editor.click()
        self.page.keyboard.press("Control+a")
        code = f"import json; text = json.dumps({expression}); open('answer.json', 'w').write(text)"
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Control+Enter")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if answer.is_file():
                try:
                    return json.loads(answer.read_text())
                except json.JSONDecodeError:  # half written
                    pass
            self.page.wait_for_timeout(50)
        raise AssertionError(f"the kernel did not answer {expression!r}")

    def hole(self) -> np.ndarray:
        """The hole as the kernel has it."""
        self.page.wait_for_timeout(200)  # strokes have a thread of their own in the kernel
        return np.array(self.ask("play.painter.hole.tolist()"), bool)

    def keys(self, *keys: str) -> None:
        """Press keys in the painter."""
        self.canvas.scroll_into_view_if_needed()
        self.canvas.focus()
        for key in keys:
            self.page.keyboard.press(key)


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    settings = folder / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(QUIET))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": [cell(SHOW), cell("1")], "metadata": {"kernelspec": kernel}}
    notebook |= {"nbformat": 4, "nbformat_minor": 5}
    (folder / "play.ipynb").write_text(json.dumps(notebook))
    with serving(folder, SERVE, str(folder / "play.ipynb")) as address:
        lab = Lab(browser, address, folder)
        yield lab
        assert lab.problems == []
        lab.context.close()


@pytest.fixture
def lab(opened):
    opened.keys("Delete", "b")
    opened.page.wait_for_function("document.body.innerText.includes('no hole painted')")
    opened.page.wait_for_timeout(200)
    opened.sent.clear()
    yield opened
    assert opened.problems == []


def test_a_drag_of_60_moves_reaches_the_kernel_to_the_pixel_in_one_message(lab):
    trail = lab.drag((0.2, 0.3), (0.7, 0.6), steps=60)
    assert len(trail) > 50
    lab.page.wait_for_timeout(300)
    assert 1 <= len(lab.sent) <= 2
    np.testing.assert_array_equal(lab.hole(), brushed(trail, RADIUS, SIZE) > 0)


def test_undo_and_redo_reach_the_kernel(lab):
    lab.drag((0.2, 0.3), (0.7, 0.3))
    one = lab.hole()
    lab.drag((0.2, 0.6), (0.7, 0.6))
    two = lab.hole()
    assert one.any() and (two & ~one).any()
    lab.keys("Control+z")
    np.testing.assert_array_equal(lab.hole(), one)
    lab.keys("Control+Shift+Z")
    np.testing.assert_array_equal(lab.hole(), two)
    assert lab.ask("len(play.session.rounds)") == 0


def test_a_click_leaves_a_person_out_and_takes_them_again(lab):
    lab.press("Find people")
    lab.says("found:")
    found = lab.hole()
    people = np.array(lab.ask("play.painter.people[0].region.tolist()"), bool)
    assert (found & people).sum() == people.sum()
    y, x = (middle[len(middle) // 2] for middle in np.nonzero(people))
    for wanted in (found & ~people, found):
        lab.canvas.scroll_into_view_if_needed()
        lab.page.mouse.click(*lab.at((x + 0.5) / 512, (y + 0.5) / 512))
        lab.page.wait_for_timeout(300)
        np.testing.assert_array_equal(lab.hole(), wanted)


def test_painted_generated_and_saved(lab, screenshots, tmp_path):
    lab.press("Find people")
    lab.says("found:")
    lab.press("Generate")
    lab.says("done in")
    lab.page.screenshot(path=screenshots / "lab_light.png")
    mask = np.asarray(Image.open(lab.save("Save mask", tmp_path)))
    changed = np.array(lab.ask("play.session.current.changed.tolist()"), bool)
    np.testing.assert_array_equal(mask == 255, changed)
    result = Image.open(lab.save("Save result", tmp_path))
    assert result.format == "JPEG" and result.size == (512, 512)
    made = np.array(lab.ask("play.session.current.pixels[::8, ::8].tolist()"))
    assert np.abs(np.asarray(result)[::8, ::8].astype(int) - made).mean() < 3


def test_keys_in_the_painter_are_not_the_notebooks(lab):
    cells = lab.page.locator(".jp-Notebook .jp-Cell").count()
    lab.keys("b", "a", "x", "e", "m", "l", "b")  # a and b would insert cells, x cut one
    lab.page.get_by_label("Divider").focus()
    lab.page.keyboard.press("a")
    assert lab.page.locator(".jp-Notebook .jp-Cell").count() == cells


def test_without_the_token_nobody_gets_in(lab):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(re.sub("/lab/.*", "/api/contents", lab.page.url), timeout=20)


def test_cancel_stops_it_and_the_kernel_answers_meanwhile(lab):
    lab.drag((0.4, 0.4), (0.6, 0.6))
    rounds = lab.ask("len(play.session.rounds)")
    lab.slide("candidates", 8)
    lab.slide("steps", 40)
    lab.press("Generate")
    lab.says("step [2-9]")
    assert lab.ask("play.wait(0)") is False, "a cell runs while it generates"
    lab.press("Cancel")
    lab.says("cancelled: nothing was changed")
    assert lab.ask("len(play.session.rounds)") == rounds
    lab.slide("candidates", 1)
    lab.slide("steps", 8)


def test_an_error_is_on_the_page_with_its_remedy(lab):
    lab.press("Generate")
    said = lab.says("empty")
    assert said == "the hole is empty: paint over what is to go, or press Find people"
    assert lab.page.get_by_role("alert").count() == 1


def test_a_reload_in_the_dark_theme_restores_the_hole_and_the_result(lab, screenshots):
    lab.drag((0.3, 0.5), (0.6, 0.5))
    lab.press("Generate")
    lab.says("done in")
    hole, share = lab.hole(), lab.status()
    for name in ("Settings", "Theme", "JupyterLab Dark"):
        lab.page.get_by_text(name, exact=True).first.click()
    lab.page.keyboard.press("Control+s")
    lab.page.wait_for_selector("body[data-jp-theme-light=false]", state="attached")
    lab.page.wait_for_timeout(500)
    lab.page.reload()
    lab.ready()
    lab.shown()
    assert lab.status() == share
    assert lab.page.locator(".messi-viewer img").first.evaluate("node => node.naturalWidth") == 512
    lab.page.screenshot(path=screenshots / "lab_dark.png")
    np.testing.assert_array_equal(lab.hole(), hole)
    lab.keys("b")
    trail = lab.drag((0.3, 0.2), (0.6, 0.2))
    wanted = hole | (brushed(trail, RADIUS, SIZE) > 0)
    np.testing.assert_array_equal(lab.hole(), wanted)
