"""Everything that a subject photo is judged by, measured once per content and kept on disk.

An entry belongs to the bytes of the file, not to its name, and to the code and the models that
measured: moving or renaming photos costs nothing, another model measures again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from messi_lib import runs
from messi_lib.data.cache import file_hash, key_of
from messi_lib.data.contact_sheet import thumbnail
from messi_lib.data.download import progress
from messi_lib.data.fingerprints import Fingerprint, fingerprint
from messi_lib.data.quality import Embedding, FaceBoxes, Measures, face_crop, measure
from messi_lib.images import load_photo

KIND = "subject_photos"
_SOURCES = ("measured.py", "fingerprints.py", "quality.py", "text_lines.py", "contact_sheet.py")
_SMALLEST_FACE = 24  # pixels, below which a face's embedding says nothing


@dataclass(frozen=True, eq=False)
class Entry:
    """One photo that can be read.

    Attributes:
        vector: its embedding, float32 (d,); None if there was nothing to embed with.
        of_face: whether the vector is that of the face, or of the whole photo.
        thumbnail: a JPEG file.
    """

    measures: Measures
    print: Fingerprint
    thumbnail: bytes
    vector: np.ndarray | None = None
    of_face: bool = False


def version_of(model_key: str) -> str:
    """Names the code and the models that measure."""
    folder = Path(__file__).parent
    return key_of([file_hash(folder / name) for name in _SOURCES], model_key)


def measure_photo(
    pixels: np.ndarray,
    content: str,
    faces: FaceBoxes | None = None,
    embed: Embedding | None = None,
) -> Entry:
    """Measure one photo, uint8 (H, W, 3), whose file has the hash `content`."""
    boxes = None if faces is None else faces(pixels)
    vector, of_face = None, False
    if embed is not None:
        face = None if boxes is None else face_crop(pixels, boxes)
        of_face = face is not None and min(face.shape[:2]) >= _SMALLEST_FACE
        if of_face or not getattr(embed, "of_faces", False):
            vector = np.asarray(embed(face if of_face else pixels), np.float32).reshape(-1)
    return Entry(
        measure(pixels, boxes), fingerprint(pixels, content), thumbnail(pixels), vector, of_face
    )


def _pack(entry: Entry, version: str) -> bytes:
    notes = {"version": version, "measures": asdict(entry.measures), "of_face": entry.of_face}
    vector = np.zeros(0, np.float32) if entry.vector is None else entry.vector
    stream = io.BytesIO()
    np.savez(
        stream,
        notes=np.frombuffer(json.dumps(notes).encode(), np.uint8),
        thumbnail=np.frombuffer(entry.thumbnail, np.uint8),
        vector=vector,
        grey=entry.print.grey,
        points=entry.print.points,
        descriptors=entry.print.descriptors,
        hashes=entry.print.hashes,
    )
    return stream.getvalue()


def _unpack(path: Path, content: str, version: str) -> Entry | None:
    """The entry in a file; None if it is absent, torn, or measured by something else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            notes = json.loads(stored["notes"].tobytes())
            if notes["version"] != version:
                return None
            names = ("grey", "points", "descriptors", "hashes")
            print_ = Fingerprint(*(stored[name] for name in names), content)
            vector = stored["vector"] if stored["vector"].size else None
            return Entry(
                Measures(**notes["measures"]),
                print_,
                stored["thumbnail"].tobytes(),
                vector,
                notes["of_face"],
            )
    except Exception:  # a torn archive raises whatever its decoder meets; it is made again
        return None


def _cached(path: Path, version: str, faces, embed) -> Entry | str:
    """The entry of a photo, or why it cannot be read."""
    try:
        content = file_hash(path)
        stored = runs.cache_dir() / KIND / f"{content}.npz"
        entry = _unpack(stored, content, version)
        if entry is not None:
            return entry
        pixels = load_photo(path).pixels
    except (ValueError, OSError) as error:
        return str(error)
    entry = measure_photo(pixels, content, faces, embed)
    runs.atomic_write(stored, _pack(entry, version))
    return entry


def measure_all(
    photos: Sequence[Path],
    faces: FaceBoxes | None = None,
    embed: Embedding | None = None,
    model_key: str = "",
    workers: int = 1,
) -> list[Entry | str]:
    """Entries of all photos, in order; for one that cannot be read, the reason instead.

    Args:
        faces: finds faces: uint8 (H, W, 3) -> (n, 5), x0, y0, x1, y1, score; None: not judged.
        embed: uint8 (H, W, 3) -> (d,); None: nothing is called odd.
        model_key: names both, e.g. by a hash of their weights.
        workers: threads; with more than one, `faces` and `embed` must allow for that.
    """
    version = version_of(model_key)
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(lambda path: _cached(path, version, faces, embed), photos)
        try:
            return list(progress(results, len(photos), "measuring photos"))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
