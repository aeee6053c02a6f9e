"""Train, validation and test: which examples may teach, and which may only judge.

The order of examples follows from their names and the seed, by a hash, and from nothing else: the
machine and the order in a file do not matter. Parts of a fixed size cannot stay as they are when
examples come or go, but one example more or less moves at most one other across each border.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path

SPLITS = ("train", "val", "test")


def ordered(names: Iterable[Hashable], seed: int = 0) -> list:
    """Names in the order of the hash of (seed, name): the order in which `split` deals them out."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())


def split(names: Iterable[Hashable], seed: int = 0, test: int = 100, val: float = 0.1) -> dict:
    """Divide names into `train`, `val` and `test`.

    Of the names in hash order the first `test` are withheld, a share `val` of the others follows,
    the rest trains. Each list comes sorted. A name that is added pushes at most one other from test
    to val, and moves at most one other between val and train; none gets from train into test.

    Args:
        names: image ids, or group names where near-duplicates must stay together; all different.
        test: number of names withheld for the last measurement.
        val: share of the remaining names that validate.

    Raises:
        ValueError: names twice, a negative or impossible `test`, `val` outside [0, 1), nothing
            left to train on.
    """
    names = list(names)
    if len(set(names)) != len(names):
        raise ValueError("split: names occur twice")
    if not 0 <= val < 1:
        raise ValueError(f"val={val}: give a share of at least 0 and less than 1")
    if not 0 <= test < max(len(names), 1):
        raise ValueError(
            f"test={test}: {len(names)} examples in all, at least one must be left to train on"
        )

    queue = ordered(names, seed)
    last = test + round(val * (len(queue) - test))
    if last >= len(queue):
        raise ValueError(f"test={test}, val={val}: none of {len(queue)} is left to train on")
    parts = queue[last:], queue[test:last], queue[:test]
    return {part: sorted(members) for part, members in zip(SPLITS, parts)}


def read_split(path: Path | str, part: str) -> list:
    """Names of one part of a `splits.json`.

    Raises:
        FileNotFoundError, ValueError: no such file, not such a file, or no such part.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: make it with `messi data people`")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file: {error}") from error
    if not isinstance(content, Mapping) or not isinstance(content.get(part), list):
        raise ValueError(f"{path} has no list {part!r}: expected {', '.join(SPLITS)}")
    return content[part]
