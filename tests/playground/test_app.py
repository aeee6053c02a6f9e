"""`messi playground` as a person uses it: Voila in Chromium, a mouse, and the weights that ship."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from playground.served import MESSI, Page, serving

pytestmark = pytest.mark.slow


def large_photo() -> bytes:
    """24 megapixels, as a camera writes them."""
    coarse = np.random.default_rng(0).integers(60, 200, (8, 12, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize((6000, 4000), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def for_readme(screenshot: bytes, folder: Path) -> None:
    """The README's data/pictures/playground.png is a copy of this one: small, in 256 colours."""
    picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
    picture.thumbnail((1000, 1000), Image.Resampling.LANCZOS)
    colours = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=6)
    path = folder / "readme.png"
    picture.quantize(palette=colours).save(path, optimize=True)
    assert path.stat().st_size < 300_000


@pytest.fixture(scope="module")
def address(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    with serving(folder, MESSI, "playground", "--no-browser") as address:
        yield address


def test_a_newcomer_gets_a_replaced_photo_in_three_clicks(address, browser, screenshots, tmp_path):
    shown = Page(browser, viewport={"width": 1280, "height": 860}, accept_downloads=True)
    page = shown.page
    page.goto(address)
    shown.shown()
    shown.press("Find people")
    assert re.match(r"\d+ (person|people) found", shown.says("found:"))
    assert re.match(r"hole: \d+\.\d % of the photo", shown.status())
    shown.press("Generate")
    shown.says(r"done in \d+\.\d s")
    saved = shown.save("Save result", tmp_path)
    assert saved.name.endswith("_replaced.jpg")
    assert Image.open(saved).size == (512, 512)
    page.get_by_label("Divider").fill("50")
    page.screenshot(path=screenshots / "app_light.png")

    shown.slide("candidates", 4)
    shown.press("Generate")
    shown.says("choose one below")
    thumbs = page.get_by_role("radio")
    assert thumbs.count() == 4
    caption = page.locator(".messi-viewer .messi-status")
    before = caption.inner_text()
    thumbs.nth(3).click()
    page.wait_for_function(f"!document.body.innerText.includes({before!r})")
    assert thumbs.nth(3).get_attribute("aria-checked") == "true"
    assert thumbs.nth(0).get_attribute("aria-checked") == "false"
    thumbs.nth(1).click()
    page.wait_for_timeout(300)
    assert thumbs.nth(1).get_attribute("aria-checked") == "true"
    page.mouse.move(5, 5)
    for_readme(page.screenshot(path=screenshots / "app_candidates.png"), screenshots)
    shown.press("Undo result")
    shown.says("1 result left")
    assert shown.problems == []
    shown.context.close()


def test_a_phone_and_a_photo_of_24_megapixels(address, browser, screenshots):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    shown = Page(browser, device_scale_factor=2, **phone)
    page = shown.page
    page.goto(address + "&theme=dark")
    shown.shown()
    with page.expect_file_chooser() as chooser:
        page.locator(".messi-upload").click()
    chooser.value.set_files(
        {"name": "camera.jpg", "mimeType": "image/jpeg", "buffer": large_photo()}
    )
    page.wait_for_function("document.querySelector('canvas.messi-ink').height === 683")
    shown.says("paint over what is to go")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out"

    shown.canvas.scroll_into_view_if_needed()
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *place: float) -> None:
        points = [dict(zip("xy", shown.at(*place)))] if place else []
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    shown.sent.clear()
    touch("touchStart", 0.3, 0.4)
    for k in range(1, 61):
        touch("touchMove", 0.3 + 0.4 * k / 60, 0.4 + 0.2 * k / 60)
    touch("touchEnd")
    page.wait_for_function("document.body.innerText.includes('hole:')")
    page.wait_for_timeout(300)
    assert 1 <= len(shown.sent) <= 2 and max(map(len, shown.sent)) < 100_000
    page.screenshot(path=screenshots / "app_phone.png")
    shown.press("Generate")
    shown.says(r"done in \d+\.\d s")
    page.locator(".messi-viewer").scroll_into_view_if_needed()
    page.screenshot(path=screenshots / "app_phone_result.png")
    assert shown.problems == []
    shown.context.close()


def test_without_the_token_there_is_no_page(address, browser):
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(address.split("?")[0])
    assert "/login" in answer.url and page.locator("canvas").count() == 0
    context.close()
