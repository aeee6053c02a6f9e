"""Which photos of the subject are used, and on which side of the split: measures become verdicts.

Weak reasons only warn, since nobody should lose a photo by a rule of thumb; the user's own lists
overrule everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from messi_lib.data import duplicates
from messi_lib.data.measured import Entry
from messi_lib.data.quality import CERTAIN, Limits, odd_ones_out, reasons_of, strangers
from messi_lib.data.splits import split


@dataclass
class Verdict:
    """What is known of one photo, and what becomes of it."""

    label: str
    path: Path
    entry: Entry | None = None
    problem: str = ""
    reasons: list[str] = field(default_factory=list)
    duplicate_of: int | None = None
    oddness: float | None = None
    group: int | None = None
    split: str = ""
    keep: bool = True
    decided_by: str = "rule"


def words(photo: Verdict, photos: Sequence[Verdict]) -> list[str]:
    """The reasons of one photo as a report has them: a duplicate names the photo that is kept."""
    return [
        f"duplicate_of:{photos[photo.duplicate_of].label}" if reason == "duplicate" else reason
        for reason in photo.reasons
    ]


def _mark_odd(readable: Sequence[Verdict], limits: Limits, identity: bool) -> None:
    """Find the odd ones among the photos that are not rejected; faces only compare with faces."""
    for of_face in (True, False):
        alike = [
            photo
            for photo in readable
            if photo.entry.vector is not None
            and photo.entry.of_face == of_face
            and not set(photo.reasons) & set(CERTAIN)
        ]
        if not alike:
            continue
        vectors = np.stack([photo.entry.vector for photo in alike])
        if identity:
            oddness, odd = strangers(vectors, limits.stranger)
        else:
            groups = [photo.group for photo in alike]
            oddness, odd = odd_ones_out(vectors, groups, limits.oddness)
        for photo, value, is_odd in zip(alike, oddness, odd):
            photo.oddness = None if np.isnan(value) else float(value)
            if is_odd:
                photo.reasons.append("odd_one_out")


def deal_out(photos: Sequence[Verdict], holdout: float, seed: int) -> None:
    """Give every kept photo its split; a group goes to one side as a whole.

    A group is dealt out by the contents of all its photos, kept or not: what is accepted or
    rejected later does not shuffle the others.
    """
    contents: dict[int, str] = {}
    for photo in photos:
        if photo.entry is not None:
            content = photo.entry.print.content
            contents[photo.group] = min(content, contents.get(photo.group, content))
    used = sorted({contents[photo.group] for photo in photos if photo.keep})
    if not used:
        return
    withheld = min(round(holdout * len(used)), len(used) - 1)
    parts = split(used, seed, test=withheld, val=0)
    place = {name: part for part, names in parts.items() for name in names}
    for photo in photos:
        if photo.keep:
            photo.split = place[contents[photo.group]]


def judge(
    photos: Sequence[Verdict],
    pairs: Sequence[duplicates.Pair],
    accepted: set[int],
    rejected: set[int],
    limits: Limits,
    strict: bool,
    identity: bool = False,
) -> int:
    """Fill in reasons, groups and verdicts; returns how many related pairs were given up.

    Args:
        photos: all, the unreadable ones with their problem.
        pairs: numbers count the readable photos only.
        accepted, rejected: numbers of photos that the user has decided on.
        strict: every reason rejects.
        identity: the vectors tell people apart.
    """
    for photo in photos:
        photo.reasons = ["unreadable"] if photo.problem else reasons_of(
            photo.entry.measures, limits
        )  # fmt: skip
    numbers = [number for number, photo in enumerate(photos) if photo.entry is not None]
    readable = [photos[number] for number in numbers]
    # A photo that is too small is no reason for another one to go; one that the user rejects is:
    # whatever is wrong with it would come back with its copy, unasked.
    scores = [
        -1.0 if "too_small" in photo.reasons else photo.entry.measures.detail for photo in readable
    ]
    # Of versions with the same detail a larger file, by a tenth at least, has lost less.
    sizes = [round(math.log(max(photo.path.stat().st_size, 1), 1.1)) for photo in readable]
    for worse, better in duplicates.keep_best(scores, pairs, sizes).items():
        readable[worse].reasons.insert(0, "duplicate")
        readable[worse].duplicate_of = numbers[better]
    largest = max(20, len(readable) // 10)
    groups, given_up = duplicates.group(len(readable), pairs, largest)
    for photo, group in zip(readable, groups):
        photo.group = numbers[group]
    _mark_odd(readable, limits, identity)
    for number, photo in enumerate(photos):
        against = photo.reasons if strict else set(photo.reasons) & set(CERTAIN)
        photo.keep = not against
        if photo.entry is not None and number in accepted | rejected:
            photo.keep = number in accepted
            photo.decided_by = "accept" if photo.keep else "reject"
    return len(given_up)
