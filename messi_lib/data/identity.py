"""Whose face it is: dlib's face descriptor, where its packages are installed.

A network trained on faces of thousands of people maps a face to 128 numbers; faces of one person
lie within about 0.6 of each other (King, "High Quality Face Recognition with Deep Metric Learning",
blog.dlib.net, 2017). Features of ImageNet do not tell people apart, so there is no substitute: the
packages are an extra of the project (`pip install dlib-bin face-recognition-models`; Boost licence
and CC0).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from messi_lib.data.cache import file_hash, key_of
from messi_lib.images import check_pixels

PACKAGES = ("dlib", "face_recognition_models")
NETWORK = "dlib_face_recognition_resnet_model_v1.dat"
LANDMARKS = "shape_predictor_5_face_landmarks.dat"
FACE = 0.6  # side of dlib's own boxes, as a share of the square crop of 1.5 faces (`face_crop`)


def _models() -> Path | None:
    """Folder of the weights, found without importing their package; None without it."""
    found = importlib.util.find_spec(PACKAGES[1])
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "models"


def available() -> bool:
    """Whether both packages are installed."""
    return importlib.util.find_spec(PACKAGES[0]) is not None and _models() is not None


class FaceIdentity:
    """Descriptors of faces: 128 numbers, of which nearby ones belong to one person.

    Attributes:
        of_faces: True: it says nothing of photos without a face.
        key: names weights and code, for caches.

    Raises:
        ModuleNotFoundError: the packages are missing; says how to install them.
    """

    of_faces = True

    def __init__(self):
        if not available():
            raise ModuleNotFoundError(
                "telling people apart needs two packages: "
                "pip install dlib-bin face-recognition-models"
            )
        import dlib

        folder = _models()
        self._rectangle = dlib.rectangle
        self._landmarks = dlib.shape_predictor(str(folder / LANDMARKS))
        self._network = dlib.face_recognition_model_v1(str(folder / NETWORK))
        files = (folder / NETWORK, folder / LANDMARKS, Path(__file__))
        self.key = key_of([file_hash(path) for path in files])

    def __call__(self, face: np.ndarray) -> np.ndarray:
        """Descriptor float32 (128,) of a face, given as the square crop around it.

        Args:
            face: uint8 (s, s, 3), 1.5 times as large as the face in its middle
                (`quality.face_crop`).
        """
        check_pixels(face)
        height, width = face.shape[:2]
        half = FACE * max(height, width) / 2
        x, y = width / 2, height / 2 + 0.03 * max(height, width)  # dlib's boxes sit a little lower
        box = self._rectangle(*(round(v) for v in (x - half, y - half, x + half, y + half)))
        face = np.ascontiguousarray(face)
        found = self._network.compute_face_descriptor(face, self._landmarks(face, box))
        return np.array(found, dtype=np.float32)
