"""Where results may go: an output folder that can be written, is no input, and loses nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from .images import list_photos


def photos_outside(inputs: list[Path], out: Path) -> list[Path]:
    """All photos of the inputs, without those in `out`: results are never taken for inputs.

    Raises:
        ValueError: no input, `out` is an input, or all photos lie in `out`.
        FileNotFoundError: an input that does not exist.
    """
    place = out.resolve()
    if not inputs:
        raise ValueError("no input: give photos or folders")
    for path in inputs:
        if path.is_dir() and path.resolve() == place:
            raise ValueError(f"the output folder {out} is an input folder: choose another --out")
    photos = list_photos(inputs)
    kept = [p for p in photos if p in inputs or place not in p.resolve().parents]
    if not kept:
        raise ValueError(f"all photos lie in the output folder {out}: choose another --out")
    return kept


def check_writable(folder: Path) -> None:
    """Raise PermissionError unless files can be made in `folder`, which need not exist yet.

    It is tried out, not only asked: permissions do not tell of full or read-only disks.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        if not place.is_dir():
            raise NotADirectoryError(f"{place} is a file")
        if not os.access(place, os.W_OK):
            raise PermissionError("it is read-only")
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise PermissionError(
            f"{folder} cannot be written ({reason}): use another --out"
        ) from error
