"""Two folders of images in, one dictionary of numbers out.

Each key names the extractor (`fid_inception`, `kid_random-inception`): numbers of different
extractors have nothing in common. Images are never stretched: if the sizes differ, each is cropped
to the square in its middle and reduced to one size, and the result says so.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from messi_lib import runs
from messi_lib.evaluation.features import Extractor, file_sha256, load_extractor
from messi_lib.evaluation.frechet import check_distinct, check_features, frechet_jackknife
from messi_lib.evaluation.kernel import kid
from messi_lib.evaluation.store import FeatureStore, content_key
from messi_lib.images import list_photos, load_photo, resize, to_tensor, to_uint8

INPUT_SIZE = 299  # of Inception; more pixels than that would only be aliased
ENOUGH = 1000  # images a side, below which an FID compares with nothing
GROUPS = 12  # of the jackknife: parts into which each side is cut, one of which is left out


def photo_size(path: Path | str) -> tuple[int, int]:
    """Height and width of a photo as it is seen (EXIF applied), without decoding it.

    Raises:
        ValueError: no readable image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is no readable image ({error}): remove it") from error
    return (width, height) if turned else (height, width)


def centre_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """The square in the middle of uint8 (H, W, 3), antialiased to (size, size, 3)."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = to_tensor(pixels[top : top + side, left : left + side])
    return to_uint8(resize(square, size))[0]


def folder_features(
    paths: list[Path], hashes: list[str], extractor: Extractor, size: int | None, batch: int = 16
) -> tuple[np.ndarray, bool]:
    """Features of photo files, float64 (N, d), and whether they came from the cache.

    Args:
        hashes: SHA-256 of the files; with the extractor and the crop they are the cache's key.
        size: side of the centre square in pixels, or None: the photos as they are.

    Raises:
        ValueError: a file that cannot be read, or two with equal pixels.
    """
    store = FeatureStore(runs.cache_dir() / "features")
    key = f"{extractor.name}-{content_key(hashes, extractor.identity, size)}"
    stored = store.get(key, (len(paths), extractor.dim))
    if stored is not None:
        return stored, True
    features, contents = [], []
    for start in tqdm(
        range(0, len(paths), batch), desc=extractor.name, disable=len(paths) < 200 or None
    ):
        pixels = [load_photo(path).pixels for path in paths[start : start + batch]]
        images = np.stack([centre_square(image, size) for image in pixels] if size else pixels)
        features.append(extractor(images, batch))
        contents += [np.frombuffer(hashlib.sha256(image).digest(), np.uint8) for image in images]
    check_distinct(contents, [str(path) for path in paths])
    result = np.concatenate(features)
    store.put(key, result)
    return result, False


def fid_with_error(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """FID of features (n, d) and (m, d), n, m >= 3, and its delete-group jackknife error."""
    return frechet_jackknife(a, b, groups=min(GROUPS, len(a), len(b)))


def bias_warning(n_a: int, n_b: int) -> list[str]:
    """What to say of an FID of that many images, if anything."""
    if min(n_a, n_b) >= ENOUGH:
        return []
    return [
        f"FID of {n_a} and {n_b} images is biased upwards, by more than generators differ: compare "
        "it only with FIDs of equal counts, and read KID first"
    ]


def _crop_policy(paths: list[Path], size: int | None) -> tuple[int | None, str, list[str]]:
    """Side of the centre square (None: leave the images alone), its description, warnings."""
    if size is not None:
        return size, f"centre square, resized to {size} px", []
    sizes = {photo_size(path) for path in paths}
    if len(sizes) > 1:
        side = min(min(min(sizes, key=min)), INPUT_SIZE)
        notes = (
            [f"the smallest image has {side} px: give a size to enlarge it"] if side < 64 else []
        )
        return side, f"centre square, resized to {side} px, the smallest side of all images", notes
    ((height, width),) = sizes
    notes = []
    if height != width:
        notes.append(f"the network squeezes {width}x{height} to a square: give a size to crop")
    if max(height, width) > INPUT_SIZE:
        notes.append(f"{width}x{height} is reduced to 299 px without antialiasing: give a size")
    return None, f"none, all images have {width}x{height} px", notes


def evaluate_folders(
    dir_a: Path | str,
    dir_b: Path | str,
    extractor: str | Extractor = "inception",
    size: int | None = None,
    batch: int = 16,
) -> dict:
    """FID and KID between the photos of two folders.

    Images of one common size are taken as they are, which reproduces the `pytorch-fid` command;
    otherwise, or with `size`, each is cropped to its centre square and reduced to one size.

    Args:
        dir_a, dir_b: folders, searched recursively.
        extractor: one of `features.EXTRACTORS`, or a loaded one.

    Returns:
        `fid_<extractor>`, `kid_<extractor>` and their jackknife standard errors (the same with
        `_se`); `quote`, both with all that they depend on, as they may be quoted;
        `n_a`, `n_b`, `shared` (files in both folders), `extractor`, `weights`, `weights_sha256`,
        `scaling`, `crop`, `cached` (for each folder), `seconds`, `warnings` (list of str).

    Raises:
        FileNotFoundError: a missing folder, or no weights.
        ValueError: an empty folder, fewer than three images, copies, an unreadable image.
    """
    began = time.perf_counter()
    listed = [list_photos([folder]) for folder in (dir_a, dir_b)]
    for folder, paths in zip((dir_a, dir_b), listed):
        if len(paths) < 3:
            raise ValueError(
                f"{folder} holds {len(paths)} image(s): FID and KID compare sets, give 3 or more"
            )
    if size is not None and size < 1:
        raise ValueError(f"size={size}: give the side of the square in pixels")
    side, crop, notes = _crop_policy(listed[0] + listed[1], size)
    hashes = [[file_sha256(path) for path in paths] for paths in listed]
    for paths, contents in zip(listed, hashes):
        check_distinct(
            [np.frombuffer(bytes.fromhex(value), np.uint8) for value in contents],
            [str(path) for path in paths],
        )
    chosen = load_extractor(extractor) if isinstance(extractor, str) else extractor
    (a, cached_a), (b, cached_b) = (
        folder_features(paths, contents, chosen, side, batch)
        for paths, contents in zip(listed, hashes)
    )
    name, counts = chosen.name, f"[{len(a)} x {len(b)}, {chosen.name}, {crop}]"
    distance, error = kid(a, b)
    fid, fid_error = fid_with_error(a, b)
    return {
        f"fid_{name}": fid,
        f"fid_{name}_se": fid_error,
        f"kid_{name}": distance,
        f"kid_{name}_se": error,
        "quote": [
            f"KID{counts} {distance:.5f} +- {error:.5f}",
            f"FID{counts} {fid:.2f} +- {fid_error:.2f}",
        ],
        "n_a": len(a),
        "n_b": len(b),
        "shared": len(set(hashes[0]) & set(hashes[1])),
        "extractor": chosen.name,
        "weights": chosen.weights,
        "weights_sha256": chosen.sha256,
        "scaling": chosen.scaling,
        "crop": crop,
        "cached": [cached_a, cached_b],
        "seconds": round(time.perf_counter() - began, 2),
        "warnings": notes + bias_warning(len(a), len(b)),
    }


def nearest(
    features_a: np.ndarray, features_b: np.ndarray, k: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of set b for each of set a: is a generated image a training image?

    Returns:
        Euclidean distances (n, k), ascending, and indices into b (n, k).

    Raises:
        ValueError: k below 1 or above the size of b, or features that do not fit.
    """
    a, b = check_features(features_a, features_b, least=1)
    if not 1 <= k <= len(b):
        raise ValueError(f"k={k}: set b holds {len(b)} images")
    # Not through a matrix product: its rounding would hide the zero distance of an exact copy.
    distances = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    values, indices = distances.topk(k, largest=False)
    return values.cpu().numpy(), indices.cpu().numpy()
