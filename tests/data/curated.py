"""What `messi data subject` writes and reads, as the tests see it."""

from __future__ import annotations

import csv
from pathlib import Path


def table(out: Path) -> dict[str, dict]:
    with open(out / "report.csv", newline="", encoding="utf-8") as file:
        return {row["photo"]: row for row in csv.DictReader(file)}


def listing(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path
