"""Bodies posed in 3-D: skeletons of footballers, and what they wear.

A skeleton is in body heights (x to its left, y up, z forward), turned by a yaw. Drawing is in
`figures.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

POSES: tuple[str, ...] = ("stand", "walk", "run", "kick", "celebrate", "header")
PITCH_TILT = 0.13  # how far a step towards the camera moves down the frame
(PELVIS, NECK, HEAD, SH_L, SH_R, EL_L, EL_R, WR_L, WR_R, HA_L, HA_R, HI_L, HI_R, KN_L, KN_R,
 AN_L, AN_R, HE_L, HE_R, TO_L, TO_R) = range(21)


@dataclass(frozen=True)
class Kit:
    """What somebody wears; colours are RGB 0..255, lengths are fractions of the limb covered."""

    base: tuple
    second: tuple
    pattern: str  # plain, stripes, hoops, halves
    shorts: tuple
    socks: tuple
    boots: tuple
    trim: tuple
    number: int = 0
    ink: tuple = (255, 255, 255)
    long_sleeves: bool = False
    trousers: bool = False
    stripes: float = 5.0  # stripes across the half of the body one sees


@dataclass(frozen=True)
class Look:
    """One body: skin, hair and beard, stature in metres, girth as a factor, and the kit."""

    skin: tuple
    hair: tuple
    style: str
    beard: float  # 0 none, 0.5 stubble, 1 full
    stature: float
    girth: float
    kit: Kit


@dataclass(frozen=True)
class Pose:
    """Joints (21, 3) in body heights, feet at y = 0 unless jumping, and the angles of view."""

    name: str
    joints: np.ndarray
    yaw: float
    twist: float
    head_yaw: float
    head_roll: float
    head_pitch: float
    up: tuple

    def screen(self) -> np.ndarray:
        """(21, 3): x right, y up in the picture, depth towards the camera; body heights."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        x, y, z = self.joints.T
        depth = z * c - x * s
        return np.stack([x * c + z * s, y - PITCH_TILT * depth, depth], 1)


@dataclass(frozen=True)
class Light:
    """A far lamp: unit vector (right, down, towards the camera) and its share of the light."""

    direction: tuple
    ambient: float
    diffuse: float


def pick(rng: np.random.Generator, table: Sequence, weights: Sequence | None = None):
    """One entry of a table, by weights summing to 1 or each as likely (rng.choice is slow)."""
    if weights is None:
        return table[int(rng.integers(len(table)))]
    left = rng.random()
    for entry, weight in zip(table, weights):
        left -= weight
        if left < 0:
            return entry
    return table[-1]


def _aim(flex: float, abduct: float, side: float) -> np.ndarray:
    """Unit vector of a limb hanging down, swung forward by flex and outward by abduct (radians)."""
    return np.array([side * math.sin(abduct), -math.cos(abduct) * math.cos(flex),
                     math.cos(abduct) * math.sin(flex)])


def random_pose(rng: np.random.Generator, name: str | None = None,
                yaw: float | None = None) -> Pose:
    """A pose of the given name (of POSES, or any); `yaw` in radians, 0 faces the camera."""
    if name is None:
        name = pick(rng, POSES, (.24, .14, .24, .14, .14, .10))
    j = rng.normal(0.0, 1.0, 24) * 0.07  # joints never repeat exactly
    flip = 1 if rng.random() < 0.5 else 0  # which side leads
    a, b = flip, 1 - flip
    phase = rng.uniform(0.0, 2 * math.pi)
    variant = rng.random()
    d = math.radians
    lean, roll, twist, lift = d(3) + 0.4 * j[0], 0.4 * j[1], 0.6 * j[2], 0.0
    leg = [[0.0, d(5), d(4)], [0.0, d(5), d(4)]]  # flex, abduct, knee
    arm = [[d(2), d(12), d(14), d(5)], [d(2), d(12), d(14), d(5)]]  # flex, abduct, fore flex/abduct
    spread = 1.3
    if name == "stand":
        leg[a] = [d(8) * variant, d(6 + 6 * variant), d(8)]
        if variant > 0.72:  # hands on hips
            for s in (0, 1):
                arm[s] = [d(-12), d(40), d(12), d(-52)]
        elif variant > 0.5:  # one arm points
            arm[a] = [d(70), d(35), d(78), d(35)]
    elif name in ("walk", "run"):
        amp, bend, run = (24.0, 34.0, 0) if name == "walk" else (46.0, 92.0, 1)
        for s, ph in ((a, phase), (b, phase + math.pi)):
            leg[s] = [d(amp * math.sin(ph) + 12 * run), d(2),
                      d(6 + 8 * run + bend * max(0.0, math.cos(ph)) ** 1.2 * (0.7 + 0.3 * run))]
            swing = -amp * 0.95 * math.sin(ph)
            arm[s] = [d(swing - 6 * run), d(10 + 6 * run), d(swing + (82 if run else 22)), d(2)]
        twist = d(9 + 9 * run) * math.sin(phase) * (1 if a else -1)
        lean += d(4 + 9 * run)
        lift = 0.03 * run * abs(math.cos(phase))
        spread = math.pi
    elif name == "kick":
        if variant < 0.6:  # follow-through
            leg[a], lean = [d(48 + 30 * variant), d(8), d(12)], d(-8) + 0.4 * j[0]
        else:  # back-swing
            leg[a], lean = [d(-34), d(12), d(78)], d(8) + 0.4 * j[0]
        leg[b] = [d(4), d(7), d(16)]
        arm[b] = [d(25), d(66), d(35), d(58)]
        arm[a] = [d(-40), d(34), d(-15), d(20)]
        roll += d(7) * (1 if b else -1)
        spread = math.pi
    elif name == "celebrate":
        if variant < 0.45:  # both arms to the sky
            for s in (0, 1):
                arm[s] = [d(6), d(150 + 18 * j[6]), d(4), d(166)]
        elif variant < 0.75:  # arms wide, like wings
            for s in (0, 1):
                arm[s] = [d(6), d(98), d(14), d(108)]
        else:  # a fist in the air
            arm[a], arm[b] = [d(4), d(140), d(4), d(176)], [d(20), d(30), d(80), d(-20)]
        leg[a] = [d(10), d(10), d(14)]
        leg[b] = [d(-6), d(9), d(10)]
        if rng.random() < 0.35:
            lift, leg[a], leg[b] = 0.10, [d(34), d(10), d(80)], [d(-8), d(10), d(46)]
    else:  # header
        lift = rng.uniform(0.08, 0.2)
        leg[a], leg[b] = [d(-14), d(8), d(58)], [d(14), d(9), d(40)]
        for s in (0, 1):
            arm[s] = [d(-10 + 30 * s), d(62), d(50), d(48)]
        lean, spread = d(12) + j[0], 2.2
    if yaw is None:
        yaw = float(rng.uniform(-spread, spread))
        if spread < math.pi and rng.random() < 0.16:
            yaw += math.pi
    return _assemble(name, leg, arm, j, (lean, roll, twist, lift), yaw, rng)


def _assemble(name: str, leg: list, arm: list, j: np.ndarray, trunk: tuple, yaw: float,
              rng: np.random.Generator) -> Pose:
    """Forward kinematics: limb angles to a Pose, set down so that the lowest foot touches grass."""
    lean, roll, twist, lift = trunk
    up = np.array([math.sin(roll), math.cos(lean) * math.cos(roll), math.sin(lean)])
    pts = np.zeros((21, 3))
    pts[NECK] = up * 0.30
    head_up = np.array([up[0] * 1.2, up[1], up[2] * 0.6 + 0.12])
    pts[HEAD] = pts[NECK] + head_up * (0.100 / np.linalg.norm(head_up))
    for s, side in ((0, -1.0), (1, 1.0)):
        across = np.array([math.cos(twist), -math.sin(roll), -math.sin(twist)]) * side
        fl, ab, ffl, fab = arm[s]
        k = 3 + 4 * s
        fl, ab, ffl, fab = fl + j[k], ab + abs(j[k + 1]), ffl + j[k + 2], fab + j[k + 3] * 0.6
        pts[SH_L + s] = up * 0.258 + across * 0.100
        pts[EL_L + s] = pts[SH_L + s] + _aim(fl + lean * 0.5, ab, side) * 0.165
        fore = _aim(ffl + lean * 0.5, fab, side)
        pts[WR_L + s] = pts[EL_L + s] + fore * 0.145
        pts[HA_L + s] = pts[WR_L + s] + fore * 0.05
        fl, ab, knee = leg[s]
        fl, knee = fl + 0.6 * j[k + 10], max(0.02, knee + j[k + 11])
        pts[HI_L + s] = np.array([math.cos(twist), 0.0, math.sin(twist)]) * side * 0.046
        pts[KN_L + s] = pts[HI_L + s] + _aim(fl, ab, side) * 0.245
        shank = fl - knee
        pts[AN_L + s] = pts[KN_L + s] + _aim(shank, ab * 0.6, side) * 0.245
        toe = min(0.0, shank + 0.4) * 1.1 + max(0.0, shank - 0.3) * 0.7  # flat when planted
        fore = np.array([0.28 * side, math.sin(toe), math.cos(toe)])
        down = np.array([0.0, -math.cos(toe), math.sin(toe)]) * 0.030
        pts[HE_L + s] = pts[AN_L + s] + down - fore * 0.022
        pts[TO_L + s] = pts[AN_L + s] + down + fore * 0.098
    ground = pts[[HE_L, HE_R, TO_L, TO_R], 1].min() - 0.018
    pts[:, 1] += lift - ground
    return Pose(name, pts, yaw, twist, yaw + float(rng.normal(0, 0.3)), float(rng.normal(0, 0.08))
                + 0.7 * roll, float(rng.normal(-0.02, 0.08)), tuple(up))
