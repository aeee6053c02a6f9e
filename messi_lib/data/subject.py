"""Photos of the one subject that the generator learns: a folder of photos, or the world `pitch`.

Both come as uint8 (N, S, S, 3), cropped square without bending anybody, made once and then mapped
into memory. Exact copies are dropped: a photo that is there three times is learnt three times, and
spoils every statistic (post-mortems 10 and 11).
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from tqdm import tqdm

from messi_lib import runs
from messi_lib.data import pitch
from messi_lib.data.cache import cached_array, file_hash, key_of, pitch_hash
from messi_lib.data.crops import Finder, Framing, Window, find_focus, windows
from messi_lib.data.crops import crop as cut_square
from messi_lib.data.splits import read_split
from messi_lib.images import list_photos, load_photo

KIND = "subject"
CURATED = ("splits.json", "groups.json")  # in a folder that `curate` made
Crop = Literal["auto", "face", "person", "centre"]
# Changed code must not meet old pictures: what decodes, looks for faces, places and cuts windows.
CROP_SOURCES = ("data/crops.py", "data/faces.py", "images.py", "photos.py", "native.py")


class SubjectImages(np.ndarray):
    """uint8 (N, S, S, 3) with the story of its photos; slices and copies are bare images.

    Attributes:
        files: path of each image's photo, in order; once for each of its crops.
        crops: how each was cropped, "face", "person" or "centre".
        windows: (top, left, side) of each in its photo, in pixels.
        failed: (path, reason) of the photos that could not be read.
        duplicates: (path, path of the equal photo that was kept).
    """

    files: tuple[str, ...]
    crops: tuple[str, ...]
    windows: tuple[Window, ...]
    failed: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, str], ...]

    def __array_finalize__(self, source: object) -> None:
        self.files = self.crops = self.windows = self.failed = self.duplicates = ()


def photos_of(folder: Path | str, part: str = "train") -> list[Path]:
    """Photos of a folder: of one that `messi data subject` made those of a split, else all in it.

    Args:
        part: "train", or "test" for the photos that were held out.

    Raises:
        FileNotFoundError, ValueError: as `list_photos`; photos of the split are gone, or none is in
            it.
    """
    folder = Path(folder)
    if not all((folder / name).is_file() for name in CURATED):
        return list_photos([folder])
    photos = [Path(name) for name in read_split(folder / CURATED[0], part)]
    gone = [path for path in photos if not path.is_file()]
    again = "run `messi data subject` again"
    if gone:
        raise FileNotFoundError(f"{len(gone)} photos of {folder} are gone, {gone[0]}: {again}")
    if not photos:
        raise ValueError(f"{folder} has no photos in its split {part!r}: {again} with --accept")
    return photos


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
    """What tells a finder from others: its `key` (as FaceFinder's), else the name of its code."""
    if finder is None:
        return "none"
    named = finder if hasattr(finder, "__qualname__") else type(finder)
    return str(getattr(finder, "key", f"{named.__module__}.{named.__qualname__}"))


def _finders(
    crop_to: Crop, finder: Finder | None, face_finder: Finder | None
) -> tuple[Finder | None, Finder | None]:
    """The person and the face finder that a way of cropping asks."""
    if crop_to not in get_args(Crop):
        raise ValueError(f"crop={crop_to!r}: use one of {', '.join(get_args(Crop))}")
    if crop_to == "person" and finder is None or crop_to == "face" and face_finder is None:
        raise ValueError(f"crop={crop_to!r} needs a finder: give one, or crop 'auto' or 'centre'")
    return (
        finder if crop_to in ("auto", "person") else None,
        face_finder if crop_to in ("auto", "face") else None,
    )


def _taking_turns(finder: Finder | None) -> Finder | None:
    """The same finder, asked by one thread at a time."""
    if finder is None:
        return None
    lock = threading.Lock()

    def ask(pixels: np.ndarray) -> np.ndarray:
        with lock:
            return finder(pixels)

    return ask


def load_subject(
    folder: Path | str | Iterable[Path | str],
    size: int,
    finder: Finder | None = None,
    finder_key: str | None = None,
    *,
    face_finder: Finder | None = None,
    crop: Crop = "auto",
    crops_per_photo: int = 1,
    framing: Framing | None = None,
    seed: int = 0,
) -> SubjectImages:
    """All readable photos of a folder (or several), cropped to squares of `size` pixels.

    Made once and then mapped into memory; another photo or option makes another cache.

    Args:
        folder: searched recursively; single files are allowed; of a folder that `messi data
            subject` made the photos to train on.
        size: side of the crops in pixels.
        finder: finds people (see `crops`), asked where no face is found. Called one at a time.
        finder_key: names the finder in the cache, e.g. a hash of its weights. Default: its `key`,
            or the name of its function or class, which does not tell two sets of weights apart.
        face_finder: finds faces, as `faces.FaceFinder` does; named by its `key` in the same way.
            Called from several threads at once.
        crop: to what: "face" or "person", else the middle; "auto", the face, else the person, else
            the middle, as far as there are finders; "centre", the middle of all photos.
        crops_per_photo: at most so many different crops of each photo, see `crops.windows`. They
            are no independent photos: leave it at 1 for statistics.
        framing: how tight the crops are; None: as `Framing` has it.
        seed: of the further crops.

    Returns:
        uint8 (N, S, S, 3), memory-mapped, sorted by path, with the attributes of SubjectImages.

    Raises:
        FileNotFoundError: no such folder. ValueError: no photo in it, or none that can be read; an
            unknown crop, or one whose finder is missing; crops_per_photo below 1.
    """
    if crops_per_photo < 1:
        raise ValueError(f"crops_per_photo={crops_per_photo}: a photo has at least one crop")
    framing = framing or Framing()
    person_finder, face_finder = _finders(crop, finder, face_finder)
    sources = [folder] if isinstance(folder, (str, Path)) else list(folder)
    hashes, copies = _without_copies(
        list_photos(photo for source in sources for photo in photos_of(source))
    )
    photos = list(hashes)
    options = {
        "size": size,
        "crop": crop,
        "person_finder": (finder_key or _name_of(finder)) if person_finder else "none",
        "face_finder": _name_of(face_finder),
        "crops_per_photo": crops_per_photo,
        "framing": dataclasses.asdict(framing),
        "seed": seed if crops_per_photo > 1 else None,
    }
    package = Path(__file__).parents[1]
    code = [file_hash(package / name) for name in CROP_SOURCES]
    version = key_of([(str(path), content) for path, content in hashes.items()], copies, code)
    where = [str(Path(source).resolve()) for source in sources]
    name = f"{key_of(where, options)[:12]}_{size}px"
    record = runs.cache_dir() / KIND / f"{name}-{version}.json"
    turns = _taking_turns(person_finder)

    def cut(path: Path) -> list[tuple[np.ndarray, str, Window]] | str:
        """The crops of a photo, how they were made, and their windows; or why there are none."""
        try:
            pixels = load_photo(path).pixels
        except (ValueError, OSError) as error:
            return str(error)
        focus = find_focus(pixels, size, turns, face_finder, framing)
        # Named by its content: the same photo elsewhere has the same windows.
        found = windows(focus, pixels.shape[:2], crops_per_photo, size, seed, hashes[path])
        return [(cut_square(pixels, window, size), focus.how, window) for window in found]

    def fill(target: np.ndarray) -> None:
        story: dict = {"options": options, "files": [], "hashes": [], "crops": [], "windows": []}
        story |= {"failed": [], "duplicates": copies}
        for path, found in _in_threads(cut, photos, f"cropping {name}"):
            if isinstance(found, str):
                story["failed"].append((str(path), found))
                continue
            for image, how, window in found:
                target[len(story["files"])] = image
                story["files"].append(str(path))
                story["hashes"].append(hashes[path])
                story["crops"].append(how)
                story["windows"].append(window)
        if not story["files"]:
            reason = story["failed"][0][1]
            raise ValueError(f"none of {len(photos)} photos in {sources[0]} can be read: {reason}")
        # The story comes first: the array, once it has its name, is complete with it.
        runs.atomic_write(record, json.dumps(story, indent=1))

    if _story(record) is None:
        record.with_suffix(".npy").unlink(missing_ok=True)  # an array whose story is lost
    shape = (len(photos) * crops_per_photo, size, size, 3)
    array = cached_array(KIND, name, version, shape, fill)
    story = _story(record)
    if story is None:
        raise ValueError(f"{record} was deleted while it was read: load the photos again")
    images = array[: len(story["files"])].view(SubjectImages)
    images.files, images.crops = tuple(story["files"]), tuple(story["crops"])
    images.windows = tuple(map(tuple, story["windows"]))
    images.failed = tuple(map(tuple, story["failed"]))
    images.duplicates = tuple(map(tuple, story["duplicates"]))
    return images


def _in_threads(work: Callable, photos: list[Path], title: str) -> Iterable[tuple[Path, object]]:
    """(photo, what `work` makes of it), in order; decoding, OpenCV and torch release the lock."""
    quiet = len(photos) < 200 or None  # None: a bar on terminals only
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    try:
        results = zip(photos, pool.map(work, photos))
        yield from tqdm(results, desc=title, total=len(photos), disable=quiet)
    finally:  # also when the reader stops early, or Ctrl-C: nothing more is begun
        pool.shutdown(cancel_futures=True)


def _story(record: Path) -> dict | None:
    """What was written beside an array; None if it is absent, torn or something else."""
    try:
        story = json.loads(record.read_text())
    except (OSError, ValueError):
        return None
    wanted = {"files", "crops", "windows", "failed", "duplicates"}
    return story if isinstance(story, dict) and story.keys() >= wanted else None


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
