"""From folders of photos to a collection that can be trusted, without deleting anything.

What is measured gives reasons; reasons and the user's own lists give a verdict; the verdicts are
written as a table, as a page to look at and as lists that training reads. Only what is certain
rejects a photo (it is unreadable, too small, or another copy is kept); everything else only warns.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from messi_lib import runs
from messi_lib.data import duplicates
from messi_lib.data.cache import file_hash, key_of
from messi_lib.data.contact_sheet import LIMIT, Card, Section, contact_sheet
from messi_lib.data.measured import Entry, measure_all
from messi_lib.data.photo_lists import as_line, find_listed, labels_of, read_list
from messi_lib.data.quality import (
    CERTAIN,
    REASONS,
    Embedding,
    FaceBoxes,
    Limits,
    measures_to_dict,
)
from messi_lib.data.verdicts import Verdict, deal_out, judge, words
from messi_lib.images import list_photos

MARK = "groups.json"  # by this file a folder is known to be made here
_CODE = ("duplicates.py", "fingerprints.py")


@dataclass(frozen=True)
class Curated:
    """A curated collection.

    Attributes:
        photos: in the order of their folders.
        complaints: lines of --accept and --reject that mean no photo.
        given_up: related pairs that were not kept together, see `duplicates.group`.
    """

    photos: list[Verdict]
    complaints: list[str]
    given_up: int

    def kept(self) -> list[Verdict]:
        """Photos to be used."""
        return [photo for photo in self.photos if photo.keep]

    def counts(self) -> Counter:
        """How many photos have each reason."""
        return Counter(reason for photo in self.photos for reason in photo.reasons)

    def largest_group(self) -> int:
        """Size of the largest group of photos that stay on one side of the split."""
        sizes = Counter(photo.group for photo in self.photos if photo.group is not None)
        return max(sizes.values(), default=0)


def photos_in(folders: Sequence[Path], out: Path) -> list[Path]:
    """All photos in the folders, those in `out` left aside.

    Raises:
        FileNotFoundError: no such folder. ValueError: no folder, none with photos, `out` is one of
            the folders, or holds something that was not made here.
    """
    if not folders:
        raise ValueError("no input: give folders of photos")
    place = out.resolve()
    if any(folder.resolve() == place for folder in folders):
        raise ValueError(f"the output folder {out} is an input folder: choose another --out")
    if out.is_file():
        raise ValueError(f"{out} is a file: choose another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise ValueError(f"{out} holds other files: choose an empty or new folder as --out")
    photos = [path for path in list_photos(folders) if place not in path.resolve().parents]
    if not photos:
        raise ValueError(f"all photos lie in the output folder {out}: choose another --out")
    return photos


def _pairs(entries: Sequence[Entry], out: Path) -> tuple[list[duplicates.Pair], str]:
    """Pairs among the photos, read from `out` if the same photos were compared the last time."""
    code = [file_hash(Path(__file__).parent / name) for name in _CODE]
    key = key_of([entry.print.content for entry in entries], code)
    try:
        stored = json.loads((out / MARK).read_text())
        if stored["key"] == key:
            return [duplicates.Pair(**pair) for pair in stored["pairs"]], key
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return duplicates.find_duplicates([entry.print for entry in entries]), key


def curate(
    folders: Sequence[Path | str],
    out: Path | str,
    *,
    faces: FaceBoxes | None = None,
    embed: Embedding | None = None,
    model_key: str = "",
    accept: Path | str | None = None,
    reject: Path | str | None = None,
    strict: bool = False,
    holdout: float = 0.1,
    seed: int = 0,
    limits: Limits | None = None,
    workers: int = 1,
) -> Curated:
    """Judge the photos of some folders and write what came of it into `out`.

    Writes report.csv, report.html, splits.json (`train`, `val`, `test`: whole paths of kept photos;
    `test` is the holdout, `val` is empty), kept.txt (the kept photos, both splits) and groups.json.
    The same call again takes seconds: measures are kept in the cache, pairs in groups.json.

    Args:
        folders: searched recursively; single files are allowed.
        faces, embed, model_key, workers: see `measured.measure_all`.
        accept, reject: lists of photos that are kept or left out whatever their reasons.
        strict: every reason rejects, not only the certain ones.
        holdout: share of the groups that is withheld from training, 0 to less than 1.
        seed: of the split.
        limits: None: as `Limits` has them.

    Raises:
        FileNotFoundError, ValueError: as `photos_in` and `read_list`; no photo can be read; one
            photo is in both lists; an impossible holdout.
    """
    if not 0 <= holdout < 1:
        raise ValueError(f"holdout={holdout}: give a share of at least 0 and less than 1")
    places, out = [Path(folder) for folder in folders], Path(out)
    paths = photos_in(places, out)
    listed: list[set[int]] = []
    complaints: list[str] = []
    for name in (accept, reject):
        found, unknown = set(), []
        if name is not None:
            found, unknown = find_listed(read_list(name), paths, places, str(name))
        listed.append(found)
        complaints += unknown
    labels = labels_of(paths, places)
    twice = sorted(listed[0] & listed[1])
    if twice:
        raise ValueError(
            f"{as_line(labels[twice[0]])} is in {accept} and in {reject}: remove it from one"
            + (f" ({len(twice)} such photos)" if len(twice) > 1 else "")
        )
    photos = []
    measured = measure_all(paths, faces, embed, model_key, workers)
    for path, label, found in zip(paths, labels, measured):
        entry, problem = (None, found) if isinstance(found, str) else (found, "")
        photos.append(Verdict(label, path, entry, problem))
    for number in sorted(listed[0]):
        if photos[number].problem:
            complaints.append(f"{accept}: {as_line(labels[number])} cannot be read, nor accepted")
    entries = [photo.entry for photo in photos if photo.entry is not None]
    if not entries:
        raise ValueError(f"none of {len(photos)} photos can be read: {photos[0].problem}")
    pairs, key = _pairs(entries, out)
    identity = getattr(embed, "of_faces", False)
    given_up = judge(photos, pairs, *listed, limits or Limits(), strict, identity)
    deal_out(photos, holdout, seed)
    result = Curated(photos, complaints, given_up)
    _write(result, pairs, key, out)
    return result


def _table(photos: Sequence[Verdict]) -> str:
    """report.csv: a line per photo."""
    rows = []
    for photo in photos:
        row = {"photo": photo.label, "verdict": "keep" if photo.keep else "reject"}
        row |= {"decided_by": photo.decided_by, "reasons": "; ".join(words(photo, photos))}
        row |= {"split": photo.split, "group": photo.group}
        row |= measures_to_dict(photo.entry.measures) if photo.entry else {}
        row |= {"oddness": None if photo.oddness is None else round(photo.oddness, 2)}
        rows.append(row | {"problem": photo.problem, "path": str(photo.path.absolute())})
    columns = list(max(rows, key=len))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _sheet(result: Curated) -> str:
    """report.html: a section per reason, then the photos without any."""
    photos = result.photos

    def card(photo: Verdict, reason: str) -> Card:
        shown = [photo]
        if reason == "duplicate":
            shown.append(photos[photo.duplicate_of])
        pictures = tuple(item.entry.thumbnail for item in shown if item.entry is not None)
        notes = [*words(photo, photos), photo.problem]
        if photo.entry is not None:
            notes.insert(0, f"{photo.entry.measures.width} x {photo.entry.measures.height}")
        note = " · ".join(note for note in notes if note)
        verdict = "keep" if photo.keep else "reject"
        return Card(photo.label, as_line(photo.label), pictures, verdict, note)

    sections = []
    for reason, explanation in REASONS.items():
        cards = [card(photo, reason) for photo in photos if reason in photo.reasons]
        effect = "Left out, unless accepted." if reason in CERTAIN else "Only a warning."
        sections.append(Section(reason.replace("_", " "), f"{explanation} {effect}", cards))
    for verdict, word in (("accept", "accepted"), ("reject", "rejected")):
        cards = [card(photo, "") for photo in photos if photo.decided_by == verdict]
        sections.append(Section(f"{word} by you", f"Named by --{verdict}.", cards))
    flawless = [card(photo, "") for photo in photos if photo.keep and not photo.reasons]
    sections.append(Section("nothing found", "Kept photos without any reason.", flawless))
    kept = result.kept()
    withheld = sum(photo.split == "test" for photo in kept)
    summary = (
        f"{len(kept)} of {len(photos)} photos are kept: {len(kept) - withheld} to train on, "
        f"{withheld} held out."
    )
    return contact_sheet("Photos of the subject", summary, sections, LIMIT)


def _write(result: Curated, pairs: Sequence[duplicates.Pair], key: str, out: Path) -> None:
    photos = result.photos
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for photo in result.kept():
        splits[photo.split].append(str(photo.path.absolute()))
    members: dict[int, list[str]] = {}
    for photo in photos:
        if photo.group is not None:
            members.setdefault(photo.group, []).append(photo.label)
    groups = {str(number): names for number, names in members.items() if len(names) > 1}
    content = {"key": key, "groups": groups, "pairs": runs.to_json(list(pairs))}
    lines = ["# photos that are kept, the holdout too", *(as_line(p.label) for p in result.kept())]
    runs.atomic_write(out / MARK, json.dumps(content, indent=1))
    table = _table(photos).encode(errors="backslashreplace")
    runs.atomic_write(out / "report.csv", table)
    runs.atomic_write(out / "report.html", _sheet(result))
    runs.atomic_write(out / "kept.txt", "\n".join(lines) + "\n")
    runs.atomic_write(out / "splits.json", json.dumps(splits, indent=1))
