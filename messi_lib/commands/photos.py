"""Photos of a subject as commands read them: cropped by what the shipped networks find."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ..data.subject import SubjectImages


def read_subject(
    source: Path | Sequence[Path], size: int, crop: str, **more: int
) -> tuple[SubjectImages, str]:
    """Square photos of `size` px, and in words how they were cropped; tells what is unreadable.

    Args:
        source: a folder, or files.
        crop: auto, face, person or centre.
        more: of `load_subject`: crops_per_photo, seed.

    Raises:
        As `data.subject.load_subject`.
    """
    # Only for photos: these take seconds to import, in each process of a job.
    from ..data.cache import file_hash
    from ..data.faces import FaceFinder
    from ..data.subject import load_subject

    finder = key = None
    if crop in ("auto", "person"):
        from ..segmentation.infer import Segmenter, embedded_weights

        segmenter = Segmenter()
        key = file_hash(embedded_weights())

        def finder(pixels: np.ndarray) -> np.ndarray:
            return segmenter(pixels).person

    faces = FaceFinder() if crop in ("auto", "face") else None
    images = load_subject(source, size, finder, key, face_finder=faces, crop=crop, **more)
    for path, reason in images.failed:
        print(f"left out {path}: {reason}", file=sys.stderr)
    ways = ", ".join(f"{images.crops.count(how)} {how}" for how in ("face", "person", "centre"))
    return images, ways
