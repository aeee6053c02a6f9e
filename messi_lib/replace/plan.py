"""Where the results of a batch go: one stem per photo, the same for all shards, nothing twice."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..images import FORMATS, SUFFIXES, named_format
from .record import key_of, there


@dataclass(frozen=True)
class Job:
    """One photo of a batch and the name, without extension, that its results get."""

    photo: Path
    stem: str


def plan(photos: Sequence[Path], out: Path, earlier: dict[str, dict]) -> list[Job]:
    """A stem for each photo: its own, or with `_2`, `_3`, ... where that is taken.

    It follows from the list of all photos alone (and from `earlier` reports, by which a photo keeps
    the name that it had), so that every shard comes to the same. Stems are compared without regard
    to case, and none is that of an input that lies in `out`.
    """
    taken = {p.stem.lower() for p in photos if p.resolve().parent == out.resolve()}
    named = {key: Path(e["output"]).stem for key, e in earlier.items() if e.get("output")}
    taken |= {stem.lower() for stem in named.values()}
    jobs = []
    for photo in photos:
        stem = named.get(key_of(photo))
        if stem is None:
            stem, number = photo.stem, 1
            while stem.lower() in taken:
                number += 1
                stem = f"{photo.stem}_{number}"
        taken.add(stem.lower())
        jobs.append(Job(photo, stem))
    return jobs


def existing(job: Job, out: Path, earlier: dict[str, dict], format: str | None) -> Path | None:
    """The result of an earlier run for a photo, if there is one (in `format`, if that is given)."""
    entry = earlier.get(key_of(job.photo))
    suffixes = [job.photo.suffix]
    if format is not None:
        target = named_format(format)
        same = FORMATS.get(job.photo.suffix[1:].lower()) == target
        suffixes = [SUFFIXES[target], *(suffixes if same else [])]
    elif entry is not None and there(entry):
        return Path(entry["output"])
    for suffix in suffixes:
        path = out / f"{job.stem}{suffix}"
        if path.is_file():
            return path
    return None


class Claims:
    """Gives each result its path, and never one that holds somebody else's file.

    Args:
        inputs: files that are never overwritten.
        earlier: reports of earlier runs: the result of the same photo may be overwritten.
    """

    def __init__(self, inputs: Sequence[Path], earlier: dict[str, dict]):
        self._taken = {key_of(path).lower() for path in inputs}
        self._own = {key: e["output"] for key, e in earlier.items() if e.get("output")}
        self._lock = threading.Lock()

    def claim(self, photo: Path, path: Path, *, ours: bool = False) -> Path:
        """`path`, or with a number if it is taken or the file of somebody else is there.

        Args:
            photo: whose result it is.
            ours: nobody else writes into that folder: a file that is there may be overwritten.
        """
        own = self._own.get(key_of(photo))
        own = None if own is None else key_of(own)
        stem, suffix = os.path.splitext(path.name)
        found, number = path, 1
        with self._lock:
            while key_of(found).lower() in self._taken or (
                found.exists() and not ours and key_of(found) != own
            ):
                number += 1
                found = path.with_name(f"{stem}_{number}{suffix}")
            self._taken.add(key_of(found).lower())
        return found
