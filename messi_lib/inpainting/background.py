"""What is behind a person, guessed from what is beside them: a hole filled without a network.

On a reduced copy of the hole's surroundings each patch of 7x7 cells that touches the hole gets the
known patch that looks most like it, and each unknown cell becomes the mean of what the patches over
it say; again and again, from coarse to fine (Wexler, Shechtman and Irani 2007, "Space-time
completion of video"). Coarse levels compare every pair of patches; on finer ones a patch tries what
its neighbours found (Barnes et al. 2009, "PatchMatch", section 3.2: propagation, without its random
search). Then the cells' colours are right, but a cell is many pixels wide: the photo's own detail
is copied from where each cell was found.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from ..images import check_pixels
from .holes import bounding_box, crop_around, distance_to

REACH = 3  # a patch has this many cells on each side of its centre
WIDE = 2 * REACH + 1
SIDE = 144  # cells along the longest side of the finest level: with more, patches see too little
CELLS = 6000  # that level has about so many unknown cells at most: this bounds the time
EXACT = 72  # levels up to this side compare every pair of patches: its cost grows with side^4
FINE = 1200  # pixels along the longest side of the copy from which detail is taken
ROUNDS, FINE_ROUNDS = 6, 3  # of search and vote, at the exact levels and at the others
FADING, FAINT = 1.5, 0.02  # trust in a cell falls by this with each cell of depth, down to that
DRIFT = np.array([30.0, 12.0], np.float32)  # levels that a window's way down or aside costs
GROUPS = 8  # holes far from each other that are filled one by one; more are filled together
COARSE = 48  # cells along the longest side of the grid on which holes are told apart


def fill_background(pixels: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """The photo with its `unknown` pixels replaced by plausible background.

    The same input gives the same result, with the same number of threads: a product of matrices
    rounds differently with another. Holes far from each other are filled one after the other, each
    from its surroundings; where these are more than FINE pixels wide, the finest grain is missing.

    Args:
        pixels: uint8 `(H,W,3)`; stays as it is.
        unknown: bool `(H,W)`, what to replace; the photo is not looked at there.

    Returns:
        uint8 `(H,W,3)`, a new array whose known pixels are the photo's; mid-grey with none known.

    Raises:
        ValueError: `pixels` or `unknown` of another type or shape.
    """
    if not isinstance(unknown, np.ndarray) or unknown.dtype != bool or unknown.ndim != 2:
        found = f"{getattr(unknown, 'dtype', type(unknown).__name__)} {np.shape(unknown)}"
        raise ValueError(f"unknown must be a bool array (H,W), not {found}")
    check_pixels(pixels, unknown.shape)
    if unknown.all():
        return np.full_like(pixels, 128)
    result = pixels.copy()
    for box, hole in _groups(unknown):
        around = _surroundings(unknown, box)
        inner = tuple(slice(b.start - a.start, b.stop - a.start) for a, b in zip(around, box))
        new = _fill_window(pixels[around], unknown[around], inner)
        cv2.copyTo(new, hole.view(np.uint8), result[box])
    return result


def _groups(unknown: np.ndarray) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Holes that lie apart: the box of each, and bool of that box: the pixels it means."""
    box = crop_around(unknown, 0)
    if box is None:
        return
    crop = unknown[box]
    step = -(-max(crop.shape) // COARSE)
    rows, columns = (np.arange(0, length, step) for length in crop.shape)
    cells = np.logical_or.reduceat(np.logical_or.reduceat(crop, rows, 0), columns, 1)
    near = cv2.dilate(cells.view(np.uint8), np.ones((5, 5), np.uint8))
    count, label = cv2.connectedComponents(near, connectivity=8)
    if not 2 < count <= GROUPS + 1:
        yield box, crop
        return
    for number in range(1, count):
        y0, x0, y1, x1 = bounding_box(cells & (label == number))
        meant = (label[y0:y1, x0:x1] == number).repeat(step, 0).repeat(step, 1)
        y0, x0 = y0 * step, x0 * step
        part = crop[y0 : y1 * step, x0 : x1 * step]
        y0, x0 = y0 + box[0].start, x0 + box[1].start
        within = slice(y0, y0 + part.shape[0]), slice(x0, x0 + part.shape[1])
        yield within, part & meant[: part.shape[0], : part.shape[1]]


def _surroundings(unknown: np.ndarray, box: tuple[slice, slice]) -> tuple[slice, slice]:
    """A hole's box with a margin of half its longest side, or more until enough in it is known."""
    margin = max(max(s.stop - s.start for s in box) // 2, 12)
    while True:
        rows, columns = (
            slice(max(s.start - margin, 0), min(s.stop + margin, length))
            for s, length in zip(box, unknown.shape)
        )
        gone = unknown[rows, columns]
        if gone.shape == unknown.shape or gone.mean() < 0.6:
            return rows, columns
        margin *= 2


def _fill_window(shown: np.ndarray, gone: np.ndarray, inner: tuple[slice, slice]) -> np.ndarray:
    """uint8 `(h,w,3)`: the part `inner` of a window, of which `gone` (bool) is filled."""
    factor = max(max(gone.shape) / FINE, 1)
    fine, share = _reduce(shown, gone, factor)
    free = _mostly(share)
    cells = max(max(free.shape) / SIDE, np.sqrt(np.count_nonzero(~free) / CELLS), 1)
    small, share = _reduce(fine, ~free, cells)
    filled, move = _complete(small, share)
    new = _with_detail(fine, free, filled, move)
    new = cv2.convertScaleAbs(np.maximum(new, 0, out=new))  # rounded and clipped
    if factor == 1:
        return new[inner]
    # One direction after the other, so that no more than what is wanted is ever made.
    rows, columns = inner
    new = cv2.resize(new, (new.shape[1], len(gone)), interpolation=cv2.INTER_CUBIC)[rows]
    return cv2.resize(new, (gone.shape[1], len(new)), interpolation=cv2.INTER_CUBIC)[:, columns]


def _reduce(shown: np.ndarray, gone: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Means of the known pixels of each cell, float32 `(h,w,3)`, and their share, `(h,w)`."""
    known = (~gone).view(np.uint8)
    visible = cv2.copyTo(shown, known)
    if factor == 1:
        return visible.astype(np.float32), known.astype(np.float32)
    cells = tuple(max(round(length / factor), 1) for length in gone.shape[::-1])
    share = known.astype(shown.dtype) * shown.dtype.type(255)
    share = cv2.resize(share, cells, interpolation=cv2.INTER_AREA)
    if not share.any():  # a few pixels among millions: all that is known is their colour
        mean = shown[~gone].mean(0, dtype=np.float32)
        return np.broadcast_to(mean, (*share.shape, 3)).copy(), np.ones(share.shape, np.float32)
    share = share.astype(np.float32) / 255
    mean = cv2.resize(visible, cells, interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.minimum(mean / np.maximum(share, 1 / 255)[..., None], 255), share


def _mostly(share: np.ndarray) -> np.ndarray:
    """Cells of which half is known; if there is none, those of which most is."""
    return share >= min(0.5, share.max())


def _halve(mean: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cells = (-(-mean.shape[1] // 2), -(-mean.shape[0] // 2))
    less = cv2.resize(share, cells, interpolation=cv2.INTER_AREA)
    total = cv2.resize(mean * share[..., None], cells, interpolation=cv2.INTER_AREA)
    return total / np.maximum(less, 1e-6)[..., None], less


def _smooth(mean: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Unknown cells from the means of ever larger known surroundings (push and pull)."""
    if max(share.shape) == 1:
        return mean
    coarse, weight = _halve(mean, share)
    coarse = _smooth(coarse, np.minimum(2 * weight, 1))
    coarse = cv2.resize(coarse, share.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return mean * share[..., None] + coarse * (1 - share[..., None])


def _complete(mean: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Fill a small image.

    Returns:
        (filled `(h,w,3)`, move): from how many cells below and beside each unknown cell was taken,
        int `(h,w,2)`. None if the image is too small to have patches: then it is filled smoothly.
    """
    pyramid = [(mean, share)]
    while min(pyramid[-1][1].shape) >= 24:
        pyramid.append(_halve(*pyramid[-1]))
    last, move, image = None, None, mean
    for mean, share in reversed(pyramid):
        level = _Level(_mostly(share))
        if last is None:
            image = _smooth(mean, level.free.astype(np.float32))
        else:
            image = cv2.resize(image, share.shape[::-1], interpolation=cv2.INTER_LINEAR)
            image = np.where(level.free[..., None], mean, image)
        if not level.usable:
            last, move = None, None
            continue
        exact = last is None or max(share.shape) <= EXACT
        if not exact:
            source = level.enlarged(move)
        for _ in range(ROUNDS if exact else FINE_ROUNDS):
            source, cost = level.best(image) if exact else level.better(image, source)
            image = level.vote(image, source, cost)
        last, move = level, level.moves(source)
    return image, move


class _Level:
    """The patches of one level. They have numbers, row by row, by their first cell.

    Args:
        free: bool `(h,w)`, the known cells. `usable` tells if there is anything to do or to take.
    """

    def __init__(self, free: np.ndarray):
        self.free, self.grid = free, tuple(length - 2 * REACH for length in free.shape)
        self.usable = min(self.grid) >= 2 and not free.all()
        if not self.usable:
            return
        centres = slice(REACH, -REACH), slice(REACH, -REACH)
        whole = cv2.erode(free.view(np.uint8), np.ones((WIDE, WIDE), np.uint8))[centres] > 0
        self.sources, self.targets = np.flatnonzero(whole), np.flatnonzero(~whole)
        self.usable = len(self.sources) >= 2 * WIDE
        if not self.usable:
            return
        # What is deep in the hole was guessed from guesses: it weighs less.
        trust = np.maximum(FADING ** -distance_to(free), FAINT).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(trust, (WIDE, WIDE))
        self.weight = windows.reshape(-1, WIDE * WIDE)[self.targets]
        self.centre = trust[centres].ravel()[self.targets, None]
        self.total = self.weight.sum(1, keepdims=True)
        self.drift = DRIFT * np.sqrt(np.float32(3)) / np.array(free.shape, np.float32)
        _, label = cv2.distanceTransformWithLabels(
            (~whole).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        nearest = np.zeros(label.max() + 1, np.intp)
        nearest[label[whole]] = self.sources
        self.nearest = nearest[label]  # the source nearest to each place

    def places(self, numbers: np.ndarray) -> np.ndarray:
        """Rows and columns of patches, int `(N,2)`."""
        return np.stack(np.divmod(numbers, self.grid[1]), 1)

    def patches(self, image: np.ndarray) -> np.ndarray:
        """All patches, float32 `(N,3,49)`."""
        windows = np.lib.stride_tricks.sliding_window_view(image, (WIDE, WIDE), (0, 1))
        return windows.reshape(-1, 3, WIDE * WIDE)

    def costs(self, patches: np.ndarray, source: np.ndarray, chosen=slice(None)) -> np.ndarray:
        """How far the `source` of each chosen target is from it, and how unlike: squared levels."""
        target = self.targets[chosen]
        unlike = (patches[target] - patches[source]) ** 2
        unlike = np.einsum("ncp,np->n", unlike, self.weight[chosen]) / self.total[chosen, 0]
        far = (self.places(target) - self.places(source)) * self.drift
        return unlike + (far**2).sum(1)

    def best(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(numbers of the sources, costs): the best of all sources for each target."""
        patches = self.patches(image)
        target, source = patches[self.targets], patches[self.sources]
        here, there = (self.places(n) * self.drift for n in (self.targets, self.sources))
        # The sum of w (t - s)^2, without what is the same for all s, as one product of matrices.
        crossed = (target * (-2 * self.weight[:, None])).reshape(len(target), -1)
        asked = (self.weight, crossed, -2 * self.total * here, self.total)
        given = ((source**2).sum(1), source.reshape(len(source), -1), there, there**2)
        given = (*given[:3], given[3].sum(1, keepdims=True))
        asked, given = (np.hstack(parts).astype(np.float32) for parts in (asked, given))
        found = [(asked[i : i + 512] @ given.T).argmin(1) for i in range(0, len(asked), 512)]
        chosen = self.sources[np.concatenate(found)]
        return chosen, self.costs(patches, chosen)

    def better(self, image: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Try for each target what lies beside the sources of its neighbours; like `best`."""
        patches, source = self.patches(image), source.copy()
        cost = self.costs(patches, source)
        here, limit = self.places(self.targets), np.array(self.grid) - 1
        number = np.full(self.grid, -1)
        number.flat[self.targets] = np.arange(len(self.targets))
        for jump in (1, 2, 1):
            for step in ((0, jump), (jump, 0), (0, -jump), (-jump, 0)):
                beside = number[tuple((here + step).clip(0, limit).T)]
                asked = np.flatnonzero(beside >= 0)
                place = (self.places(source[beside[asked]]) - step).clip(0, limit)
                new = self.nearest[tuple(place.T)]
                asked, new = asked[new != source[asked]], new[new != source[asked]]
                price = self.costs(patches, new, asked)
                won = price < cost[asked]
                source[asked[won]], cost[asked[won]] = new[won], price[won]
        return source, cost

    def vote(self, image: np.ndarray, source: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Each unknown cell becomes the mean of what the patches over it say, good ones louder."""
        height, width = self.free.shape
        spread = max(np.percentile(cost, 75), 1)
        loud = ((np.exp(-cost / (2 * spread)) + 1e-4)[:, None] * self.centre).astype(np.float32)
        cells = np.concatenate([image, np.ones((height, width, 1), np.float32)], 2).reshape(-1, 4)
        to, origin = (self.places(n) @ np.array([width, 1]) for n in (self.targets, source))
        total = np.zeros_like(cells)
        for shift in (y * width + x for y in range(WIDE) for x in range(WIDE)):
            total[to + shift] += cells[origin + shift] * loud  # no cell twice in one shift
        mean = (total[:, :3] / np.maximum(total[:, 3:], 1e-12)).reshape(image.shape)
        return np.where(self.free[..., None], image, mean)

    def moves(self, source: np.ndarray) -> np.ndarray:
        """From how far each cell's patch was taken, int `(h,w,2)`; 0 for patches without hole."""
        move = np.zeros((self.grid[0] * self.grid[1], 2), np.intp)
        move[self.targets] = self.places(source) - self.places(self.targets)
        frame = ((REACH, REACH), (REACH, REACH), (0, 0))
        return np.pad(move.reshape(*self.grid, 2), frame, mode="edge")

    def enlarged(self, move: np.ndarray) -> np.ndarray:
        """The sources that `moves` of the next coarser level mean on this one."""
        here = self.places(self.targets)
        coarse = tuple(((here + REACH) // 2).T)
        place = (here + 2 * move[coarse]).clip(0, np.array(self.grid) - 1)
        return self.nearest[tuple(place.T)]


def _with_detail(
    fine: np.ndarray, free: np.ndarray, filled: np.ndarray, move: np.ndarray | None
) -> np.ndarray:
    """`fine` with the colours of `filled` where it is not free, and the detail of their sources."""
    height, width = free.shape
    low = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
    result = np.where(free[..., None], fine, low)
    if move is None or filled.shape[:2] == free.shape:
        return result
    ratio = np.array(free.shape) / filled.shape[:2]
    here = np.argwhere(~free)
    cell = np.minimum((here / ratio).astype(np.intp), np.array(filled.shape[:2]) - 1)
    there = here + np.rint(move[tuple(cell.T)] * ratio).astype(np.intp)
    there = tuple(there.clip(0, (height - 1, width - 1)).T)
    seen, here = free[there], tuple(here.T)
    result[here] += np.where(seen[:, None], fine[there] - low[there], 0)
    return result
