"""The contact sheet: one file, every name shown as it is and executed never."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from messi_lib.data.contact_sheet import Card, Section, contact_sheet, thumbnail


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and text."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def picture():
    return thumbnail(np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8))


def card(name: str, *pictures: bytes, **values) -> Card:
    return Card(name, name, pictures, values.get("verdict", "keep"), values.get("note", ""))


def test_thumbnails_are_small_and_keep_proportions(picture):
    assert Image.open(io.BytesIO(picture)).size == (107, 160)
    tiny = Image.open(io.BytesIO(thumbnail(np.zeros((1, 1, 3), np.uint8))))
    assert tiny.size == (1, 1)  # never enlarged
    assert Image.open(io.BytesIO(thumbnail(np.zeros((1, 900, 3), np.uint8)))).size == (160, 1)


def test_sections_counts_and_pictures(picture):
    sections = [
        Section("blurred", "Nothing is sharp.", [card("a.jpg", picture), card("b.jpg", picture)]),
        Section("empty", "Has no photos.", []),
        Section("duplicate", "Two pictures.", [card("c.jpg", picture, picture, verdict="reject")]),
        Section("unreadable", "None.", [card("d.jpg", note="truncated")]),
    ]
    page = contact_sheet("Photos", "4 photos.", sections)
    seen = Page(page)
    assert seen.open == [] and len(seen.all("section")) == 3
    for words in ("blurred (2)", "duplicate (1)", "Nothing is sharp.", "truncated", "no picture"):
        assert words in seen.text
    assert "empty" not in seen.text
    images = seen.all("img")
    assert len(images) == 4 and all(image["loading"] == "lazy" for image in images)
    data = images[0]["src"].removeprefix("data:image/jpeg;base64,")
    assert base64.b64decode(data) == picture
    links = {link["href"] for link in seen.all("a")}
    assert links == {"#" + section["id"] for section in seen.all("section")}


def test_it_asks_no_network_and_knows_light_and_dark(picture):
    page = contact_sheet("Photos", "", [Section("a", "b", [card("c.jpg", picture)])])
    seen = Page(page)
    assert not {"link", "iframe", "object"} & {tag for tag, _ in seen.tags}
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page.replace(picture.hex(), ""))
    assert all(image["src"].startswith("data:") for image in seen.all("img"))
    assert "prefers-color-scheme: dark" in page and "color-scheme: light dark" in page


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>.jpg", 'a" onclick="x.jpg', "a&amp;b.jpg", "ünïcode 照片.jpg",
     "two\nlines.jpg", "not\udcfftext.jpg", "'single'.jpg"],
)  # fmt: skip
def test_names_are_shown_and_copied_as_they_are(name, picture):
    harmless = name.encode(errors="replace").decode()
    page = contact_sheet("<b>", "&", [Section("<i>", "<u>", [card(name, picture, note=name)])])
    page.encode()  # it can be written
    seen = Page(page)
    (button,) = seen.all("button")
    assert button["data-line"] == harmless
    assert seen.text.count(harmless) == 2 and len(seen.all("script")) == 1
    assert not {"i", "u"} & {tag for tag, _ in seen.tags}
    assert set(button) == {"type", "data-line", "title"}


def test_large_sections_are_cut_and_say_so(picture):
    cards = [card(f"{number}.jpg", picture) for number in range(25)]
    page = contact_sheet("Photos", "", [Section("many", "", cards)], limit=10)
    seen = Page(page)
    assert len(seen.all("img")) == 10 and "many (25)" in seen.text
    assert "15 more are in report.csv" in seen.text
    assert "more are" not in contact_sheet("Photos", "", [Section("many", "", cards)], limit=25)
    with pytest.raises(ValueError, match="limit=0"):
        contact_sheet("Photos", "", [], limit=0)
