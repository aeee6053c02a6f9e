"""What may be wrong with a photo of the subject: small pure measures, and the reasons they give.

Every measure is a plain number of one photo, so that a threshold can be moved without measuring
again; only the odd ones out are found by comparing all. What finds faces and what describes a
picture by a vector are functions that are handed in. The thresholds were chosen by looking at the
extremes among 443 press photos of one man; what each costs and finds there stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from messi_lib.data.text_lines import text_share
from messi_lib.images import check_pixels

FaceBoxes = Callable[[np.ndarray], np.ndarray]
Embedding = Callable[[np.ndarray], np.ndarray]

REASONS = {
    "unreadable": "Files that are damaged, or no photos.",
    "duplicate": "The same shot as another photo that is kept (the second picture): re-encoded, "
    "resized, mirrored or cropped.",
    "too_small": "The shorter side has too few pixels to learn from.",
    "blurred": "Nothing in the photo is sharp; often a small photo that was enlarged.",
    "no_face": "No face was found: the subject may be turned away, hidden, or absent.",
    "several_faces": "Another face is nearly as large: the crop may show somebody else.",
    "small_face": "The largest face is tiny: the subject is far away, or it is a spectator.",
    "odd_one_out": "Looks unlike the rest of the collection: perhaps another person, or no photo "
    "of the subject at all.",
    "text": "Lines of letters: captions, watermarks or advertising.",
    "drawn": "Few flat colours: perhaps a drawing, a logo or a screenshot.",
}
CERTAIN = ("unreadable", "duplicate", "too_small")  # these reject a photo; the others only warn


@dataclass(frozen=True)
class Limits:
    """Thresholds; each reason is given beyond its own."""

    smallest_side: int = 128  # pixels, of the shorter side
    sharpness: float = 180.0  # squared grey levels, see `sharpness`
    drawn_share: float = 0.85  # see `drawn_share`
    text_share: float = 0.01  # share of the photo, see `text_lines`
    face_height: float = 0.06  # of the photo's shorter side, the largest face at least
    second_face: float = 0.6  # height of the second face, of the largest's
    oddness: float = 5.0  # see `odd_ones_out`
    stranger: float = 0.56  # see `strangers`


@dataclass(frozen=True)
class Measures:
    """Numbers of one photo; None where there was nothing to measure with."""

    width: int  # pixels
    height: int  # pixels
    sharpness: float  # squared grey levels
    detail: float  # effective pixels
    drawn_share: float  # 0 to 1
    text_share: float  # 0 to 1
    faces: int | None = None
    face_height: float | None = None  # largest face, as a share of the photo's shorter side
    second_face: float | None = None  # height of the second face, as a share of the first's


def _grey(pixels: np.ndarray, scale: float) -> np.ndarray:
    size = [max(16, round(side * scale)) for side in pixels.shape[1::-1]]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.cvtColor(cv2.resize(pixels, size, interpolation=how), cv2.COLOR_RGB2GRAY)


def sharpness(pixels: np.ndarray) -> float:
    """Variance of the Laplacian where the photo is sharpest, in squared grey levels.

    Measured at a shorter side of 256 pixels, so that photos of all sizes compare (a small one is
    enlarged, and counts as blurred), and in windows of 32 pixels, of which a tenth is sharper than
    the result: a portrait before a blurred background is sharp. Below 180: 9 of 443 press photos,
    all visibly blurred or tiny.
    """
    grey = _grey(pixels, 256 / min(pixels.shape[:2]))
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    variance = cv2.blur(edges * edges, (32, 32)) - cv2.blur(edges, (32, 32)) ** 2
    return float(np.quantile(variance[::8, ::8], 0.9))


def detail(pixels: np.ndarray) -> float:
    """Effective pixels: the number of pixels, less where the photo was enlarged.

    What halving and enlarging the photo again takes away is fine structure; a photo that loses
    less than 3 grey levels (rms, in the tenth of its windows that loses most) had never that many
    pixels, and counts in proportion.
    """
    check_pixels(pixels)
    height, width = pixels.shape[:2]
    grey = _grey(pixels, min(1.0, 2048 / max(height, width)))
    half = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
    back = cv2.resize(half, grey.shape[::-1], interpolation=cv2.INTER_CUBIC)
    lost = cv2.blur((grey.astype(np.float32) - back) ** 2, (16, 16))
    return float(width * height * min(1.0, np.sqrt(np.quantile(lost, 0.9)) / 3))


def drawn_share(pixels: np.ndarray) -> float:
    """Share of the pixels outside the commonest colour that have one of the 24 next colours.

    Colours are told apart in steps of 4 levels. Drawings and logos come near 1, photos in colour
    below 0.5, even before a plain backdrop, which is the commonest colour.
    """
    few = cv2.resize(pixels, (128, 128), interpolation=cv2.INTER_NEAREST) >> 2
    codes = few.astype(np.int64) @ (4096, 64, 1)
    counts = np.sort(np.unique(codes, return_counts=True)[1])[::-1]
    rest = counts[1:].sum()
    return float(counts[1:25].sum() / rest) if rest > 0.02 * codes.size else 1.0


def main_faces(boxes: np.ndarray) -> np.ndarray:
    """Faces (n, 5): x0, y0, x1, y1, score, the highest first."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 5)
    return boxes[np.argsort(boxes[:, 1] - boxes[:, 3], kind="stable")]


def face_crop(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray | None:
    """The square of 1.5 faces around the largest face, uint8 (s, s, 3), cut at the photo's edges.

    None if there is no face, or none of it lies in the photo.
    """
    faces = main_faces(boxes)
    if not len(faces):
        return None
    x0, y0, x1, y1 = faces[0, :4]
    reach = 0.75 * max(x1 - x0, y1 - y0)
    top, bottom = (y0 + y1) / 2 - reach, (y0 + y1) / 2 + reach
    left, right = (x0 + x1) / 2 - reach, (x0 + x1) / 2 + reach
    part = pixels[max(0, round(top)) : max(0, round(bottom)),
                  max(0, round(left)) : max(0, round(right))]  # fmt: skip
    return part if part.size else None


def measure(pixels: np.ndarray, boxes: np.ndarray | None = None) -> Measures:
    """All measures of one photo.

    Args:
        pixels: uint8 (H, W, 3).
        boxes: its faces (n, 5): x0, y0, x1, y1 in pixels and score; None: not looked for.

    Raises:
        ValueError: no such photo.
    """
    check_pixels(pixels)
    height, width = pixels.shape[:2]
    numbers: dict = {}
    if boxes is not None:
        heights = [face[3] - face[1] for face in main_faces(boxes)]
        first, second = [*heights, 0.0, 0.0][:2]
        numbers["faces"] = len(heights)
        numbers["face_height"] = float(first / min(height, width))
        numbers["second_face"] = float(second / first) if first > 0 else 0.0
    return Measures(
        width, height, sharpness(pixels), detail(pixels), drawn_share(pixels),
        text_share(pixels), **numbers,
    )  # fmt: skip


def reasons_of(measures: Measures, limits: Limits = Limits()) -> list[str]:
    """Words of REASONS that one photo's measures give, those that reject first."""
    found = []
    if min(measures.width, measures.height) < limits.smallest_side:
        found.append("too_small")
    if measures.sharpness < limits.sharpness:
        found.append("blurred")
    if measures.faces == 0:
        found.append("no_face")
    elif measures.faces:
        if measures.second_face >= limits.second_face:
            found.append("several_faces")
        if measures.face_height < limits.face_height:
            found.append("small_face")
    if measures.text_share > limits.text_share:
        found.append("text")
    if measures.drawn_share > limits.drawn_share:
        found.append("drawn")
    return found


def odd_ones_out(
    vectors: np.ndarray, groups: Sequence[int], limit: float = 5.0, neighbours: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Photos whose vectors lie far from all others.

    A photo's distance is the mean cosine distance to its nearest neighbours outside its own group
    (a duplicate of an odd photo would be its near neighbour); its oddness says by how many robust
    standard deviations (1.4826 times the median absolute deviation) it exceeds the median.

    Args:
        vectors: float (n, d).
        groups: of each photo.
        limit: oddness above which a photo is odd.
        neighbours: how many.

    Returns:
        oddness, float (n,), NaN if there are fewer than four times as many groups as neighbours;
        and bool (n,), True for the odd photos.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    groups = np.asarray(groups)
    if len(np.unique(groups)) < 4 * neighbours:
        return np.full(len(vectors), np.nan), np.zeros(len(vectors), bool)
    centred = vectors - vectors.mean(0)  # pooled features are positive: all point the same way
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    distance = np.empty(len(unit))
    for i, vector in enumerate(unit):
        apart = np.where(groups == groups[i], np.inf, 1 - unit @ vector)
        distance[i] = np.partition(apart, neighbours - 1)[:neighbours].mean()
    middle = np.median(distance)
    spread = 1.4826 * np.median(np.abs(distance - middle))
    oddness = (distance - middle) / max(spread, 1e-6)
    return oddness, oddness > limit


def strangers(vectors: np.ndarray, limit: float = 0.56) -> tuple[np.ndarray, np.ndarray]:
    """Faces far from the middle of the collection, by descriptors that tell people apart.

    The middle is the median of each number: as long as most faces are the subject's, it is the
    subject. Among 140 press photos of one man 99% lie within 0.52 of it, 15 faces of other people
    from 0.58 on (`identity.FaceIdentity`).

    Args:
        vectors: float (n, d).
        limit: distance from the middle above which a face is somebody else's.

    Returns:
        distance, float (n,), NaN for fewer than eight faces; and bool (n,).
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    if len(vectors) < 8:
        return np.full(len(vectors), np.nan), np.zeros(len(vectors), bool)
    distance = np.linalg.norm(vectors - np.median(vectors, axis=0), axis=1)
    return distance, distance > limit


def measures_to_dict(measures: Measures) -> dict:
    """Plain numbers for a report, rounded to what they mean."""
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in asdict(measures).items()
    }
