"""The report of a folder of results: one entry per photo, kept whatever happens to the process.

Each entry is appended to `report.jsonl` and flushed as soon as its photo is done; at the end all
are written as `report.json` and the lines are removed. A shard has files of its own, such as
`report-3-of-16.json`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from ..runs import atomic_write


def parse_shard(shard: str) -> tuple[int, int]:
    """`"3/16"` -> (3, 16), counted from 1; `""` -> (1, 1).

    Raises:
        ValueError: anything else.
    """
    number, _, count = (shard or "1/1").partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"shard={shard!r}: give which of how many, from 1/16 to 16/16")
    return int(number), int(count)


def key_of(photo: Path | str) -> str:
    """What tells photos apart, however their path is written."""
    return str(Path(photo).resolve())


def read_reports(out: Path) -> dict[str, dict]:
    """Entries of all reports in a folder, also of shards and of runs that were killed, by `key_of`.

    A report that is damaged is passed over; later reports, and later lines of a run, hold against
    earlier ones.
    """
    found: dict[str, dict] = {}
    done = sorted(out.glob("report*.json"), key=lambda path: path.stat().st_mtime_ns)
    for path in done + sorted(out.glob("report*.jsonl")):
        for entry in _entries(path):
            found[key_of(entry["photo"])] = entry
    return found


def _entries(path: Path) -> list[dict]:
    try:
        text = path.read_text()
        if path.suffix == ".json":
            parts = json.loads(text)
            return [e for e in parts if isinstance(e, dict) and isinstance(e.get("photo"), str)]
    except (OSError, ValueError, TypeError):
        return []
    entries = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            entries += [entry] if isinstance(entry["photo"], str) else []
        except (ValueError, TypeError, KeyError):  # the last line of a killed process
            continue
    return entries


def number(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return round(value, 4) if math.isfinite(value) else None


class Record:
    """The report that one run writes.

    Args:
        out: folder of the results.
        shard: (which, of how many).
        order: keys of the photos of this run, in the order of the report.
    """

    def __init__(self, out: Path, shard: tuple[int, int], order: Sequence[str]):
        stem = "report" if shard[1] == 1 else f"report-{shard[0]}-of-{shard[1]}"
        self.path = out / f"{stem}.json"
        self.page = out / f"{stem}.html"
        self.lines = out / f"{stem}.jsonl"
        self._order = {key: place for place, key in enumerate(order)}
        before = (*_entries(self.path), *_entries(self.lines))
        self._before = {key_of(entry["photo"]): entry for entry in before}
        self._entries: dict[str, dict] = {}

    def add(self, entry: dict) -> None:
        """Keep an entry: on disk when this returns."""
        self._entries[key_of(entry["photo"])] = entry
        self.lines.parent.mkdir(parents=True, exist_ok=True)
        with open(self.lines, "a+b") as file:
            if file.tell():  # a line that a killed process left half written gets an end
                file.seek(-1, os.SEEK_END)
                file.write(b"" if file.read(1) == b"\n" else b"\n")
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> list[dict]:
        """This run's entries so far, in order."""
        return sorted(self._entries.values(), key=lambda e: self._order[key_of(e["photo"])])

    def close(self) -> None:
        """Write the report: results of earlier runs that are still there, then this run's."""
        if not self._entries and not self._before:
            return
        kept = [e for key, e in self._before.items() if key not in self._entries and there(e)]
        atomic_write(self.path, json.dumps([*kept, *self.entries()], indent=2) + "\n")
        self.lines.unlink(missing_ok=True)


def there(entry: dict) -> bool:
    """Whether an entry's result exists."""
    return bool(entry.get("output")) and Path(entry["output"]).is_file()
