"""Features on disk: no image goes through a network twice.

An extractor takes a seventh of a second per image, and the real photos are the same in every
evaluation. Features are kept in portions, named by the content of their images and by all that
the extractor depends on: an evaluation that was interrupted goes on, and a set that has grown has
only its new photos extracted. The folder is a cache: what was not read for longest is deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from messi_lib import runs
from messi_lib.evaluation.features import Extractor

PORTION = 64  # images a file
LIMIT = 2_000_000_000  # bytes of all files: a quarter of a million images of 2,048 features


def content_key(*parts: object) -> str:
    """Hash (24 hex digits) of JSON-like values and arrays (their bytes, shape and type)."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part))
        else:
            digest.update(json.dumps(part).encode())
    return digest.hexdigest()[:24]


class FeatureStore:
    """Arrays by key in a folder, by default `features` in the cache.

    Args:
        folder: made when something is written.
        limit: bytes that the files may take together.
    """

    def __init__(self, folder: Path | str | None = None, limit: int = LIMIT):
        self.folder = Path(folder) if folder is not None else runs.cache_dir() / "features"
        self.limit = limit

    def get(self, key: str, shape: tuple[int, int]) -> np.ndarray | None:
        """float64 (n, d), or None: absent, torn, or of another shape."""
        path = self.folder / f"{key}.npy"
        try:
            stored = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        if stored.shape != shape or not np.isfinite(stored).all():
            return None
        with contextlib.suppress(OSError):  # read-only caches are good to read from
            os.utime(path)  # it was used: others are deleted first
        return stored.astype(np.float64)

    def put(self, key: str, values: np.ndarray) -> None:
        """Keep (n, d); in single precision where that loses nothing, as with networks' output."""
        single = values.astype(np.float32)
        stream = io.BytesIO()
        np.save(stream, single if np.array_equal(single, values) else values)
        runs.atomic_write(self.folder / f"{key}.npy", stream.getvalue())
        self._make_room()

    def _make_room(self) -> None:
        """Delete the files that were not read for longest, until the limit is kept."""
        files = []
        for path in self.folder.glob("*.npy"):
            with contextlib.suppress(OSError):  # another process deletes too
                about = path.stat()
                files.append((about.st_mtime_ns, about.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.limit:
                return
            path.unlink(missing_ok=True)
            total -= size

    def features(
        self,
        images: np.ndarray,
        extractor: Extractor,
        batch: int = 16,
        title: str = "",
    ) -> tuple[np.ndarray, int]:
        """Features of uint8 (N, S, S, 3) images, as far as they are not here already.

        Args:
            title: of the progress bar, which long extractions show on a terminal.

        Returns:
            float64 (N, d), and how many of the images were extracted now.
        """
        parts, fresh = [np.empty((0, extractor.dim))], 0
        starts = range(0, len(images), PORTION)
        for start in tqdm(starts, desc=title or extractor.name, disable=len(images) < 200 or None):
            part = np.ascontiguousarray(images[start : start + PORTION])
            key = f"{extractor.name}-{content_key(part, extractor.identity)}"
            values = self.get(key, (len(part), extractor.dim))
            if values is None:
                values = extractor(part, batch)
                fresh += len(part)
                self.put(key, values)
            parts.append(values)
        return np.concatenate(parts), fresh


class MemoryStore(FeatureStore):
    """Keeps features as long as the program runs, and writes nothing."""

    def __init__(self) -> None:
        self.kept: dict[str, np.ndarray] = {}

    def get(self, key: str, shape: tuple[int, int]) -> np.ndarray | None:
        return self.kept.get(key)

    def put(self, key: str, values: np.ndarray) -> None:
        self.kept[key] = values


class NoStore(MemoryStore):
    """Keeps nothing: for images that nobody will see again, as those in the midst of a training."""

    def put(self, key: str, values: np.ndarray) -> None:
        pass
