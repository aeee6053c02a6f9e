"""A place in perspective and the picture it is painted on.

Everything is laid out in metres on a ground plane and projected into the unit frame, so a place
looks the same at every resolution; textures are cut from one bank of smooth noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .poses import Light


@dataclass(frozen=True)
class Stage:
    """A place and its camera: `horizon` (frame heights from the top), eye height `eye` in metres,
    focal length `focal` in frame heights, and `far`, the depth in metres where the ground ends."""

    name: str
    horizon: float
    eye: float
    focal: float
    far: float
    light: Light
    sun: tuple  # where a body's shadow falls: (right, up the frame) per body height; strength
    strength: float

    def point(self, x: float, z: float, height: float = 0.0) -> tuple[float, float]:
        """Project the point x metres right, z deep and `height` above ground: (x, y) in frames."""
        return 0.5 + self.focal * x / z, self.horizon + self.focal * (self.eye - height) / z


def random_stage(rng: np.random.Generator, name: str, horizon: float, eye: float,
                 focal: float) -> Stage:
    """Choose light, shadow and depth for a place called `name` (of BACKGROUNDS)."""
    side = rng.uniform(-0.75, 0.75)
    up = -rng.uniform(0.25, 0.6)
    norm = math.sqrt(side * side + up * up + 0.5)
    direct = (side / norm, up / norm, math.sqrt(0.5) / norm)
    hard = {"grass": 0.55, "stadium": 0.4, "street": 0.5, "indoor": 0.28}[name] * rng.uniform(.6, 1)
    far = {"grass": rng.uniform(26, 60), "stadium": rng.uniform(18, 40),
           "street": rng.uniform(9, 16), "indoor": rng.uniform(4.2, 6.5)}[name]
    light = Light(direct, rng.uniform(0.55, 0.68), rng.uniform(0.42, 0.56))
    return Stage(name, horizon, eye, focal, far, light, (-side * 1.1, rng.uniform(.10, .26)), hard)


@lru_cache(maxsize=1)
def noise_bank() -> np.ndarray:
    """(256, 256) float32 fractal noise in about [-1, 1], periodic."""
    rng = np.random.default_rng(10)
    bank = np.zeros((256, 256), np.float32)
    for octave, weight in ((8, .35), (32, .5), (128, .6), (256, .6)):
        cells = rng.normal(0, 1, (octave, octave)).astype(np.float32)
        tiled = np.tile(cells, (3, 3))
        big = cv2.resize(tiled, (768, 768), interpolation=cv2.INTER_CUBIC)
        bank += weight * big[256:512, 256:512]
    return np.clip(bank / 2.2, -1, 1)


CIRCLE = np.array([(math.cos(t), math.sin(t)) for t in np.linspace(0, 2 * math.pi, 25)[:-1]])


class Backdrop:
    """A square picture of `size` pixels addressed in frames (0..1), anti-aliased."""

    def __init__(self, size: int):
        self.size = size
        self.image = np.zeros((size, size, 3), np.uint8)

    def poly(self, points, colour) -> None:
        """Fill a polygon of (x, y) in frames with an RGB colour."""
        q = np.array(points) * (self.size * 64.0) - 32
        centre = q.sum(0) / len(q)  # OpenCV's soft edges reach half a pixel out: pull them in
        q -= np.minimum(np.maximum(q - centre, -26), 26)
        cv2.fillPoly(self.image, [q.astype(np.int32)], [float(c) for c in colour], cv2.LINE_AA, 6)

    def disc(self, x, y, rx, ry, colour) -> None:
        """Fill an upright ellipse of radii rx, ry."""
        self.poly(CIRCLE * (rx, ry) + (x, y), colour)

    def upright(self, stage: Stage, z, x0, x1, low, high, colour) -> None:
        """Fill a rectangle standing z metres away, x0..x1 across and low..high above the ground."""
        (a, b), (c, d) = stage.point(x0, z, low), stage.point(x1, z, high)
        self.poly([(a, b), (c, b), (c, d), (a, d)], colour)

    def rect(self, x0, y0, x1, y1, colour) -> None:
        """Fill an upright rectangle."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def line(self, a, b, width, colour, under=None) -> None:
        """A straight bar of `width` frames; below a pixel it fades to the colour `under` it."""
        if under is not None and width * self.size < 1:
            colour = np.array(under) + np.subtract(colour, under) * (width * self.size)
        dx, dy = b[0] - a[0], b[1] - a[1]
        n = math.hypot(dx, dy) or 1e-6
        ox, oy = -dy / n * width / 2, dx / n * width / 2
        self.poly([(a[0] + ox, a[1] + oy), (b[0] + ox, b[1] + oy), (b[0] - ox, b[1] - oy),
                   (a[0] - ox, a[1] - oy)], colour)

    def gradient(self, y0, y1, top, bottom) -> None:
        """Fill the rows between y0 and y1 (frames) from the colour `top` to `bottom`."""
        s = self.size
        a, b = max(0, int(round(y0 * s))), min(s, int(round(y1 * s)))
        if b > a:
            f = ((np.arange(a, b) + 0.5) / s - y0) / max(1e-6, y1 - y0)
            rows = np.array(top) * (1 - f[:, None]) + np.array(bottom) * f[:, None]
            self.image[a:b] = rows[:, None].astype(np.uint8)

    def grain(self, y0, y1, amount, offset, cells=64) -> None:
        """Mottle the rows between y0 and y1 with noise of `amount` grey levels."""
        s = self.size
        a, b = max(0, int(round(y0 * s))), min(s, int(round(y1 * s)))
        if b <= a:
            return
        oy, ox = offset
        patch = np.take(np.take(noise_bank(), np.arange(oy, oy + cells) % 256, 0),
                        np.arange(ox, ox + cells) % 256, 1)
        tex = cv2.resize(patch, (s, s), interpolation=cv2.INTER_AREA if s < cells else
                         cv2.INTER_LINEAR)[a:b]
        part = self.image[a:b].astype(np.float32)
        part += (amount * tex)[..., None]
        self.image[a:b] = np.clip(part, 0, 255)


def jitter(rng: np.random.Generator, colour, amount: float = 10) -> tuple:
    """The RGB colour moved by up to `amount` in each channel."""
    return tuple(np.clip(np.array(colour) + rng.uniform(-amount, amount, 3), 0, 255))
