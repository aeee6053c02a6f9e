"""Where the faces of a photo are: CenterFace, a small convolutional network, run by OpenCV.

Every face is a point on a map of a quarter of the photo's size; beside it the network says how
large the face is and where its eyes, nose and mouth lie (Xu, Yan, Yang and Han, "CenterFace: Joint
Face Detection and Alignment Using Face as Point", arXiv 1911.03599, section 3). The weights ship
with the repository; their card says whose they are and what they cannot do.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from messi_lib.images import check_pixels
from messi_lib.runs import weights_dir

SHA256 = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
STRIDE = 4  # pixels of the input per point of the maps
MULTIPLE = 32  # the network halves its input five times
CHANNELS = (1, 2, 2, 10)  # of its outputs: presence, size, offset, landmarks
OVERLAP = 0.3  # of two faces (intersection over union) above which they are one


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces of one photo, the most prominent first (score times area)."""

    boxes: np.ndarray  # float32 (n, 5): x0, y0, x1, y1 in pixels, inside the photo; score in [0, 1]
    landmarks: np.ndarray  # float32 (n, 5, 2): x, y of two eyes, nose, two corners of the mouth

    def __len__(self) -> int:
        return len(self.boxes)


def embedded_faces() -> Path:
    """Where the face finder's weights that ship with the repository lie."""
    return weights_dir() / "face.onnx"


def decode(
    presence: np.ndarray,
    size: np.ndarray,
    offset: np.ndarray,
    landmarks: np.ndarray,
    threshold: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Faces from the four maps, in pixels of the network's input.

    A face is a local maximum of `presence` above the threshold. Its centre is (i + offset + 1/2)
    times the stride, its height and width exp(size) times the stride; landmarks are shares of the
    box, counted from its top left corner (sections 3.2 and 3.3 of the paper; y before x in all).

    Args:
        presence: (h, w), probabilities.
        size, offset: (2, h, w).
        landmarks: (10, h, w).
        threshold: least probability of a face.

    Returns:
        float32 (n, 5): x0, y0, x1, y1, score; and float32 (n, 5, 2): x, y; by score, descending.
    """
    highest = cv2.dilate(presence, np.ones((3, 3), np.uint8))
    rows, columns = np.nonzero((presence > threshold) & (presence == highest))
    order = np.argsort(-presence[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    height, width = np.exp(size[:, rows, columns]) * STRIDE
    y = (rows + offset[0, rows, columns] + 0.5) * STRIDE - height / 2
    x = (columns + offset[1, rows, columns] + 0.5) * STRIDE - width / 2
    boxes = np.stack([x, y, x + width, y + height, presence[rows, columns]], 1).astype(np.float32)
    shares = landmarks[:, rows, columns].reshape(5, 2, -1).transpose(2, 0, 1)
    corner, sides = np.stack([x, y], 1), np.stack([width, height], 1)
    points = corner[:, None] + shares[..., ::-1] * sides[:, None]
    return boxes, points.astype(np.float32)


def distinct(boxes: np.ndarray, overlap: float = OVERLAP) -> np.ndarray:
    """Indices of boxes (n, 5), sorted by score, that no earlier one of them overlaps by more."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for index, box in enumerate(boxes):
        others = boxes[kept]
        sides = np.minimum(others[:, 2:4], box[2:4]) - np.maximum(others[:, :2], box[:2])
        shared = np.clip(sides, 0, None).prod(1)
        if not (shared > overlap * (area[kept] + area[index] - shared)).any():
            kept.append(index)
    return np.array(kept, dtype=np.intp)


class FaceFinder:
    """Finds the faces of photos, on the CPU. May be called from several threads at once.

    Args:
        path: an ONNX file of CenterFace; None: the one that ships with the repository.
        threshold: least score of a face, between 0 and 1.
        size: the photo's longer side as the network sees it, in pixels. Faces below about 8 pixels
            there are missed; time grows with its square.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, or no CenterFace; an impossible threshold or size.
    """

    def __init__(self, path: Path | str | None = None, threshold: float = 0.5, size: int = 480):
        if not 0 < threshold < 1:
            raise ValueError(f"threshold={threshold}: choose a probability between 0 and 1")
        if size < MULTIPLE:
            raise ValueError(f"size={size}: the face finder needs at least {MULTIPLE} pixels")
        self.path = embedded_faces() if path is None else Path(path)
        self.threshold, self.size = threshold, size
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path} is missing: it holds the face finder and comes with the repository"
            )
        self._weights = self.path.read_bytes()
        self.sha256 = hashlib.sha256(self._weights).hexdigest()
        if path is None and self.sha256 != SHA256:
            raise ValueError(
                f"{self.path} is damaged or another file ({len(self._weights):,} bytes, SHA-256 "
                f"{self.sha256[:12]}, not {SHA256[:12]}): get it from the repository again"
            )
        self._own = threading.local()
        self._maps(np.zeros((1, 3, MULTIPLE, MULTIPLE), np.float32))  # a wrong file fails here

    @property
    def key(self) -> str:
        """Names the weights and the options: equal keys find equal faces."""
        return f"{self.sha256}-{self.threshold}-{self.size}"

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_own"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _own=threading.local())

    def _maps(self, blob: np.ndarray) -> list[np.ndarray]:
        """The four outputs for (1, 3, H, W), RGB in [0, 255]; one network per thread."""
        try:
            if not hasattr(self._own, "network"):
                buffer = np.frombuffer(self._weights, np.uint8)
                self._own.network = cv2.dnn.readNetFromONNX(buffer)
            network = self._own.network
            network.setInput(blob)
            maps = list(network.forward(network.getUnconnectedOutLayersNames()))
            wanted = [(1, c, blob.shape[2] // STRIDE, blob.shape[3] // STRIDE) for c in CHANNELS]
            if [output.shape for output in maps] == wanted:
                return maps
            problem = f"its outputs are {[output.shape for output in maps]}"
        except cv2.error as error:
            problem = str(error).splitlines()[0]
        raise ValueError(f"{self.path} is no CenterFace network that OpenCV can run: {problem}")

    def faces(self, pixels: np.ndarray) -> Faces:
        """Faces of a photo, uint8 RGB (H, W, 3), with their landmarks.

        Raises:
            ValueError: pixels of another type or shape.
        """
        check_pixels(pixels)
        height, width = pixels.shape[:2]
        scale = self.size / max(height, width)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        padded = [-(-side // MULTIPLE) * MULTIPLE for side in inner]
        canvas = np.zeros((padded[1], padded[0], 3), np.uint8)
        canvas[: inner[1], : inner[0]] = cv2.resize(pixels, inner, interpolation=method)
        maps = self._maps(cv2.dnn.blobFromImage(canvas))
        boxes, points = decode(maps[0][0, 0], *(output[0] for output in maps[1:]), self.threshold)
        kept = distinct(boxes)
        boxes, points = boxes[kept], points[kept]
        # Each side has a scale of its own, since the sides of the input are whole pixels.
        back = np.array([width / inner[0], height / inner[1]], np.float32)
        corners = boxes[:, :4].reshape(-1, 2, 2) * back
        boxes[:, :4] = corners.clip(0, np.array([width, height], np.float32)).reshape(-1, 4)
        sides = boxes[:, 2:4] - boxes[:, :2]
        seen = (sides > 0).all(1)  # a face found in the padding is none
        order = np.argsort(-(boxes[:, 4] * sides.prod(1))[seen], kind="stable")
        return Faces(boxes[seen][order], (points * back)[seen][order])

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Boxes of the faces: float32 (n, 5), x0, y0, x1, y1 and score; see `Faces`."""
        return self.faces(pixels).boxes
