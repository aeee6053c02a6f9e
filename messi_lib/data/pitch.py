"""`pitch`: an endless, deterministic, licence-free world of footballers, with exact masks.

Image i depends on (seed, i) alone. `people_scene` stands in for COCO people, `subject_scene` for
a folder of photos of one player, the number 10.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from .backdrop import Stage, random_stage
from .figures import Brush, draw_figure
from .poses import POSES, Look, Pose, pick, random_pose
from .scenes import BACKGROUNDS, paint_stage
from .wardrobe import (
    KITS,
    number_ten,
    random_kit,
    random_look,
    street_clothes,
)

__all__ = ["BACKGROUNDS", "KITS", "POSES", "Scene", "people_scene", "subject_scene", "write_people",
           "write_subject"]


@dataclass(frozen=True)
class Scene:
    """One picture: image uint8 (H, W, 3) RGB; persons bool (H, W) each, the visible part of each
    person, back to front, disjoint, none empty; number10 indexes the recurring player or None."""

    image: np.ndarray
    persons: list[np.ndarray]
    number10: int | None

    @property
    def person(self) -> np.ndarray:
        """bool (H, W): where anybody is."""
        out = np.zeros(self.image.shape[:2], bool)
        for mask in self.persons:
            out |= mask
        return out


@dataclass(frozen=True)
class _Actor:
    """A body in place: feet at (x, y) and stature `height`, in frames."""

    pose: Pose
    look: Look
    x: float
    y: float
    height: float
    ten: bool = False
    ball: tuple | None = None  # (x, y, radius) in frames


def people_scene(seed: int, index: int, size: int = 256, *, max_people: int = 6) -> Scene:
    """A scene as in COCO: 0..max_people people (nobody in about 12%) of any scale, pose and place.

    size: pixels of the square frame, 16..1024; seed and index are >= 0. The composition does not
    depend on the size. Raises ValueError for an argument out of range.
    """
    _check(seed, index, size)
    if not 0 <= max_people <= 200:
        raise ValueError(f"people_scene: max_people {max_people} is out of range; give 0..200")
    rng = np.random.default_rng([seed, index, 1])
    name = pick(rng, BACKGROUNDS, (.3, .3, .22, .18))
    eye = float(rng.uniform(1.2, 2.4) if name != "stadium" else rng.uniform(1.3, 4.5))
    focal = float(rng.uniform(1.0, 1.9))
    stage = random_stage(rng, name, float(rng.uniform(.18, .46)), eye, focal)
    count = 0 if rng.random() < .12 else int(rng.integers(1, max(2, max_people + 1)))
    count = min(count, max_people)
    teams = [random_kit(rng), random_kit(rng)]
    ten_at = int(rng.integers(count)) if count and rng.random() < .2 else -1
    crowd = rng.uniform(.25, 1.0)  # how far apart along the frame
    middle = rng.uniform(.3, .7)
    actors: list[_Actor] = []
    for k in range(count):
        if k == ten_at:
            look = number_ten(pick(rng, KITS), rng)
        else:
            civil = rng.random() < (.65 if name in ("street", "indoor") else .06)
            look = random_look(rng, street_clothes(rng) if civil else teams[int(rng.integers(2))])
        pose = random_pose(rng)
        lo = max(.16, 1.08 * stage.focal * look.stature / stage.far)
        hi = max(lo * 1.02, min(1.15, (1.22 - stage.horizon) * look.stature / eye))
        for _ in range(8):
            height = float(np.exp(rng.uniform(math.log(lo), math.log(hi))))
            x = float(np.clip(middle + crowd * rng.uniform(-.55, .55), .03, .97))
            if all(abs(x - a.x) > .16 * min(height, a.height) or height > 2 * a.height
                   for a in actors):
                break
        y = stage.horizon + eye * height / look.stature
        actors.append(_with_ball(_Actor(pose, look, x, y, height, k == ten_at), rng, .22))
    actors.sort(key=lambda a: a.y)
    return _render(stage, actors, size, seed, index)


def subject_scene(seed: int, index: int, size: int = 128, *, kit: str | None = None) -> Scene:
    """A photo of the recurring player, the number 10, whole and centred, 62..88% of the frame high.

    kit: one of KITS, or None to draw one; size: pixels, 16..1024; seed and index >= 0. Now and
    then others stand small behind him. Raises ValueError for an argument out of range.
    """
    _check(seed, index, size)
    if kit is not None and kit not in KITS:
        raise ValueError(f"subject_scene: kit {kit!r} is unknown; choose one of {', '.join(KITS)}")
    rng = np.random.default_rng([seed, index, 2])
    drawn = pick(rng, KITS)
    look = number_ten(kit or drawn, rng)
    pose = random_pose(rng)
    pts = pose.screen()
    left, right = pts[:, 0].min() - .03, pts[:, 0].max() + .03
    low, high = pts[:, 1].min() - .02, max(pts[:, 1].max() + .02, pts[2, 1] + .085)
    height = float(min(rng.uniform(.66, .87) / (high - low), .92 / (right - left)))
    x = float(.5 - height * (left + right) / 2 + rng.uniform(-.02, .02))
    y = float(.5 + height * (high + low) / 2 + rng.uniform(-.01, .02))
    horizon = float(rng.uniform(.22, min(.46, y - .3)))
    name = pick(rng, BACKGROUNDS)
    focal = float(rng.uniform(1.1, 2.0))
    stage = random_stage(rng, name, horizon, float((y - horizon) * look.stature / height), focal)
    stage = replace(stage, far=max(stage.far, 1.12 * focal * look.stature / height))
    actors = []
    for _ in range(int(rng.integers(1, 4)) if rng.random() < .25 else 0):
        other = random_look(rng, random_kit(rng))
        far = float(rng.uniform(.16, .34))
        far = max(far, 1.05 * focal * other.stature / stage.far)
        if far < .45 * height:
            side = .5 + (.2 + .28 * rng.random()) * (1 if rng.random() < .5 else -1)
            actors.append(_Actor(random_pose(rng), other, float(side),
                                 horizon + stage.eye * far / other.stature, far))
    actors.append(_with_ball(_Actor(pose, look, x, y, height, True), rng, .45))
    actors.sort(key=lambda a: a.y)
    return _render(stage, actors, size, seed, index)


def _check(seed: int, index: int, size: int) -> None:
    if not 16 <= size <= 1024:
        raise ValueError(f"pitch: size {size} px is out of range; give 16..1024")
    if seed < 0 or index < 0:
        raise ValueError(f"pitch: seed {seed} and index {index} must not be negative")


def _with_ball(actor: _Actor, rng: np.random.Generator, chance: float) -> _Actor:
    """Maybe give the actor a ball where the pose wants it: at the feet, or above the head."""
    draw, dx = rng.random(), rng.uniform(.08, .22)
    if draw > chance * (2.0 if actor.pose.name in ("kick", "header") else 1.0):
        return actor
    h, radius, pts = actor.height, .064 * actor.height, actor.pose.screen()
    way = 1.0 if math.sin(actor.pose.yaw) >= 0 else -1.0
    if actor.pose.name == "header":
        bx, by = actor.x + h * (pts[2, 0] + way * .10), actor.y - h * (pts[2, 1] + .13)
    else:
        bx, by = actor.x + h * (pts[19:21, 0].mean() + way * dx), actor.y + h * .015 - radius
    return replace(actor, ball=(float(bx), float(by), radius))


def _shadows(stage: Stage, actors: list[_Actor]) -> np.ndarray:
    """float32 (128, 128): how much light the ground keeps, 1 out of all shadows."""
    grid = 128
    dark = np.zeros((grid, grid), np.uint8)
    soft = np.zeros((grid, grid), np.uint8)
    for actor in actors:
        pts, h = actor.pose.screen(), actor.height * grid
        heights = pts[:, 1] + .13 * pts[:, 2]
        sx = actor.x * grid + h * (pts[:, 0] + stage.sun[0] * heights * .8)
        sy = actor.y * grid - h * (-.13 * pts[:, 2] + stage.sun[1] * heights)
        for i, j, w in _BONES:
            cv2.line(dark, (int(sx[i] * 16), int(sy[i] * 16)), (int(sx[j] * 16), int(sy[j] * 16)),
                     255, max(1, round(w * h)), cv2.LINE_AA, 4)
        feet = pts[15:21, 0]
        cv2.ellipse(soft, (int(16 * (actor.x * grid + h * feet.mean())), int(16 * actor.y * grid)),
                    (int(16 * h * (.09 + np.ptp(feet) / 2)), int(16 * h * .045)), 0, 0, 360, 255,
                    -1, cv2.LINE_AA, 4)
        if actor.ball:
            bx, _, r = actor.ball
            cv2.ellipse(soft, (int(16 * grid * bx), int(16 * grid * actor.y)),
                        (int(20 * grid * r), int(7 * grid * r)), 0, 0, 360, 255, -1, cv2.LINE_AA, 4)
    dark = cv2.GaussianBlur(dark, (0, 0), .9).astype(np.float32)
    soft = cv2.GaussianBlur(soft, (0, 0), 1.6).astype(np.float32)
    return (1 - stage.strength * dark / 255) * (1 - .34 * soft / 255)


# joint, joint, thickness in body heights
_BONES = [(0, 1, .15), (1, 2, .11), (3, 5, .06), (5, 7, .05), (4, 6, .06), (6, 8, .05),
          (11, 13, .10), (13, 15, .07), (12, 14, .10), (14, 16, .07), (15, 19, .04), (16, 20, .04)]
_OBJECT = 255  # owner label of what is in front of people but is nobody


def _ball(brush: Brush, x: float, y: float, radius: float, spin: np.ndarray) -> None:
    """A shaded football, its dark patches at the corners of an icosahedron turned by `spin`."""
    h, w = brush.owner.shape
    x0, x1 = max(0, int(x - radius) - 1), min(w, int(x + radius) + 2)
    y0, y1 = max(0, int(y - radius) - 1), min(h, int(y + radius) + 2)
    if x0 >= x1 or y0 >= y1:
        return
    u = ((np.arange(x0, x1, dtype=np.float32) + .5 - x) / radius)[None]
    v = ((np.arange(y0, y1, dtype=np.float32) + .5 - y) / radius)[:, None]
    rr = u * u + v * v
    solid = rr < 1
    n = np.stack(np.broadcast_arrays(u, v, np.sqrt(np.maximum(0, 1 - rr))), -1)
    patch = np.abs(n @ (_ICOSA @ spin).T.astype(np.float32)).max(-1) > .925
    d = brush.light.direction
    lit = brush.light.ambient + brush.light.diffuse * np.maximum(0, n @ np.array(d, np.float32))
    grey = np.where(patch, 40.0, 244.0) * lit
    brush.image[y0:y1, x0:x1][solid] = np.clip(grey[solid], 0, 255)[:, None]
    brush.owner[y0:y1, x0:x1][solid] = _OBJECT


_G = (1 + math.sqrt(5)) / 2
_ICOSA = np.array([(0, 1, _G), (0, 1, -_G), (1, _G, 0), (1, -_G, 0), (_G, 0, 1), (-_G, 0, 1)]) \
    / math.hypot(1, _G)


def _render(stage: Stage, actors: list[_Actor], size: int, seed: int, index: int) -> Scene:
    """Ground and shadows at `size`, bodies supersampled on top, then the camera."""
    rng = np.random.default_rng([seed, index, 3])
    image = paint_stage(stage, size, rng)
    keep = cv2.resize(_shadows(stage, actors), (size, size), interpolation=cv2.INTER_LINEAR if
                      size >= 128 else cv2.INTER_AREA)
    # no shadow climbs the wall or the stands
    keep[:max(0, min(size, int(round(stage.point(0, stage.far)[1] * size))))] = 1.0
    k = 2 if size > 192 else max(2, min(8, 384 // size))
    brush = Brush(size * k, size * k, stage.light)
    for label, a in enumerate(actors, 1):
        x, y, height = (v * size * k for v in (a.x, a.y, a.height))
        draw_figure(brush, a.pose, a.look, x, y, height, label)
        if a.ball:
            tumble = np.random.default_rng([seed, index, 4, label])
            spin = np.linalg.qr(tumble.normal(size=(3, 3)))[0]
            _ball(brush, *(c * size * k for c in a.ball), spin)
    front = cv2.resize(brush.image, (size, size), interpolation=cv2.INTER_AREA)
    cover = cv2.resize(cv2.inRange(brush.owner, 1, 255), (size, size),
                       interpolation=cv2.INTER_AREA)
    out = image * (keep * (1 - cover * np.float32(1 / 255)))[..., None] + front
    persons, ten = [], None
    taken = np.zeros((size, size), bool)
    for label in range(len(actors), 0, -1):  # front first: a tie goes to the one in front
        mask = np.zeros((size, size), bool)
        a = actors[label - 1]  # no pose reaches further from the feet
        x0, x1 = (int(np.clip((a.x + way * a.height) * size, 0, size)) for way in (-.8, .8))
        y0, y1 = (int(np.clip((a.y + way * a.height) * size, 0, size)) for way in (-1.5, .2))
        if x0 < x1 and y0 < y1:
            part = brush.owner[y0 * k:y1 * k, x0 * k:x1 * k]
            share = cv2.resize(cv2.inRange(part, label, label), (x1 - x0, y1 - y0),
                               interpolation=cv2.INTER_AREA)
            mask[y0:y1, x0:x1] = (share >= 128) & ~taken[y0:y1, x0:x1]
        if mask.any():
            taken |= mask
            persons.insert(0, (label, mask))
    for i, (label, _) in enumerate(persons):
        if actors[label - 1].ten:
            ten = i
    return Scene(_camera(out, size, rng), [m for _, m in persons], ten)


def _camera(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """float (size, size, 3) to uint8 as a camera would: colour cast, vignette, blur, noise."""
    warmth, gain, blur = rng.normal(0, .022), rng.uniform(.93, 1.07), rng.uniform(0, .0022) * size
    cast = np.array([1 + warmth, 1.0, 1 - warmth], np.float32) * gain
    axis = ((np.arange(size, dtype=np.float32) + .5) / size - .5) ** 2
    fall = 1 - rng.uniform(.1, .5) * (axis[:, None] + axis[None])
    image = image.astype(np.float32) * (fall[..., None] * cast)
    if blur > .25:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    oy, ox = rng.integers(0, 256, 2)
    rows, cols = (np.arange(size) + oy) % 256, (np.arange(size) + ox) % 256
    image += (rng.uniform(.5, 2.2) * _grain()[rows][:, cols])[..., None]
    return np.clip(image + .5, 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """(256, 256) float32 white noise of unit variance: the sensor's."""
    return np.random.default_rng(11).normal(0, 1, (256, 256)).astype(np.float32)


def write_people(out: Path, n: int, *, size: int = 256, seed: int = 0) -> Path:
    """Write n people scenes: OUT/images/000001.png ... and OUT/instances.json in COCO's format.

    Masks are compressed RLE, so exact. Returns the json's path. Raises ValueError for n < 1, a bad
    size, or a folder `out` that already holds something.
    """
    from pycocotools import mask as rle

    out = _fresh(out, n, size, "write_people")
    (out / "images").mkdir()
    images, notes = [], []
    for i in range(n):
        scene = people_scene(seed, i, size)
        file = f"{i + 1:06d}.png"
        cv2.imwrite(str(out / "images" / file), scene.image[..., ::-1])
        images.append({"id": i + 1, "file_name": file, "width": size, "height": size, "license": 1})
        for mask in scene.persons:
            code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
            notes.append({"id": len(notes) + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0,
                          "area": float(mask.sum()), "bbox": [float(v) for v in rle.toBbox(code)],
                          "segmentation": {"size": [size, size],
                                           "counts": code["counts"].decode()}})
    path = out / "instances.json"
    path.write_text(json.dumps({
        "info": {"description": f"pitch: procedural people, seed {seed}", "version": "1.0"},
        "licenses": [{"id": 1, "name": "CC0 1.0",
                      "url": "https://creativecommons.org/publicdomain/zero/1.0/"}],
        "categories": [{"id": 1, "name": "person", "supercategory": "person"}],
        "images": images, "annotations": notes}))
    return path


def write_subject(out: Path, n: int, *, size: int = 128, seed: int = 0,
                  kit: str | None = None) -> Path:
    """Write n photos of the number 10: OUT/000001.png ...; returns OUT.

    Raises ValueError for n < 1, a bad size, an unknown kit, or a folder that holds something.
    """
    if kit is not None and kit not in KITS:
        raise ValueError(f"write_subject: kit {kit!r} is unknown; choose one of {', '.join(KITS)}")
    out = _fresh(out, n, size, "write_subject")
    for i in range(n):
        scene = subject_scene(seed, i, size, kit=kit)
        cv2.imwrite(str(out / f"{i + 1:06d}.png"), scene.image[..., ::-1])
    return out


def _fresh(out: Path, n: int, size: int, who: str) -> Path:
    """Make the folder `out`, which must be absent or empty, once the numbers are sound."""
    out = Path(out)
    if n < 1:
        raise ValueError(f"{who}: n is {n}; ask for at least 1 image")
    _check(0, 0, size)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{who}: {out} is not an empty folder; give a new one")
    out.mkdir(parents=True, exist_ok=True)
    return out
