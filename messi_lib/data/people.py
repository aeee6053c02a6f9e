"""Photos of people with the region of the people: COCO annotations and the procedural world.

Both data sets answer `item(epoch, index)` and depend on `(seed, epoch, index)` alone, so that any
number of workers, and a resumed run, see the same images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms
from tqdm import tqdm

from messi_lib.data import pitch
from messi_lib.data.cache import cached_array, pitch_hash
from messi_lib.data.coco import decode, load_coco_people
from messi_lib.images import resize_region, to_tensor
from messi_lib.runs import seed_generator

GREY = 128  # what lies outside the photo: 0 in [-1, 1]
FREE_CROPS = 0.1  # share of training crops placed anywhere, some of them without people

Item = tuple[Tensor, Tensor, Tensor]


def _offset(generator: torch.Generator, length: int, side: int, low: int, high: int) -> int:
    """Where a window of `side` starts on an axis of `length` so that it keeps [low, high).

    The whole interval if it fits, else a part of it; a window longer than the axis holds all of it.
    """
    first, last = sorted((low, high - side))
    bounds = sorted((0, length - side))
    first, last = int(np.clip(first, *bounds)), int(np.clip(last, *bounds))
    if side >= length:
        first, last = bounds
    return int(torch.randint(first, last + 1, (), generator=generator))


def training_window(
    generator: torch.Generator, person: np.ndarray, smallest: float = 0.6
) -> tuple[int, int, int]:
    """A random square `(top, left, side)` that keeps a random one of the people.

    The side lies between `smallest` times the short side of the photo and its long side, so that
    zooming in and the bars of a letterbox both occur. The chosen person (a connected part of
    `person`, bool (H, W)) lies wholly inside if it fits. No person: a square anywhere.
    """
    height, width = person.shape
    low, high = smallest * min(height, width), max(height, width)
    share = float(torch.rand((), generator=generator))
    side = max(2, round(low * (high / low) ** share))
    count, _, stats, _ = cv2.connectedComponentsWithStats(person.astype(np.uint8))
    top, left, bottom, right = 0, 0, height, width
    if count > 1 and float(torch.rand((), generator=generator)) >= FREE_CROPS:
        chosen = 1 + int(torch.randint(0, count - 1, (), generator=generator))
        left, top, box_width, box_height = (int(value) for value in stats[chosen][:4])
        bottom, right = top + box_height, left + box_width
    return (
        _offset(generator, height, side, top, bottom),
        _offset(generator, width, side, left, right),
        side,
    )


def letterbox_window(height: int, width: int) -> tuple[int, int, int]:
    """The smallest centred square `(top, left, side)` that holds the whole photo (between bars)."""
    side = max(height, width)
    return -((side - height) // 2), -((side - width) // 2), side


def cut(
    pixels: np.ndarray,
    person: np.ndarray,
    ignore: np.ndarray,
    window: tuple[int, int, int],
    size: int,
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Cut a square window and resize it; proportions are kept (post-mortem 8).

    Outside the photo the image is grey and `ignore` is True.

    Returns:
        image uint8 (3, S, S), antialiased, and regions bool (2, S, S): person, ignore.
    """
    top, left, side = window
    height, width = person.shape
    image = np.full((side, side, 3), GREY, dtype=np.uint8)
    regions = np.stack([np.zeros((side, side), bool), np.ones((side, side), bool)])
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + side, height), min(left + side, width)
    inside = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    image[inside] = pixels[y0:y1, x0:x1]
    regions[0][inside] = person[y0:y1, x0:x1]
    regions[1][inside] = ignore[y0:y1, x0:x1]
    photo = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1))
    if side != size:
        photo = transforms.resize(
            photo, [size, size], interpolation=InterpolationMode.BICUBIC, antialias=True
        )
    return photo, tv_tensors.Mask(resize_region(torch.from_numpy(regions), size))


def _augment(
    image: tv_tensors.Image, regions: tv_tensors.Mask, generator: torch.Generator
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Flip both, and change the image's light and colour a little."""
    flip, *light = torch.rand(4, generator=generator).tolist()
    if flip < 0.5:
        image, regions = transforms.horizontal_flip(image), transforms.horizontal_flip(regions)
    brightness, contrast, saturation = (0.8 + 0.4 * value for value in light)
    image = transforms.adjust_brightness(image, brightness)
    image = transforms.adjust_contrast(image, contrast)
    return transforms.adjust_saturation(image, saturation), regions


def paste(
    image: tv_tensors.Image,
    regions: tv_tensors.Mask,
    other: tv_tensors.Image,
    person: Tensor,
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Put a person of another image before this one ("Simple Copy-Paste", Ghiasi et al. 2021,
    arXiv 2012.07177).

    Args:
        image, other: uint8 (3, S, S).
        regions: bool (2, S, S): person and ignore of `image`.
        person: bool (S, S): the person of `other` that is taken.

    Returns:
        the picture, its outline softened by a pixel, and its regions.
    """
    soft = cv2.GaussianBlur(person.numpy().astype(np.float32), (3, 3), 0)
    mixed = torch.lerp(image.float(), other.float(), torch.from_numpy(soft))
    united = torch.stack([regions[0] | person, regions[1] & ~person])
    return tv_tensors.Image(mixed.round().to(torch.uint8)), tv_tensors.Mask(united)


class People(ABC):
    """What the data sets share: from whole photos to items."""

    smallest = 0.6  # side of the tightest training crop, as a share of the short side

    def __init__(self, size: int, train: bool, seed: int):
        self.size, self.train, self.seed = size, train, seed

    @abstractmethod
    def __len__(self) -> int:
        """Number of photos."""

    @abstractmethod
    def photo(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whole photo: pixels uint8 (H, W, 3), person bool (H, W), ignore bool (H, W)."""

    def _enrich(
        self, image: tv_tensors.Image, regions: tv_tensors.Mask, generator: torch.Generator
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """What a data set may add to a training crop."""
        return image, regions

    def item(self, epoch: int, index: int) -> Item:
        """One example, the same whenever `(seed, epoch, index)` is.

        Returns:
            image float32 (3, S, S) in [-1, 1]; person bool (1, S, S); ignore bool (1, S, S).
            With `train`, a random crop that keeps people, flipped and recoloured at random;
            without, the whole photo, centred between bars (which are grey, and True in `ignore`).
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index}: this data set has {len(self)} items")
        pixels, person, ignore = self.photo(index)
        if not self.train:
            image, regions = cut(pixels, person, ignore, letterbox_window(*person.shape), self.size)
        else:
            generator = seed_generator(self.seed, "people", epoch, index)
            window = training_window(generator, person, self.smallest)
            image, regions = cut(pixels, person, ignore, window, self.size)
            image, regions = self._enrich(image, regions, generator)
            image, regions = _augment(image, regions, generator)
        image = to_tensor(image.as_subclass(Tensor).permute(1, 2, 0).contiguous().numpy())[0]
        person_out, ignore_out = regions.as_subclass(Tensor).bool().split(1)
        return image, person_out, ignore_out


class PeopleDataset(People):
    """People in the photos of a COCO instances file.

    Args:
        ids: image ids to keep, for instance a split (`splits.read_split`); None: all.
        paste: share of the training items that get a person of another photo (see `paste`).

    Raises:
        FileNotFoundError, ValueError: as `load_coco_people`.
    """

    def __init__(
        self,
        annotations: Path | str,
        images_dir: Path | str,
        size: int,
        train: bool = True,
        seed: int = 0,
        max_people: int = 0,
        ids: Collection[int] | None = None,
        paste: float = 0.0,
    ):
        super().__init__(size, train, seed)
        self.photos = load_coco_people(annotations, images_dir, max_people, ids=ids)
        self.paste = paste

    def __len__(self) -> int:
        return len(self.photos)

    def photo(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chosen = self.photos[index]
        return chosen.pixels(), chosen.person(), chosen.ignore()

    def _enrich(
        self, image: tv_tensors.Image, regions: tv_tensors.Mask, generator: torch.Generator
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        if not self.paste or float(torch.rand((), generator=generator)) >= self.paste:
            return image, regions
        donor = self.photos[int(torch.randint(0, len(self), (), generator=generator))]
        if not donor.outlines:
            return image, regions
        which = int(torch.randint(0, len(donor.outlines), (), generator=generator))
        person = decode(donor.outlines[which], donor.height, donor.width)
        if not person.any():
            return image, regions
        window = training_window(generator, person, self.smallest)
        other, parts = cut(donor.pixels(), person, np.zeros_like(person), window, self.size)
        other, parts = _augment(other, parts, generator)
        return paste(image, regions, other, parts[0].as_subclass(Tensor).bool())


class WithScenes(People):
    """A data set of photos in which a share of the items comes from another set.

    Args:
        photos: decides length and size.
        scenes: takes the place of a photo with probability `share`.

    Raises:
        ValueError: sets of different sizes, or a share outside [0, 1].
    """

    def __init__(self, photos: People, scenes: People, share: float):
        super().__init__(photos.size, photos.train, photos.seed)
        if photos.size != scenes.size:
            raise ValueError(f"items of {photos.size} and {scenes.size} px cannot be mixed")
        if not 0 <= share <= 1:
            raise ValueError(f"share={share}: give a number from 0 to 1")
        self.photos, self.scenes, self.share = photos, scenes, share

    def __len__(self) -> int:
        return len(self.photos)

    def photo(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.photos.photo(index)

    def item(self, epoch: int, index: int) -> Item:
        """As `People.item`, of either set."""
        generator = seed_generator(self.seed, "mixture", epoch, index)
        if float(torch.rand((), generator=generator)) >= self.share:
            return self.photos.item(epoch, index)
        chosen = int(torch.randint(0, len(self.scenes), (), generator=generator))
        return self.scenes.item(epoch, chosen)


class PitchPeople(People):
    """`n` scenes of the procedural world `pitch`, drawn once into the cache.

    Drawing takes longer than a training step of the small networks; the cache holds the pixels and
    the united people as uint8 (n, S, S, 4). Its key covers the arguments and the sources of
    `pitch`. Without `train` the scenes come as drawn.
    """

    smallest = 0.75  # tighter crops would only be blurred: scenes are drawn at the item's size

    def __init__(self, n: int, size: int, seed: int = 0, train: bool = True):
        super().__init__(size, train, seed)
        if n < 1:
            raise ValueError(f"n={n}: at least one scene is needed")
        shape, name = (n, size, size, 4), f"{n}_of_{size}px_seed{seed}"
        self.scenes = cached_array("pitch_people", name, pitch_hash(), shape, self._draw)

    def _draw(self, target: np.ndarray) -> None:
        quiet = len(target) < 200 or None  # None: a bar on terminals only
        for index in tqdm(range(len(target)), desc="drawing people", disable=quiet):
            scene = pitch.people_scene(self.seed, index, self.size)
            target[index, ..., :3] = scene.image
            target[index, ..., 3] = scene.person

    def __len__(self) -> int:
        return len(self.scenes)

    def photo(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scene = np.asarray(self.scenes[index])
        person = scene[..., 3].astype(bool)
        return scene[..., :3], person, np.zeros_like(person)
