"""Arrays that are made once and then read from disk: one memory-mapped file per key.

Rendering or decoding images costs far more than reading their pixels, so a data set is written once
as one uint8 `.npy` file and mapped into memory afterwards (any number of workers share its pages).
The file's name holds a hash of all its content depends on: another option makes another file.
A file appears under its name only when it is whole, and one with a wrong size is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from messi_lib import runs

PITCH_SOURCES = (
    "pitch.py", "scenes.py", "backdrop.py", "figures.py", "poses.py", "wardrobe.py"
)


def key_of(*parts: object) -> str:
    """Hash (24 hex digits) of JSON-like values; equal values give equal keys in every process."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def file_hash(path: Path | str) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pitch_hash() -> str:
    """Hash of the sources of the procedural world: changed code must not meet old pictures."""
    folder = Path(__file__).parent
    return key_of([file_hash(folder / name) for name in PITCH_SOURCES])


def open_array(path: Path, shape: tuple[int, ...] | None = None) -> np.ndarray | None:
    """The memory-mapped array in `path`; None if it is absent, torn or of another shape."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # ValueError: header or length is wrong
        return None
    return array if shape is None or array.shape == tuple(shape) else None


@contextlib.contextmanager
def _only_one_maker(lock_file: Path) -> Iterator[None]:
    """Let one process of a machine make an array while the others wait for it."""
    try:
        import fcntl
    except ImportError:  # not POSIX: everyone makes its own copy and the last rename wins
        yield
        return
    with open(lock_file, "w") as lock:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached_array(
    kind: str,
    name: str,
    version: str,
    shape: tuple[int, ...],
    fill: Callable[[np.ndarray], None],
) -> np.ndarray:
    """The uint8 array of `shape` that belongs to these names, made by `fill(array)` if need be.

    Args:
        kind: folder below `runs.cache_dir()`.
        name: what it is (letters, digits, `_`).
        version: hash of all that its content depends on; files of the same name and another version
            are deleted when this one is made, since nobody would read them again.
        shape: of the array, e.g. (N, S, S, 3).
        fill: writes into the array it is given (memory-mapped, zeros at first).

    Returns:
        A read-only memory-mapped array.
    """
    folder = runs.cache_dir() / kind
    path = folder / f"{name}-{version}.npy"
    array = open_array(path, shape)
    if array is not None:
        return array
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one_maker(folder / f"{name}.lock"):
        array = open_array(path, shape)  # another process may have made it meanwhile
        if array is None:
            _make(path, shape, fill)
            array = open_array(path, shape)
            for old in folder.glob(f"{name}-*"):
                if not old.name.startswith(path.stem):
                    old.unlink(missing_ok=True)
    if array is None:
        raise ValueError(f"{path} cannot be read back after writing: is the disk full or failing?")
    return array


def _make(path: Path, shape: tuple[int, ...], fill: Callable[[np.ndarray], None]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    try:
        target = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        fill(target)
        target.flush()
        del target
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
