"""Lists of photos that people write and read: one photo a line, whatever its name.

A photo's label is its path below the folder it was found in, or its whole path where two folders
have the same one. A label that would not survive as a line (line breaks, spaces at its ends, a `#`
first, bytes that are no text) stands in double quotes as a JSON string.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path


def as_line(label: str) -> str:
    """The line of a list that means this label."""
    plain = label.isprintable() and label == label.strip() and label and label[0] not in '#"'
    return label if plain else json.dumps(label)


def read_list(path: Path | str) -> list[str]:
    """Labels in a list; empty lines and those that begin with # are passed over.

    Raises:
        FileNotFoundError: no such file. ValueError: no text, or a broken quotation.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give a text file with one photo a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}): save it as such") from error
    labels = []
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith('"'):
            try:
                line = json.loads(line)
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: {line} is no JSON string: mend the quotes"
                ) from error
        labels.append(line)
    return labels


def relative_to(photo: Path, folders: Iterable[Path]) -> str:
    """A photo's path below the first of `folders` that holds it, else its name."""
    for folder in folders:
        if photo != folder and photo.is_relative_to(folder):
            return photo.relative_to(folder).as_posix()
    return photo.name


def labels_of(photos: Sequence[Path], folders: Sequence[Path]) -> list[str]:
    """A different label for each photo."""
    short = [relative_to(photo, folders) for photo in photos]
    count = Counter(short)
    return [
        label if count[label] == 1 else str(photo.absolute())
        for label, photo in zip(short, photos)
    ]


def find_listed(
    wanted: Sequence[str], photos: Sequence[Path], folders: Sequence[Path], source: str
) -> tuple[set[int], list[str]]:
    """Which photos a list means: by their path, their path below a folder, or their bare name.

    A line that fits several photos means none of them: it is not for us to choose.

    Args:
        wanted: lines of the list.
        source: its name, for complaints.

    Returns:
        numbers of the photos, and one complaint per line that means no photo.
    """
    ways: list[dict[str, list[int]]] = [{}, {}, {}]
    for number, photo in enumerate(photos):
        names = str(photo.absolute()), relative_to(photo, folders), photo.name
        for way, name in zip(ways, names):
            way.setdefault(name, []).append(number)
    found, complaints = set(), []
    for line in wanted:
        matches = next((way[line] for way in ways if line in way), None)
        if matches is None:  # a path relative to where the command runs, or one with .. in it
            place = Path(line).resolve()
            matches = [n for n, photo in enumerate(photos) if photo.resolve() == place]
        if len(matches) == 1:
            found.add(matches[0])
        elif matches:
            several = f"may be any of {len(matches)} photos: give its whole path"
            complaints.append(f"{source}: {as_line(line)} {several}")
        else:
            complaints.append(f"{source}: {as_line(line)} is none of the photos: check its path")
    return found, complaints
