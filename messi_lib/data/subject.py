"""Photos of the one subject that the generator learns: a folder of photos, or the world `pitch`.

Both come as uint8 (N, S, S, 3), cropped square without bending anybody, made once and then mapped
into memory. Exact copies are dropped: a photo that is there three times is learnt three times, and
spoils every statistic (post-mortems 10 and 11).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from messi_lib import runs
from messi_lib.data import pitch
from messi_lib.data.cache import cached_array, file_hash, key_of, pitch_hash
from messi_lib.data.crops import Finder, auto_crop
from messi_lib.images import list_photos, load_photo

KIND = "subject"


class SubjectImages(np.ndarray):
    """uint8 (N, S, S, 3) with the story of its photos; slices and copies are bare images.

    Attributes:
        files: path of each image's photo, in order.
        crops: how each was cropped, "person" or "centre".
        failed: (path, reason) of the photos that could not be read.
        duplicates: (path, path of the equal photo that was kept).
    """

    files: tuple[str, ...]
    crops: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, str], ...]

    def __array_finalize__(self, source: object) -> None:
        self.files = self.crops = self.failed = self.duplicates = ()


def _without_copies(paths: list[Path]) -> tuple[dict[Path, str], list[tuple[str, str]]]:
    """Photos with different bytes and their hashes; and the copies, each with its original."""
    first: dict[str, Path] = {}
    copies = []
    for path in paths:
        content = file_hash(path)
        if content in first:
            copies.append((str(path), str(first[content])))
        else:
            first[content] = path
    return {path: content for content, path in first.items()}, copies


def _name_of(finder: Finder | None) -> str:
    if finder is None:
        return "none"
    named = finder if hasattr(finder, "__qualname__") else type(finder)
    return f"{named.__module__}.{named.__qualname__}"


def load_subject(
    folder: Path | str | Iterable[Path | str],
    size: int,
    finder: Finder | None = None,
    finder_key: str | None = None,
) -> SubjectImages:
    """All readable photos of a folder (or several), cropped to squares of `size` pixels.

    Args:
        folder: searched recursively; single files are allowed.
        size: side of the crops in pixels.
        finder: finds people (see `crops`); without one the middle of each photo is taken.
        finder_key: names the finder in the cache, e.g. a hash of its weights. Default: the name
            of its function or class, which does not tell two sets of weights apart.

    Returns:
        uint8 (N, S, S, 3), memory-mapped, sorted by path, with the attributes of SubjectImages.

    Raises:
        FileNotFoundError: no such folder. ValueError: no photo in it, or none that can be read.
    """
    sources = [folder] if isinstance(folder, (str, Path)) else list(folder)
    hashes, copies = _without_copies(list_photos(sources))
    photos = list(hashes)
    listing = [(str(path), content) for path, content in hashes.items()]
    version = key_of(listing, copies)
    where = [str(Path(source).resolve()) for source in sources]
    name = f"{key_of(where, finder_key or _name_of(finder))[:12]}_{size}px"
    stored = runs.cache_dir() / KIND / f"{name}-{version}.npy"
    record = stored.with_suffix(".json")

    def fill(target: np.ndarray) -> None:
        story = {"files": [], "crops": [], "failed": [], "duplicates": copies}
        quiet = len(photos) < 200 or None  # None: a bar on terminals only
        for path in tqdm(photos, desc=f"cropping {name}", disable=quiet):
            try:
                pixels = load_photo(path).pixels
            except (ValueError, OSError) as error:
                story["failed"].append((str(path), str(error)))
                continue
            image, how = auto_crop(pixels, size, finder)
            target[len(story["files"])] = image
            story["files"].append(str(path))
            story["crops"].append(how)
        if not story["files"]:
            reason = story["failed"][0][1]
            raise ValueError(f"none of {len(photos)} photos in {sources[0]} can be read: {reason}")
        # The story comes first: the array, once it has its name, is complete with it.
        runs.atomic_write(record, json.dumps(story, indent=1))

    if _story(record) is None:
        stored.unlink(missing_ok=True)  # an array whose story is lost
    array = cached_array(KIND, name, version, (len(photos), size, size, 3), fill)
    story = _story(record)
    if story is None:
        raise ValueError(f"{record} was deleted while it was read: load the photos again")
    images = array[: len(story["files"])].view(SubjectImages)
    images.files, images.crops = tuple(story["files"]), tuple(story["crops"])
    images.failed = tuple(map(tuple, story["failed"]))
    images.duplicates = tuple(map(tuple, story["duplicates"]))
    return images


def _story(record: Path) -> dict | None:
    try:
        return json.loads(record.read_text())
    except (OSError, ValueError):
        return None


def pitch_subject(n: int, size: int, seed: int = 0, kit: str | None = None) -> np.ndarray:
    """`n` photos of the procedural world's number 10, uint8 (n, S, S, 3), memory-mapped.

    Args:
        kit: one of `pitch.KITS`, or None for all of them.

    Raises:
        ValueError: n below 1, or an unknown kit.
    """
    if n < 1:
        raise ValueError(f"n={n}: at least one photo is needed")
    if kit is not None and kit not in pitch.KITS:
        raise ValueError(f"unknown kit {kit!r}: use one of {', '.join(pitch.KITS)}")

    def fill(target: np.ndarray) -> None:
        quiet = n < 200 or None  # None: a bar on terminals only
        for index in tqdm(range(n), desc="drawing the subject", disable=quiet):
            target[index] = pitch.subject_scene(seed, index, size, kit=kit).image

    name = f"{n}_of_{size}px_seed{seed}_{kit or 'all'}".replace("-", "_")
    return cached_array("pitch_subject", name, pitch_hash(), (n, size, size, 3), fill)
