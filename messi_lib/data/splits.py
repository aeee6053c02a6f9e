"""Train, validation and test: which examples may teach, and which may only judge.

The place of an example follows from its own name and the seed, by a hash: more examples, another
order or another machine move no other example across the border.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path

SPLITS = ("train", "val", "test")


def split(names: Iterable[Hashable], seed: int = 0, test: int = 100, val: float = 0.1) -> dict:
    """Divide names into `train`, `val` and `test`.

    Names are ordered by the hash of (seed, name): the first `test` are withheld, a share `val` of
    the others follows. Each list comes sorted.

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

    def place(name: Hashable) -> str:
        return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()

    ordered = sorted(names, key=place)
    last = test + round(val * (len(ordered) - test))
    parts = ordered[last:], ordered[test:last], ordered[:test]
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
