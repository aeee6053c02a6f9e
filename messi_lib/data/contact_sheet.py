"""One HTML page that shows photos by the reason for which somebody should look at them.

The page is one file: thumbnails are inside it, it asks no network, and it follows the reader's
light or dark setting. A click on a photo copies its line for the lists of `--accept`/`--reject`.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from messi_lib.images import check_pixels

SIDE = 160  # longest side of a thumbnail in pixels
LIMIT = 200  # thumbnails per section

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5d6678; --ground: #f6f7f9;
  --card: #fff; --line: #dfe3ea; --keep: #1b7f4d; --reject: #b3362b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebf1; --soft: #9aa4b6; --ground: #14171d;
  --card: #1f242d; --line: #333a46; --keep: #5fc796; --reject: #f08a7e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1400px; padding: 24px; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 0; }
p { margin: 2px 0 10px; color: var(--soft); max-width: 90ch; }
nav { display: flex; flex-wrap: wrap; gap: 8px; margin: 14px 0 26px; }
nav a { color: inherit; text-decoration: none; border: 1px solid var(--line); border-radius: 99px;
  padding: 2px 12px; background: var(--card); }
section { margin-bottom: 34px; }
.sheet { display: flex; flex-wrap: wrap; gap: 10px; align-items: stretch; }
button { font: inherit; color: inherit; text-align: left; background: var(--card); padding: 6px;
  border: 1px solid var(--line); border-radius: 8px; cursor: copy; display: flex;
  flex-direction: column; gap: 4px; min-width: 150px; max-width: 344px; }
button:hover, button:focus-visible { border-color: var(--soft); outline: none; }
.pictures { display: flex; gap: 4px; min-height: 60px; }
img { display: block; border-radius: 4px; background: var(--line); }
.none { width: 110px; display: grid; place-items: center; color: var(--soft);
  border: 1px dashed var(--line); border-radius: 4px; }
.name, .note { font-size: 12px; line-height: 1.35; width: 0; min-width: 100%;
  overflow-wrap: anywhere; }
.note { color: var(--soft); }
.keep { color: var(--keep); } .reject { color: var(--reject); }
#told { position: fixed; right: 20px; bottom: 20px; padding: 8px 14px; border-radius: 8px;
  background: var(--ink); color: var(--ground); opacity: 0; transition: opacity .2s;
  max-width: 60ch; overflow-wrap: anywhere; pointer-events: none; }
"""
_SCRIPT = """
const told = document.getElementById("told");
let timer;
document.addEventListener("click", async (event) => {
  const card = event.target.closest("button[data-line]");
  if (!card) return;
  let text = "copied: ";
  try {
    await navigator.clipboard.writeText(card.dataset.line + "\\n");
  } catch {  // a page opened from a file may not be allowed to
    const area = document.createElement("textarea");
    area.value = card.dataset.line + "\\n";
    document.body.append(area);
    area.select();
    if (!document.execCommand("copy")) text = "copy this line: ";
    area.remove();
  }
  told.textContent = text + card.dataset.line;
  told.style.opacity = 1;
  clearTimeout(timer);
  timer = setTimeout(() => { told.style.opacity = 0; }, 2500);
});
"""


@dataclass(frozen=True)
class Card:
    """One photo of a sheet.

    Attributes:
        name: shown below the picture.
        line: what a click copies.
        pictures: JPEG files; none if the photo could not be read.
        verdict: "keep" or "reject".
        note: further words.
    """

    name: str
    line: str
    pictures: tuple[bytes, ...]
    verdict: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """Photos with one reason, and a sentence that explains it."""

    title: str
    explanation: str
    cards: Sequence[Card]


def thumbnail(pixels: np.ndarray, side: int = SIDE) -> bytes:
    """A photo, uint8 (H, W, 3), as a small JPEG file, its longest side at most `side` pixels."""
    check_pixels(pixels)
    image = Image.fromarray(pixels)
    scale = min(1.0, side / max(image.size))
    size = [max(1, round(length * scale)) for length in image.size]
    stream = io.BytesIO()
    small = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    small.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def escape(text: str) -> str:
    """Text for HTML, also in attributes; bytes that are no text are shown as a mark."""
    return html.escape(text.encode(errors="replace").decode(), quote=True)


def _picture(jpeg: bytes) -> str:
    with Image.open(io.BytesIO(jpeg)) as image:
        width, height = image.size
    data = base64.b64encode(jpeg).decode()
    return (
        f'<img loading="lazy" decoding="async" width="{width}" height="{height}" alt="" '
        f'src="data:image/jpeg;base64,{data}">'
    )


def _card(card: Card) -> str:
    pictures = "".join(map(_picture, card.pictures)) or '<span class="none">no picture</span>'
    note = f'<span class="note">{escape(card.note)}</span>' if card.note else ""
    return (
        f'<button type="button" data-line="{escape(card.line)}" title="copy this line">'
        f'<span class="pictures">{pictures}</span>'
        f'<span class="name"><b class="{card.verdict}">{card.verdict}</b> {escape(card.name)}'
        f"</span>{note}</button>"
    )


def contact_sheet(
    title: str, summary: str, sections: Sequence[Section], limit: int = LIMIT
) -> str:
    """The page.

    Args:
        summary: a sentence below the title.
        sections: empty ones are left out.
        limit: of the cards shown per section; how many more there are is said.

    Raises:
        ValueError: limit below 1.
    """
    if limit < 1:
        raise ValueError(f"limit={limit}: a section shows at least one photo")
    links, parts = [], []
    for number, section in enumerate(sections):
        count = len(section.cards)
        if not count:
            continue
        links.append(f'<a href="#s{number}">{escape(section.title)} <b>{count}</b></a>')
        more = f"<p>{count - limit} more are in report.csv.</p>" if count > limit else ""
        cards = "".join(map(_card, section.cards[:limit]))
        parts.append(
            f'<section id="s{number}"><h2>{escape(section.title)} ({count})</h2>'
            f'<p>{escape(section.explanation)}</p><div class="sheet">{cards}</div>{more}</section>'
        )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>{escape(summary)} A click on a photo copies its line for "
        f"--accept or --reject.</p><nav>{''.join(links)}</nav>{''.join(parts)}"
        f'<div id="told" role="status"></div><script>{_SCRIPT}</script></body></html>\n'
    )
