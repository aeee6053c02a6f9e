"""An evaluation as files: `evaluation.json` for programs, `report.html` for people.

The page holds its pictures in itself, so that one file can be sent or kept.
"""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from messi_lib.runs import atomic_write, to_json

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 }
td, th { padding: .2em .8em; border-bottom: 1px solid #ccc; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100%; image-rendering: pixelated }
.warning { background: #fff3cd; padding: .3em .8em; margin: .3em 0 }
.flag { background: #f8d7da; padding: .3em .8em; margin: .3em 0 }
small { color: #555 }
"""
SCALE = 1000  # KID is small: tables show it times 1,000, as papers do
NUMBER = "number"  # class of a cell


def with_error(value: float, error: float | None, digits: int) -> str:
    """`12.3 +- 0.4`, or without an error the number alone."""
    return f"{value:.{digits}f}" + ("" if error is None else f" +- {error:.{digits}f}")


def _find(result: dict, metric: str, against: str, steps: int) -> dict | None:
    for row in result["rows"]:
        if (row["metric"], row["against"], row["steps"]) == (metric, against, steps):
            return row
    return None


def _cell(result: dict, metric: str, against: str, steps: int) -> str:
    row = _find(result, metric, against, steps)
    if row is None:
        return "-"
    if metric == "kid":
        error = None if row["se"] is None else row["se"] * SCALE
        return with_error(row["value"] * SCALE, error, 2)
    if metric == "fid":
        return f"[{row['counts']}] {with_error(row['value'], row['se'], 1)}"
    return with_error(row["value"], row["se"], 3)


def tables(result: dict) -> dict[str, list[list[str]]]:
    """Title -> rows of cells, the first the heading, of an evaluation (see `generator`)."""
    steps = sorted(int(count) for count in result["n_generated"])
    unseen = ["holdout"] if result["n_holdout"] else []
    distances = [["steps", "images", "KID x1000 to train", "FID to train"]]
    if unseen:
        distances[0] += ["KID x1000 to holdout", "holdout - train", "FID to holdout"]
    for count in steps:
        line = [str(count), str(_count(result, count))]
        line += [_cell(result, metric, "train", count) for metric in ("kid", "fid")]
        if unseen:
            line.append(_cell(result, "kid", "holdout", count))
            line.append(_cell(result, "kid", "holdout-train", count))
            line.append(_cell(result, "fid", "holdout", count))
        distances.append(line)
    if unseen:
        floor = [_cell(result, metric, "floor", 0) for metric in ("kid", "fid")]
        distances.append(["holdout against train", str(result["n_holdout"]), *floor, "", "", ""])
    names = ("precision", "recall", "density", "coverage")
    shares = [["steps", "against", "counts", *names]]
    for against, count in [(a, c) for c in steps for a in ("train", *unseen)] + (
        [("floor", 0)] if unseen else []
    ):
        row = _find(result, "precision", against, count)
        label = "holdout against train" if against == "floor" else against
        cells = [_cell(result, name, against, count) for name in names]
        shares.append([str(count or "-"), label, row["counts"], *cells])
    found = {"Distance": distances, "Precision, recall, density, coverage (k = 5)": shares}
    if result["memorisation"]:
        found["Does it copy?"] = _copies(result["memorisation"])
    total = result["seconds"]["all"] or 1
    found["Where the time went"] = [["stage", "seconds", "share"]] + [
        [stage, f"{value:.1f}", f"{value / total:.0%}"]
        for stage, value in result["seconds"].items()
    ]
    return found


def _count(result: dict, steps: int) -> int:
    counts = result["n_generated"]
    return counts.get(steps, counts.get(str(steps)))  # JSON has made the number a string


def _copies(entries: list[dict]) -> list[list[str]]:
    head = ["steps", "distance in", "d1/d2 < 1/3 (95%)", "below the holdout's 5%", "Z_U", "copies"]
    table = [head]
    for entry in entries:
        share = f"{entry['share_close']:.1%} ({entry['close_low']:.1%}-{entry['close_high']:.1%})"
        unseen = ["-", "-"]
        if entry["n_holdout"]:
            unseen = [f"{entry['share_below']:.1%}", f"{entry['z_u']:+.1f}"]
        where = entry["space"] + ("" if entry["mirrored"] else ", not mirrored")
        verdict = "YES" if entry["flagged"] else "no sign"
        table.append([str(entry["steps"]), where, share, *unseen, verdict])
    return table


def as_text(result: dict) -> str:
    """The tables for a terminal."""
    lines = []
    for title, table in tables(result).items():
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        lines += [title]
        lines += [
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
            for row in table
        ]
        lines.append("")
    return "\n".join(lines).rstrip()


def _picture(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _table(rows: list[list[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = []
    for row in rows[1:]:
        cells = [
            f'<td class="{NUMBER if cell[:1].isdigit() or cell[:1] in "-+[" else ""}">'
            f"{html.escape(cell)}</td>"
            for cell in row
        ]
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _without_pictures(result: dict) -> dict:
    return to_json({key: value for key, value in result.items() if key != "pictures"})


def as_html(result: dict) -> str:
    """One page: verdict, warnings, tables, pictures, and all that the numbers depend on.

    Args:
        result: of `generator.evaluate_generator`; "pictures" may be absent.
    """
    title = html.escape(str(result.get("title", "Evaluation of a generator")))
    parts = [f"<h1>{title}</h1>"]
    if result["flagged"]:
        parts.append('<p class="flag">The generator copies training photos: look at the pairs.</p>')
    parts += [f'<p class="warning">{html.escape(note)}</p>' for note in result["warnings"]]
    network = f"{result['extractor']}, {result['weights']}, SHA-256 {result['weights_sha256']}"
    parts.append(
        f"<p>{result['n_real']} training and {result['n_holdout']} holdout photos of "
        f"{result['resolution']} px. Features: {html.escape(network)}. KID is unbiased at any "
        "count; an FID compares only with FIDs of equal counts. Errors are of the jackknife.</p>"
    )
    for name, rows in tables(result).items():
        parts.append(f"<h2>{html.escape(name)}</h2>{_table(rows)}")
    for caption, pixels in result.get("pictures", {}).items():
        pairs = ": left of each the generated image" if caption.startswith("closest") else ""
        parts.append(
            f"<h2>{html.escape(caption)}{pairs}</h2>"
            f'<img alt="{html.escape(caption)}" src="{_picture(pixels)}">'
        )
    listed = json.dumps(_without_pictures(result), indent=1)
    parts.append(f"<h2>Everything</h2><pre><small>{html.escape(listed)}</small></pre>")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def save_report(result: dict, folder: Path | str) -> tuple[Path, Path]:
    """Write `evaluation.json` and `report.html` of `generator.evaluate_generator`'s result.

    Returns:
        Their paths.
    """
    text = json.dumps(_without_pictures(result), indent=2) + "\n"
    page = as_html(result)
    folder = Path(folder)
    return (
        atomic_write(folder / "evaluation.json", text),
        atomic_write(folder / "report.html", page),
    )
