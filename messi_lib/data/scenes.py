"""The places where footballers are seen: grass, stadium, street and indoor."""

from __future__ import annotations

import math

import cv2
import numpy as np

from .backdrop import Backdrop, Stage, jitter, noise_bank
from .poses import pick

BACKGROUNDS: tuple[str, ...] = ("grass", "stadium", "street", "indoor")


def _turf(back: Backdrop, stage: Stage, rng: np.random.Generator) -> None:
    """Mown grass in perspective from the far edge to the camera, mottled and striped."""
    s = back.size
    y_far = stage.point(0, stage.far)[1]
    a = max(0, int(round(y_far * s)))
    base = np.array(jitter(rng, pick(rng, [(82, 134, 66), (94, 144, 70), (70, 122, 68)]), 8),
                    np.float32)
    lengthwise, width = rng.random() < 0.4, rng.uniform(2.2, 5.0)
    shift, contrast = rng.uniform(0, 10, 2), rng.uniform(4, 13)
    if a >= s:
        return
    y = (np.arange(a, s, dtype=np.float32)[:, None] + 0.5) / s
    x = (np.arange(s, dtype=np.float32)[None] + 0.5) / s
    z = np.float32(stage.focal * stage.eye) / np.maximum(np.float32(1e-3), y - stage.horizon)
    gx = (x - 0.5) * (z / stage.focal)
    across = (gx * 22 + np.float32(shift[0] * 25)) % 255
    along = np.broadcast_to((z * 12 + np.float32(shift[1] * 25)) % 255, gx.shape)
    tex = cv2.remap(noise_bank(), across, np.ascontiguousarray(along), cv2.INTER_LINEAR,
                    borderMode=cv2.BORDER_WRAP)
    near = np.clip((y - stage.horizon) * 2.2, 0.12, 1)
    wave = np.clip(np.sin((gx if lengthwise else z) * (math.pi / width) + shift[0]) * 5, -1, 1)
    value = wave * contrast + tex * (18 * near) + (y - 0.7) * -14
    haze = np.clip((z - 8) / 60, 0, 0.45)
    rows = base + haze[..., None] * (np.array((126, 160, 112), np.float32) - base)
    out = rows + value[..., None] * np.array((0.85, 1.0, 0.6), np.float32)
    back.image[a:] = np.clip(out, 0, 255)


def _pitch_lines(back: Backdrop, stage: Stage, rng: np.random.Generator) -> None:
    white = (226, 236, 222)

    def strip(x0, z0, x1, z1, w=0.12):
        if abs(x1 - x0) > abs(z1 - z0):
            ring = [(x0, z0 - w), (x1, z1 - w), (x1, z1 + w), (x0, z0 + w)]
        else:
            ring = [(x0 - w, z0), (x1 - w, z1), (x1 + w, z1), (x0 + w, z0)]
        back.poly([stage.point(px, max(0.6, pz)) for px, pz in ring], white)

    z0 = rng.uniform(0.55, 0.9) * stage.far
    x0 = rng.uniform(-6, 6)
    strip(-60, z0, 60, z0)
    if rng.random() < 0.6:
        strip(x0, z0, x0, z0 - 5.5)
        strip(x0, z0 - 5.5, x0 + 18, z0 - 5.5)
    if rng.random() < 0.3:
        cz, turn = rng.uniform(6, 12), np.linspace(0, 2 * math.pi, 48)
        ring = [stage.point(x0 + r * math.cos(t), cz + r * math.sin(t))
                for r, way in ((4.0, 1), (3.86, -1)) for t in turn[::way]]
        back.poly(ring, white)
    if rng.random() < 0.6:
        _goal(back, stage, x0 + rng.uniform(-3, 3), z0)


def _goal(back: Backdrop, stage: Stage, x: float, z: float) -> None:
    bar = 0.13 * stage.focal / z
    left, right, net = x - 3.66, x + 3.66, (206, 214, 210)
    open_ = back.image.copy()
    for k in range(1, 16):
        f = left + (right - left) * k / 16
        back.line(stage.point(f, z + .8), stage.point(f, z + .8, 2.3), bar * .2, net)
    for k in range(1, 6):
        back.line(stage.point(left, z + .8, 2.44 * k / 6), stage.point(right, z + .8, 2.44 * k / 6),
                  bar * .2, net)
    thread = min(1.0, bar * .2 * back.size)  # thinner than a pixel: as much fainter
    cv2.addWeighted(back.image, thread, open_, 1 - thread, 0, back.image)
    for f in (left, right):
        back.line(stage.point(f, z), stage.point(f, z, 2.44), bar, (242, 244, 242))
        back.line(stage.point(f, z, 2.44), stage.point(f, z + 1.6, 1.4), bar * .5, (210, 214, 210))
    back.line(stage.point(left - .06, z, 2.44), stage.point(right + .06, z, 2.44), bar,
              (246, 248, 246))


def _sky(back: Backdrop, y1: float, rng: np.random.Generator) -> None:
    top, low = pick(rng, [((96, 150, 214), (190, 214, 232)), ((150, 168, 186), (204, 210, 212)),
                           ((92, 122, 178), (240, 204, 172)), ((120, 178, 226), (214, 228, 236))])
    back.gradient(0, y1, jitter(rng, top, 8), jitter(rng, low, 8))
    back.grain(0, y1, 12, rng.integers(0, 256, 2), 14)


def _trees(back: Backdrop, y_base: float, tall: float, rng: np.random.Generator) -> None:
    """A hedge of round crowns standing on y_base, `tall` frames high."""
    for layer in (0, 1):
        green = np.array(jitter(rng, (58, 94, 56) if layer else (92, 124, 92), 10))
        for x, dx, up, r in zip(np.arange(-.05, 1.1, .11), *rng.uniform(0, 1, (3, 11))):
            x, y, r = x + .06 * dx, y_base - tall * (.3 + .4 * up), tall * (.32 + .24 * r)
            r *= 1.0 if layer else 1.3
            back.disc(x, y, r, r, green)
            back.disc(x - r * .2, y - r * .22, r * .62, r * .6, green + 9)
        back.rect(-.1, y_base - tall * .35, 1.1, y_base + .004, green - 8)


def _grass(back: Backdrop, stage: Stage, rng: np.random.Generator) -> None:
    y = stage.point(0, stage.far)[1]
    _sky(back, y, rng)
    _trees(back, y, rng.uniform(.07, .2), rng)
    _turf(back, stage, rng)
    _pitch_lines(back, stage, rng)


def _stadium(back: Backdrop, stage: Stage, rng: np.random.Generator) -> None:
    s = back.size
    y = stage.point(0, stage.far)[1]
    board = stage.focal * 1.0 / stage.far
    top = y - rng.uniform(.32, .7)
    palette = np.array([jitter(rng, c, 20) for c in ((196, 60, 66), (60, 96, 180), (224, 222, 214),
                        (84, 84, 96), (206, 172, 90))])
    weights = rng.dirichlet(np.ones(5) * 1.2)  # the home colours fill most seats
    rows, cols = 22, 64
    crowd = palette[rng.choice(5, (rows, cols), p=weights)] * rng.uniform(.5, 1, (rows, cols, 1))
    tex = np.repeat(np.repeat(crowd, 2, 0), 2, 1)
    tex[::2, ::2] = np.array((212, 168, 136)) * rng.uniform(.5, 1, (rows, cols, 1))
    tex[::2, 1::2] = (52, 52, 64)
    tex[:, (np.arange(8) * 16 + int(rng.integers(16))) % 128] = (120, 122, 130)  # stairways
    tex = cv2.GaussianBlur(tex.astype(np.float32), (0, 0), .7)  # the lens focuses on the players
    tex *= np.linspace(.55, .9, 2 * rows, dtype=np.float32)[:, None, None]
    fx, fy = 2 * cols / s, 2 * rows / ((y - board - top) * s)  # texels per pixel
    affine = np.array([[fx, 0, fx / 2 - .5], [0, fy, fy * (.5 - top * s) - .5]])
    back.image[:] = cv2.warpAffine(np.clip(tex + 12, 0, 255).astype(np.uint8), affine, (s, s),
                                   flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                   borderMode=cv2.BORDER_REPLICATE)
    back.rect(0, -1, 1, top, (34, 40, 58))
    if top > .02:
        back.rect(0, top - .05, 1, top, (46, 50, 62))
        for x in np.linspace(.08, .92, 5):
            back.rect(x - .035, top - .045, x + .035, top - .022, (255, 252, 236))
    x = -rng.uniform(0, .2)
    while x < 1:
        w = rng.uniform(.14, .3)
        paint = np.array(jitter(rng, pick(rng, [(190, 52, 58), (32, 64, 136), (232, 232, 228),
                                                  (34, 116, 90), (232, 178, 60), (36, 38, 46)])))
        back.rect(x, y - board, x + w, y + .003, paint)
        ink = (245, 245, 240) if paint.sum() < 450 else (34, 40, 60)
        cx = x + w * .15
        for _ in range(5):  # lettering too far to read
            lw = w * rng.uniform(.06, .13)
            back.rect(cx, y - board * .72, cx + lw, y - board * .28, ink)
            cx += lw + w * .04
        x += w
    _turf(back, stage, rng)
    _pitch_lines(back, stage, rng)


def _house(back: Backdrop, stage: Stage, x0: float, w: float, rng: np.random.Generator) -> None:
    """A facade of width w metres from x0: plinth, door, rows of windows, tiled roof."""
    z, high = stage.far, rng.uniform(5.6, 9.5)
    wall = np.array(jitter(rng, pick(rng, [(198, 128, 100), (224, 206, 174), (180, 190, 200),
                                             (214, 170, 120), (168, 96, 84), (232, 226, 216)]), 12))
    back.upright(stage, z, x0, x0 + w, 0, high, wall)
    back.poly([stage.point(x0 + dx, z, high + up) for dx, up in
               ((-.2, 0), (w + .2, 0), (w - .5, 1.9), (.5, 1.9))], jitter(rng, (122, 74, 62), 16))
    back.upright(stage, z, x0, x0 + w, 0, .5, wall * .72)
    n = max(2, int(w / 1.9))
    door, paint = int(rng.integers(n)), jitter(rng, (92, 58, 44), 36)
    glass, frame = np.array(jitter(rng, (112, 134, 152), 14)), (236, 232, 224)
    for floor in range(int(high // 2.8)):
        for k in range(n):
            cx, low = x0 + w * (k + .5) / n, .9 + 2.8 * floor
            if floor == 0 and k == door:
                back.upright(stage, z, cx - .5, cx + .5, 0, 2.25, paint)
                continue
            back.upright(stage, z, cx - .62, cx + .62, low - .1, low + 1.5, frame)
            back.upright(stage, z, cx - .52, cx - .03, low, low + 1.4, glass + 16)
            back.upright(stage, z, cx + .03, cx + .52, low, low + 1.4, glass)


def _street(back: Backdrop, stage: Stage, rng: np.random.Generator) -> None:
    y, u = stage.point(0, stage.far)[1], stage.focal / stage.far
    _sky(back, min(1.0, y), rng)
    x = -.6 / u - rng.uniform(0, 4)
    while x < .6 / u:
        w = rng.uniform(4.2, 7.5)
        _house(back, stage, x, w, rng)
        x += w
    stone = np.array(jitter(rng, (172, 166, 158), 10))
    back.gradient(y, 1.0, stone * .9, stone)
    kerb = max(2.2, stage.far - rng.uniform(5.5, 8.0))
    for z in np.arange(kerb, stage.far, .9):
        yy = stage.point(0, z)[1]
        back.rect(0, yy, 1, yy + .05 * stage.focal * stage.eye / z / z, stone * .84)
    for gx in np.arange(-9, 9.1, .9):
        back.line(stage.point(gx, stage.far), stage.point(gx, kerb), .0024, stone * .8, stone)
    yk, edge = stage.point(0, kerb)[1], .08 * stage.focal / kerb
    road = np.array(jitter(rng, (92, 94, 98), 10))
    back.gradient(yk + edge, 1.0, road * .92, road)
    back.rect(0, yk, 1, yk + edge, stone * 1.12)
    back.grain(y, 1.0, 11, rng.integers(0, 256, 2), 120)
    if rng.random() < .4:
        _car(back, stage, rng)
    if rng.random() < .5:  # a street tree
        tx, z = rng.uniform(-.45, .45) / u, stage.far - 1.2
        back.line(stage.point(tx, z), stage.point(tx, z, 3.2), .3 * u, (92, 70, 54))
        for _ in range(9):
            cx, cy = stage.point(tx + rng.uniform(-1, 1), z, rng.uniform(3, 4.8))
            r, lift = rng.uniform(.5, .95) * u, rng.uniform(-16, 20)
            back.disc(cx, cy, r, r, np.array((72, 116, 62)) + lift)


def _car(back: Backdrop, stage: Stage, rng: np.random.Generator) -> None:
    """A parked car, seen from its side."""
    z, cx = stage.far - 1.6, rng.uniform(-.4, .4) * stage.far / stage.focal
    paint = jitter(rng, pick(rng, [(170, 40, 44), (52, 84, 136), (206, 208, 210), (50, 54, 60)]))
    for colour, ring in (
            (paint, [(-2.1, .35), (2.1, .35), (2.1, .8), (1.5, .92), (.9, 1.42), (-1.0, 1.42),
                     (-1.6, .95), (-2.1, .85)]),
            ((70, 84, 96), [(-1.35, .95), (-.9, 1.33), (-.1, 1.33), (-.1, .95)]),
            ((82, 96, 108), [(0, .95), (0, 1.33), (.82, 1.33), (1.3, .95)])):
        back.poly([stage.point(cx + dx, z, up) for dx, up in ring], colour)
    for wx in (-1.3, 1.3):
        x, y = stage.point(cx + wx, z, .34)
        for r, grey in ((.34, 28), (.18, 150)):
            back.disc(x, y, r * stage.focal / z, r * stage.focal / z, (grey, grey, grey + 2))


def _indoor(back: Backdrop, stage: Stage, rng: np.random.Generator) -> None:
    z, u = stage.far, stage.focal / stage.far
    y, half = stage.point(0, z)[1], .5 / u
    wall = np.array(jitter(rng, pick(rng, [(222, 212, 194), (190, 204, 208), (214, 196, 186),
                                             (182, 190, 172), (232, 230, 226)]), 8))
    back.gradient(0, y, wall * .93, wall)
    back.grain(0, y, 4, rng.integers(0, 256, 2), 40)

    def slab(x0, x1, low, high, colour):
        back.upright(stage, z, x0, x1, low, high, colour)

    for side in rng.permutation([-.62, .05, .62])[:int(rng.integers(1, 4))]:
        cx, kind, w = side * half + rng.uniform(-.2, .2), int(rng.integers(3)), rng.uniform(.28, .5)
        if kind == 0:  # a window with a garden behind it
            slab(cx - w - .27, cx + w + .27, .93, 2.27, (246, 244, 240))
            slab(cx - w - .2, cx + w + .2, 1.0, 2.2, (186, 214, 236))
            slab(cx - w - .2, cx + w + .2, 1.0, 1.42, (140, 172, 124))
            slab(cx - .025, cx + .025, 1.0, 2.2, (246, 244, 240))
        elif kind == 1:  # a picture
            slab(cx - w, cx + w, 1.3, 1.9, (74, 58, 48))
            slab(cx - w + .05, cx + w - .05, 1.35, 1.85, jitter(rng, (176, 168, 152), 30))
            slab(cx - w + .05, cx + w - .05, 1.35, 1.53, jitter(rng, (120, 124, 104), 30))
        else:  # a door
            slab(cx - .46, cx + .46, 0, 2.07, jitter(rng, (142, 104, 76), 20))
            slab(cx - .38, cx + .38, 0, 2.0, jitter(rng, (166, 124, 90), 8))
            slab(cx + .25, cx + .32, .98, 1.04, (214, 196, 140))
    if rng.random() < .4:  # a sofa by the wall
        cx, c = rng.uniform(-.6, .6) * half, np.array(jitter(rng, (104, 112, 132), 26))
        slab(cx - .95, cx + .95, .05, .85, c)
        slab(cx - .95, cx + .95, .05, .42, c * 1.14)
        slab(cx - 1.05, cx - .8, 0, .62, c * .85)
        slab(cx + .8, cx + 1.05, 0, .62, c * .85)
    wood = np.array(jitter(rng, pick(rng, [(166, 122, 84), (188, 150, 108), (128, 94, 72),
                                             (150, 150, 152)]), 8))
    back.gradient(y, 1.0, wood * .9, wood * 1.04)
    for gx in np.arange(-6.4, 6.5, .32):
        back.line(stage.point(gx, z), stage.point(gx, .7), .0028, wood * .78, wood)
    back.grain(y, 1.0, 8, rng.integers(0, 256, 2), 90)
    back.rect(0, y - .09 * u, 1, y + .003, np.minimum(255, wall * 1.08))


_PAINTERS = {"grass": _grass, "stadium": _stadium, "street": _street, "indoor": _indoor}


def paint_stage(stage: Stage, size: int, rng: np.random.Generator) -> np.ndarray:
    """The empty place as uint8 (size, size, 3) RGB, slightly out of focus."""
    fold = -(-96 // size)  # thumbnails are painted larger and shrunk, so that nothing aliases
    back = Backdrop(size * fold)
    _PAINTERS[stage.name](back, stage, rng)
    image = cv2.GaussianBlur(back.image, (0, 0), max(.25, rng.uniform(.001, .006) * size * fold))
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) if fold > 1 else image
