"""`report.html`: all photos of a run before and after, in one file that asks no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..data.contact_sheet import escape
from ..native import as_rgb
from ..runs import atomic_write

SIDE = 640  # longest side in pixels of a photo in the page
LIMIT = 200  # photos with pictures in one page: about 25 MB

STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5d6678; --ground: #f6f7f9;
  --card: #fff; --line: #dfe3ea; --bad: #b3362b; --accent: #e63c82; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebf1; --soft: #9aa4b6; --ground: #14171d;
  --card: #1f242d; --line: #333a46; --bad: #f08a7e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1400px; padding: 24px; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; }
h2 { font-size: 16px; margin: 0 0 8px; overflow-wrap: anywhere; }
p { margin: 2px 0 10px; color: var(--soft); max-width: 90ch; }
main { display: grid; gap: 18px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px),
  1fr)); align-items: start; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px; }
.pair { position: relative; line-height: 0; border-radius: 6px; overflow: hidden; --at: 50%; }
.pair img { width: 100%; height: auto; display: block; }
.pair .before { position: absolute; inset: 0; height: 100%;
  clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.pair::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px;
  margin-left: -1px; background: #fff; box-shadow: 0 0 3px #000; pointer-events: none; }
.pair input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0;
  cursor: ew-resize; }
.pair:focus-within { outline: 3px solid var(--accent); outline-offset: 2px; }
.pair b { position: absolute; top: 8px; font: 12px/1 system-ui, sans-serif; color: #fff;
  background: #000a; padding: 4px 7px; border-radius: 4px; pointer-events: none; }
.pair b:first-of-type { left: 8px; } .pair b:last-of-type { right: 8px; }
table { border-collapse: collapse; font-size: 13px; margin-top: 8px; width: 100%; }
td { padding: 1px 0; vertical-align: top; } td:first-child { color: var(--soft); width: 8em; }
.bad { color: var(--bad); }
details { margin-top: 6px; font-size: 13px; } details img { max-width: 100%;
  height: auto; margin-top: 6px; }
"""
# Without a script the range does nothing, and the middle is shown.
SCRIPT = """
document.addEventListener("input", (event) => {
  const pair = event.target.closest(".pair");
  if (pair) pair.style.setProperty("--at", event.target.value + "%");
});
"""


def _small(path: Path | str) -> Image.Image:
    """A photo upright in RGB, at most SIDE long."""
    with Image.open(path) as opened:
        opened.draft("RGB", (SIDE, SIDE))  # a large JPEG is decoded at a fraction of its size
        upright = ImageOps.exif_transpose(opened)
        image = Image.fromarray(np.ascontiguousarray(as_rgb(upright)))
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return image


def _picture(path: Path | str, caption: str, kind: str = "") -> str:
    """An `img` that holds the picture itself; words if the file is gone."""
    try:
        image = _small(path)
    except Exception:  # it was moved or damaged since: decoders raise almost anything
        return f"<p>{escape(str(path))} cannot be shown</p>"
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=82)
    data = base64.b64encode(stream.getvalue()).decode()
    return (
        f'<img class="{kind}" loading="lazy" width="{image.width}" height="{image.height}" '
        f'alt="{caption}" src="data:image/jpeg;base64,{data}">'
    )


def _rows(entry: dict) -> list[tuple[str, str]]:
    seconds = ", ".join(f"{name} {value:.2f}" for name, value in entry["stages"].items())
    rows = [("people", f"{len(entry['chosen'])} of {entry['people']} replaced")]
    if entry["seams"] and not entry["people"]:
        rows = [("holes", f"{len(entry['seams'])} of your own")]
    for place, seam in enumerate(entry["seams"], 1):
        if seam["lab"] is not None:
            text = f"colour {seam['lab']:.1f} (2.3 is just seen), gradient {seam['gradient']:.2f}"
            rows.append((f"seam {place}", f"{text} (1 is none)"))
    rows += [("seconds", seconds)] if seconds else []
    rows += [("seed", str(entry["seed"]))] if entry["seed"] is not None else []
    return rows + [("note", note) for note in entry["warnings"]]


def _card(entry: dict) -> str:
    name = escape(Path(entry["photo"]).name)
    if entry["error"]:
        return f'<article><h2>{name}</h2><p class="bad">{escape(entry["error"])}</p></article>'
    before = _picture(entry["photo"], "before", "before")
    pair = (
        f'<div class="pair">{_picture(entry["output"], "after")}{before}<b>before</b><b>after</b>'
        f'<input type="range" min="0" max="100" value="50" step="0.5" '
        f'aria-label="{name}: before and after"></div>'
    )
    rows = "".join(f"<tr><td>{k}</td><td>{escape(v)}</td></tr>" for k, v in _rows(entry))
    more = ""
    for kind, title in (("overlay", "who is who"), ("sheet", "candidates, the best first")):
        if entry[kind]:
            more += f"<details><summary>{title}</summary>{_picture(entry[kind], title)}</details>"
    return f"<article><h2>{name}</h2>{pair}<table>{rows}</table>{more}</article>"


def as_html(entries: Sequence[dict], limit: int = LIMIT) -> str:
    """The page for entries of `folder.replace_folder`, of which the first `limit` have pictures.

    Photos that failed come first, in words.
    """
    failed = [entry for entry in entries if entry["error"]]
    done = [entry for entry in entries if not entry["error"]]
    replaced = sum(bool(entry["seams"]) for entry in done)
    words = f"{len(done)} photos, {replaced} of them changed, {len(failed)} failed."
    if len(done) > limit:
        words += f" The first {limit} are shown; the report has all."
    cards = "".join(_card(entry) for entry in (*failed, *done[:limit]))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>messi replace</title><style>{STYLE}</style></head><body>"
        f"<h1>Before and after</h1><p>{words} Drag across a photo to compare. Parts of the photos "
        f"on the right were generated.</p><main>{cards}</main>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def write_page(entries: Sequence[dict], path: Path, limit: int = LIMIT) -> Path:
    """Write `as_html` to a file, whole or not at all."""
    return atomic_write(path, as_html(entries, limit))
