"""The subject with its outline: images whose fourth channel is the share of the subject in a pixel.

A generator that fills holes learns by hiding the subject from itself, so it needs to know where the
subject is. The procedural world knows; in a folder of photos a segmenter says so. The drawn subject
can also be set into any photo (`pitch_collages`): what surrounds a hole in real photos then is no
news to a generator that has only ever seen drawn grass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from messi_lib.data import pitch
from messi_lib.data.cache import cached_array, file_hash, key_of, pitch_hash
from messi_lib.images import load_photo

KIND = "cutouts"
FINE = 4  # scenes are drawn so many times larger than wanted, for an outline with shades
BACKDROPS = 64  # squares cut from one photo at most before it is read again
LEAST = 0.03  # share of a crop that somebody covers: less is a speck, or far away
CLOSE = (0.4, 0.8)  # side of a close-up, as a share of the figure's height
CAST = 0.25  # most that a figure's channels are scaled towards the light of the photo


def _shrink(values: np.ndarray, size: int) -> np.ndarray:
    return cv2.resize(values, (size, size), interpolation=cv2.INTER_AREA)


def _cutout(
    seed: int, index: int, size: int, kit: str | None, close_ups: float
) -> tuple[np.ndarray, np.ndarray]:
    """A drawn photo of the number 10 and his coverage: float32 (S, S, 3), (S, S, 1) in [0, 1]."""
    rng = np.random.default_rng([seed, index, 5])
    near = rng.random() < close_ups  # of it less is taken: it is drawn larger
    scene = pitch.subject_scene(seed, index, min(FINE * size * (1 + near), 1024), kit=kit)
    image, ten = scene.image, scene.persons[scene.number10]
    if near:
        rows, columns = _close_up(ten, rng)
        image, ten = image[rows, columns], ten[rows, columns]
    cover = _shrink(ten.astype(np.float32), size)[..., None]
    return _shrink(image.astype(np.float32) / 255, size), cover


def _close_up(person: np.ndarray, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a square around somebody's head and chest; the rest is cut off below."""
    rows = np.flatnonzero(person.any(1))
    height = rows[-1] + 1 - rows[0]
    side = min(max(round(height * rng.uniform(*CLOSE)), 2), min(person.shape))
    top = int(rows[0] - side * rng.uniform(0.05, 0.25))
    top = min(max(top, 0), person.shape[0] - side)
    centre = np.flatnonzero(person[top : top + side // 2].any(0)).mean()
    left = int(centre - side * rng.uniform(0.4, 0.6))
    left = min(max(left, 0), person.shape[1] - side)
    return slice(top, top + side), slice(left, left + side)


def _bytes(image: np.ndarray, cover: np.ndarray) -> np.ndarray:
    return np.rint(np.concatenate([image, cover], 2) * 255).clip(0, 255).astype(np.uint8)


def pitch_cutouts(
    n: int, size: int, seed: int = 0, kit: str | None = None, close_ups: float = 0.0
) -> np.ndarray:
    """`n` photos of the procedural number 10 with his coverage, uint8 (n, S, S, 4), memory-mapped.

    Args:
        kit: one of `pitch.KITS`, or None for all of them.
        close_ups: share of them that show head and chest only, or down to the knees.

    Raises:
        ValueError: n below 1, an unknown kit, or a share outside [0, 1].
    """
    _check(n, kit, close_ups)

    def fill(target: np.ndarray) -> None:
        for index in _counted(n, "drawing the subject"):
            target[index] = _bytes(*_cutout(seed, index, size, kit, close_ups))

    name = f"pitch_{n}_of_{size}px_seed{seed}_{kit or 'all'}_close{round(100 * close_ups)}"
    name = name.replace("-", "_")
    return cached_array(KIND, name, _version(), (n, size, size, 4), fill)


def pitch_collages(
    photos: Sequence[Path],
    n: int,
    size: int,
    seed: int = 0,
    kit: str | None = None,
    close_ups: float = 0.0,
) -> np.ndarray:
    """The drawn number 10 set into squares of photos, uint8 (n, S, S, 4), memory-mapped.

    The squares lie anywhere, at any scale from a quarter of the photo's short side up. The figure
    is given part of the photo's light: the mean colour of each is compared, and the figure's
    channels are scaled towards the photo's, by CAST at most.

    Args:
        photos: files to take surroundings from; whoever is on them is surroundings too.
        kit, close_ups: as in `pitch_cutouts`.

    Raises:
        ValueError: as `pitch_cutouts`; no photos. Others: as `load_photo`.
    """
    _check(n, kit, close_ups)
    if not photos:
        raise ValueError("no photos to set the subject into: give some")

    def fill(target: np.ndarray) -> None:
        rng = np.random.default_rng([seed, n, size])
        for start in _counted(range(0, n, BACKDROPS), "collages"):
            pixels = load_photo(photos[(start // BACKDROPS) % len(photos)]).pixels
            for index in range(start, min(start + BACKDROPS, n)):
                figure, cover = _cutout(seed, index, size, kit, close_ups)
                back = _square(pixels, size, rng)
                target[index] = _bytes(_lit(figure, cover, back), cover)
        rng.shuffle(target)  # neighbours would share their photo

    content = [file_hash(photo) for photo in photos]
    name = f"collages_{n}_of_{size}px_seed{seed}_{kit or 'all'}_close{round(100 * close_ups)}"
    name = name.replace("-", "_")
    return cached_array(KIND, name, key_of(_version(), content), (n, size, size, 4), fill)


def photo_cutouts(images: np.ndarray, finder: Callable, size: int) -> np.ndarray:
    """Crops of photos with what a finder takes for people, uint8 (N, size, size, 4).

    Args:
        images: uint8 (N, L, L, 3), L at least `size`: large enough for the finder to see people.
        finder: pixels (L, L, 3) -> bool (L, L).

    Returns:
        As many as show somebody; crops in which the finder finds nobody, or hardly anybody (less
        than LEAST), are left out.

    Raises:
        ValueError: nobody is found in any.
    """
    found, n = np.empty((len(images), size, size, 4), np.uint8), 0
    for pixels in tqdm(images, desc="finding the subject", disable=len(images) < 200 or None):
        person = finder(pixels)
        if person.mean() >= LEAST:
            cover = _shrink(person.astype(np.float32), size)[..., None]
            found[n] = _bytes(_shrink(pixels.astype(np.float32) / 255, size), cover)
            n += 1
    if not n:
        raise ValueError(f"nobody was found in {len(images)} photos: is it the right segmenter?")
    return found[:n]


def _square(pixels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random square of a photo, float32 (size, size, 3) in [0, 1]; mirrored half of the time."""
    short = min(pixels.shape[:2])
    side = max(int(short * rng.uniform(0.25, 1)), min(size, short))
    top, left = (int(rng.integers(length - side + 1)) for length in pixels.shape[:2])
    square = _shrink(pixels[top : top + side, left : left + side].astype(np.float32) / 255, size)
    return square[:, ::-1] if rng.random() < 0.5 else square


def _lit(figure: np.ndarray, cover: np.ndarray, back: np.ndarray) -> np.ndarray:
    """The figure over the square, in part of its light."""
    rest = 1 - cover
    drawn = (figure * rest).sum((0, 1)) / rest.sum()  # the light of the place it was drawn in
    gain = np.sqrt((back.mean((0, 1)) + 0.1) / (drawn + 0.1)).clip(1 - CAST, 1 + CAST)
    return (figure * gain).clip(0, 1) * cover + back * rest


def _check(n: int, kit: str | None, close_ups: float) -> None:
    if not 0 <= close_ups <= 1:
        raise ValueError(f"close_ups={close_ups}: give a share from 0 to 1")
    if n < 1:
        raise ValueError(f"n={n}: at least one photo is needed")
    if kit is not None and kit not in pitch.KITS:
        raise ValueError(f"unknown kit {kit!r}: use one of {', '.join(pitch.KITS)}")


def _counted(numbers: int | range, title: str) -> tqdm:
    numbers = range(numbers) if isinstance(numbers, int) else numbers
    return tqdm(numbers, desc=title, disable=len(numbers) < 200 or None)


def _version() -> str:
    return key_of(pitch_hash(), file_hash(__file__))
