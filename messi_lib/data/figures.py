"""Articulated footballers: bodies posed in 3-D, dressed, and drawn as shaded rounded limbs.

A figure is a skeleton in body heights (x to its left, y up, z forward), turned by a yaw and
projected nearly orthographically; limbs are tubes of fixed-point polygons, the head is a little
ray-cast solid, so hair, beard and eyes sit right from every side.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from .poses import (
    AN_L,
    EL_L,
    HA_L,
    HE_L,
    HEAD,
    HI_L,
    HI_R,
    KN_L,
    NECK,
    PELVIS,
    SH_L,
    TO_L,
    WR_L,
    Kit,
    Light,
    Look,
    Pose,
)

_CAP_COS, _CAP_SIN = (f(np.linspace(0.0, math.pi / 2, 6))[:-1] for f in (np.cos, np.sin))


def _shape(*points: tuple, caps: str = "ab") -> np.ndarray:
    """A limb's outline from (fraction of its length, radius) pairs, with round ends where named.

    Returns (3, 14): fraction, cap's reach, radius; rows 5..8 are the body between the caps.
    """
    t, r = np.array(points + points[-1:] * (4 - len(points))).T
    out = np.zeros((3, 14))
    out[:, 5:9], out[0, :5], out[0, 9:] = (t, 0 * t, r), t[0], t[-1]
    for name, part, end, way in (("a", slice(0, 5), r[0], 1), ("b", slice(9, 14), r[-1], -1)):
        if name in caps:
            out[1, part], out[2, part] = -way * end * _CAP_COS[::way], end * _CAP_SIN[::way]
        else:
            out[2, part] = end
    return out


_STRIPS = {n: np.sin(np.linspace(-math.pi / 2, math.pi / 2, n + 1)) for n in range(4, 29)}


def _strips(scale: float) -> np.ndarray:
    """Edges in [-1, 1] of the one-shade strips across a limb of a body `scale` pixels tall."""
    return _STRIPS[int(min(28, 4 + scale / 95 + (scale / 280) ** 2))]


class Brush:
    """Draws figures on a supersampled canvas and keeps who owns each pixel.

    image uint8 (h, w, 3), owner uint8 (h, w): 0 nobody, else the label last drawn there.
    """

    def __init__(self, height: int, width: int, light: Light):
        self.image = np.zeros((height, width, 3), np.uint8)
        self.owner = np.zeros((height, width), np.uint8)
        self.light, self.label = light, 0

    def tubes(self, limbs: list, scale: float, body: slice = slice(5, 9),
              bands: list | None = None) -> None:
        """Draw limbs [(a, b, shape, colour)] in order, lit as cylinders; a, b in pixels.

        `bands` [(u_from, colour)] runs along a single limb, u in [-1, 1] across it.
        """
        if not limbs:
            return
        a, b, shape, colour = (np.array(part, np.float64) for part in zip(*limbs))
        across = _strips(scale)
        if bands:
            across = np.array(sorted({*across.tolist(), *(x for x, _ in bands)}))
        way = b - a
        length = np.hypot(way[:, 0], way[:, 1])[:, None] + 1e-3
        way = way / length
        s = (shape[:, 0] * length + shape[:, 1] * scale) * 16
        r = np.maximum(shape[:, 2] * (scale * 16) - 7, 2)  # OpenCV fills half a pixel further
        spine = (a * 16 - 8)[:, None] + s[..., None] * way[:, None]
        side = r[..., None] * (way[:, None, ::-1] * (-1, 1))
        edges = (spine[:, None] + across[:, None, None] * side[:, None]).astype(np.int32)
        outlines = np.concatenate([edges[:, 0], edges[:, -1, ::-1]], 1)
        rings = np.concatenate([edges[:, :-1, body], edges[:, 1:, body][:, :, ::-1]], 2)
        mid = (across[1:] + across[:-1]) * 0.5
        round_ = np.sqrt(1 - mid * mid)
        lx, ly, lz = self.light.direction
        lit = np.maximum(0.0, (way[:, :1] * ly - way[:, 1:] * lx) * mid + lz * round_)
        lit = (lit * self.light.diffuse + self.light.ambient) * (0.74 + 0.26 * round_)
        if bands:
            starts, inks = zip(*bands)
            colour = np.array(inks)[np.searchsorted(starts, mid, "right") - 1][None]
        else:
            colour = colour[:, None]
        tints = np.minimum(255.0, colour * lit[..., None]).tolist()
        # the caps keep the middle's light: a joint should not show a dark ring
        flat = self.light.ambient + self.light.diffuse * lz * 0.94
        ends = np.minimum(255.0, colour[:, colour.shape[1] // 2] * flat).tolist()
        for outline, end, strips, lights in zip(outlines, ends, rings, tints):
            cv2.fillPoly(self.owner, [outline], self.label, cv2.LINE_8, 4)
            cv2.fillPoly(self.image, [outline], end, cv2.LINE_8, 4)
            for strip, tint in zip(strips, lights):
                cv2.fillPoly(self.image, [strip], tint, cv2.LINE_8, 4)


_UPPER, _FORE = _shape((.5, .030), (1, .0235)), _shape((0, .0235), (.25, .0265), (1, .0165))
_HAND = _shape((0, .0165), (.45, .022), (1, .014))
_SLEEVE, _SLEEVE_LONG = _shape((0, .036), (.72, .039), caps="a"), _shape((0, .036), (1, .031))
_CUFF, _FORE_LONG = _shape((.66, .0395), (.725, .0395), caps=""), _shape((0, .031), (.9, .025))
_THIGH = _shape((.5, .048), (1, .037))
_SHANK = _shape((0, .037), (.28, .0425), (.55, .035), (1, .02))
_SOCK = _shape((.12, .0405), (.3, .0445), (.55, .0375), (1, .027), caps="b")
_BAND = _shape((.12, .042), (.19, .044), caps="")
_HEEL, _FOOT = _shape((0, .025), (1, .023)), _shape((0, .023), (.5, .027), (1, .018))
_SHORT = _shape((0, .047), (.4, .056), (.78, .062), caps="a")
_TROUSER = _shape((0, .050), (.4, .051), (1, .045))
_TROUSER_LOW = _shape((0, .045), (.3, .046), (1.02, .036))
_HIPS, _NECK = _shape((0, .046), (1, .046)), _shape((-.3, .038), (.9, .031))
_FALL = _shape((0, .062), (.5, .068), (1, .055))
_TORSO = np.array([(-.12, .094, .068), (0, .088, .066), (.3, .081, .062), (.55, .090, .070),
                   (.75, .101, .068), (.88, .099, .058), (.96, .080, .048), (1.03, .042, .040)]).T


def draw_figure(brush: Brush, pose: Pose, look: Look, x: float, y: float, height: float,
                label: int) -> None:
    """Draw a body with its feet at (x, y) and the stature `height`, all in canvas pixels."""
    brush.label = label
    p3 = pose.screen()
    z = p3[:, 2]
    p = np.stack([x + p3[:, 0] * height, y - p3[:, 1] * height], 1).tolist()
    g, kit, skin, fine = height * look.girth, look.kit, look.skin, height > 70
    sleeve_bands = None
    if kit.pattern == "stripes" and height > 110:
        sleeve_bands = _bands(kit, 0.4, kit.stripes * 0.6)

    queue: list = []  # limbs wait here, so that numpy sees many at once

    def flush() -> None:
        brush.tubes(queue, g)
        queue.clear()

    def limb(i: int, j: int, shape: np.ndarray, colour, bands=None) -> None:
        if bands:
            flush()
            brush.tubes([(p[i], p[j], shape, colour)], g, bands=bands)
        else:
            queue.append((p[i], p[j], shape, colour))

    def arm(s: int) -> None:
        tone = kit.second if kit.pattern == "halves" and s else kit.base
        limb(WR_L + s, HA_L + s, _HAND, skin)
        if kit.long_sleeves:
            limb(EL_L + s, WR_L + s, _FORE_LONG, tone, sleeve_bands)
            limb(SH_L + s, EL_L + s, _SLEEVE_LONG, tone, sleeve_bands)
        else:
            limb(SH_L + s, EL_L + s, _UPPER, skin)
            limb(EL_L + s, WR_L + s, _FORE, skin)
            limb(SH_L + s, EL_L + s, _SLEEVE, tone, sleeve_bands)
            if fine:
                limb(SH_L + s, EL_L + s, _CUFF, kit.trim)

    def leg(s: int) -> None:
        if not kit.trousers:
            limb(HI_L + s, KN_L + s, _THIGH, skin)
            limb(KN_L + s, AN_L + s, _SHANK, skin)
            limb(KN_L + s, AN_L + s, _SOCK, kit.socks)
            if fine:
                limb(KN_L + s, AN_L + s, _BAND, kit.trim)
        limb(AN_L + s, HE_L + s, _HEEL, kit.boots)
        limb(HE_L + s, TO_L + s, _FOOT, kit.boots)
        if kit.trousers:
            limb(KN_L + s, AN_L + s, _TROUSER_LOW, kit.shorts)
        limb(HI_L + s, KN_L + s, _TROUSER if kit.trousers else _SHORT, kit.shorts)

    far_leg, near_leg = sorted((0, 1), key=lambda s: z[KN_L + s] + 0.6 * z[AN_L + s])
    arms = sorted((0, 1), key=lambda s: z[EL_L + s] + 0.6 * z[HA_L + s])
    front = [s for s in arms if z[EL_L + s] + z[HA_L + s] - 2 * z[NECK] > -0.10]
    for s in arms:
        if s not in front:
            arm(s)
    leg(far_leg)
    limb(HI_L, HI_R, _HIPS, kit.shorts)
    leg(near_leg)
    away = math.cos(pose.head_yaw) < 0
    fall = [h + (n - h) * 1.15 for h, n in zip(p[HEAD], p[NECK])]
    if look.style == "long" and not away:  # hair that falls behind the neck
        queue.append((p[HEAD], fall, _FALL, look.hair))
    limb(NECK, HEAD, _NECK, [c * 0.86 for c in skin])  # under the chin's shadow
    flush()
    _torso(brush, pose, look, p, g)
    _head(brush, p[HEAD], 0.074 * height, pose, look)
    if look.style == "long" and away:
        queue.append((p[HEAD], fall, _FALL, look.hair))
    for s in front:
        arm(s)
    flush()


def _bands(kit: Kit, turn: float, pairs: float) -> list | None:
    """Where a striped or halved shirt changes colour across a body turned by `turn`."""
    if kit.pattern == "stripes":
        step = math.pi / pairs  # even around the body, so they narrow towards its edges
        first = math.ceil((-math.pi / 2 - turn) / step - 1.5)
        cuts = [(k, turn + (k + 0.5) * step) for k in range(first, first + int(pairs) + 3)]
        return [(math.sin(max(-math.pi / 2, at)), kit.second if k % 2 else kit.base)
                for k, at in cuts if at < math.pi / 2]
    if kit.pattern == "halves":
        front = math.cos(turn) > 0
        left, right = (kit.base, kit.second) if front else (kit.second, kit.base)
        return [(-1.0, left), (max(-.98, min(.98, math.sin(turn) * (1 if front else -1))), right)]
    return None


def _torso(brush: Brush, pose: Pose, look: Look, p: list, g: float) -> None:
    """Shirt from below the hips to the neck, with its pattern, collar and numbers."""
    kit, turn = look.kit, pose.yaw + pose.twist * 0.6
    t, wide, deep = _TORSO
    deep = deep + 0.06 * max(0.0, look.girth - 1.0) * (t < .7)
    r = np.hypot(wide * math.cos(turn), deep * math.sin(turn))
    a, b, none, whole = p[PELVIS], p[NECK], np.zeros_like(t), slice(None)
    brush.tubes([(a, b, (t, none, r), kit.base)], g, whole, _bands(kit, turn, kit.stripes))
    for k in range(4 if kit.pattern == "hoops" else 0):
        cut = np.linspace(.02, .14, 4) + .25 * k
        brush.tubes([(a, b, (cut, none[:4], np.interp(cut, t, r)), kit.second)], g, whole)
    if g > 70:
        collar = ((.985, 1.05), (0, 0), (r[-1] * 1.14, r[-1] * .92))
        brush.tubes([(a, b, collar, kit.trim)], g, whole)
    if not kit.number or g < 90:
        return
    axis = np.subtract(b, a)
    across = np.array([-axis[1], axis[0]]) / (np.hypot(*axis) + 1e-6) * g
    digits = str(kit.number)
    for centre, top, tall, width in ((0.0, .80, .15, .22), (math.pi, .86, .42, .58)):
        angle = math.remainder(centre + turn, 2 * math.pi)
        for k, digit in enumerate(digits if abs(angle) < .8 else ""):
            q = np.array([(int(c) % 3 / 2, int(c) // 3 / 2) for c in _DIGITS[digit]])
            lon = angle + (q[:, 0] * .66 + k - len(digits) / 2 + .17) * width
            at = top - q[:, 1] * tall
            pts = a + at[:, None] * axis
            pts = pts + (np.sin(np.clip(lon, -1.5, 1.5)) * np.interp(at, t, r))[:, None] * across
            cv2.polylines(brush.image, [(pts * 16 - 8).astype(np.int32)], False, kit.ink,
                          max(1, round(g * tall * .03)), cv2.LINE_AA, 4)


# strokes over a 3 x 3 grid numbered row by row
_DIGITS = dict(zip("0123456789", ("02860", "317", "025368", "0254586", "03528", "203586", "206853",
                                  "027", "0286035", "530286")))
_LON = np.radians([0.0, 45.0, 70.0, 95.0, 125.0, 180.0])
_HAIR = {  # growth, then the lowest v (1 crown, -1 chin) of the hair at the angles _LON
    "short": (1.08, .58, .56, .12, .12, -.50, -.62), "buzz": (1.02, .60, .58, .22, .18, -.40, -.5),
    "bald": (1.01, 2, 2, 2, .2, -.1, -.2), "quiff": (1.14, .62, .60, .2, .15, -.45, -.6),
    "afro": (1.36, .55, .50, .0, -.1, -.6, -.8), "long": (1.11, .60, .50, -.1, -.5, -.9, -1.0),
    "bun": (1.06, .66, .62, .3, .1, -.4, -.6),
}


def _head(brush: Brush, centre, radius: float, pose: Pose, look: Look) -> None:
    """Ray-cast head, `radius` half its height in pixels; u, v in [-1, 1], theta 0 at the nose."""
    h, w = brush.owner.shape
    (cx, cy), yaw, grow = centre, pose.head_yaw, _HAIR[look.style][0]
    reach = radius * max(1.16, grow * 1.02) * (1.15 if look.style == "bun" else 1)
    x0, x1 = max(0, int(cx - reach)), min(w, int(cx + reach) + 2)
    y0, y1 = max(0, int(cy - reach)), min(h, int(cy + reach) + 2)
    if x0 >= x1 or y0 >= y1:
        return
    px = ((np.arange(x0, x1, dtype=np.float32) + 0.5 - cx) / radius)[None]
    py = ((cy - np.arange(y0, y1, dtype=np.float32) - 0.5) / radius)[:, None]
    cr, sr = math.cos(pose.head_roll), math.sin(pose.head_roll)
    x, y = px * cr - py * sr, px * sr + py * cr
    wide = math.hypot(.72 * math.cos(yaw), .84 * math.sin(yaw))
    jaw = 0.15 if look.beard == 1.0 else 0.2

    def around(size: float) -> tuple:
        v = y / size
        half = np.sqrt(np.maximum(1e-4, 1 - np.abs(v) ** 2.4)) * (1 + jaw * np.minimum(v, 0))
        u = x / (half * (wide * size))
        theta = np.abs(np.arcsin(np.clip(u, -1, 1)) - yaw)
        side = np.abs((theta + math.pi) % (2 * math.pi) - math.pi)
        return u, v, side, (abs(u) < 1) & (abs(v) < 1)

    u, v, side, inside = around(1.0)
    hu, hv, hair_side, hull = around(grow)
    nod = v + pose.head_pitch
    hair = hull & (hv + pose.head_pitch > np.interp(hair_side, _LON, _HAIR[look.style][1:]))
    if look.style == "bun":
        bun = (x + math.sin(yaw) * .75) ** 2 + (y - .74) ** 2 < .34 ** 2
        hair |= bun & ~inside if math.cos(yaw) > 0 else bun
    skin, tone = np.array(look.skin, np.float32), np.array(look.hair, np.float32)
    colour = np.empty((*inside.shape, 3), np.float32)
    colour[:] = skin
    solid = inside | hair
    if look.beard:
        edge = np.interp(side, np.radians([0, 22, 45, 75, 95, 105]), [-.6, -.3, -.26, .12, .2, -2])
        beard = (nod < edge) | ((side < .5) & (nod < -.27) & (nod > -.41))
        beard &= ~((side < .34) & (nod < -.41) & (nod > -.55))
        mix = 0.9 if look.beard == 1.0 else 0.4
        colour[beard] = skin * (1 - mix) + tone * mix
    if radius > 4:
        colour[(side < .30) & (np.abs(nod + .49) < .04)] = skin * .35 + np.array((78, 26, 28))
        colour[(side < .16) & (nod < -.12) & (nod > -.26)] = skin * .86  # under the nose
        lid = ((side - .40) / .19) ** 2 + ((nod - .06) / .09) ** 2 < 1
        colour[lid] = (244, 242, 238) if radius > 11 else (40, 28, 26)
        if radius > 11:
            colour[((side - .39) / .1) ** 2 + ((nod - .06) / .095) ** 2 < 1] = (46, 30, 26)
        arch = nod - .22 + .25 * (side - .4) ** 2
        colour[(np.abs(side - .42) < .26) & (np.abs(arch) < .04)] = tone * .8 + skin * .2
        bumps = np.zeros_like(inside)
        for at in (yaw - math.pi / 2, yaw + math.pi / 2):  # ears, and the nose in profile
            if math.cos(at) > -.35:
                bumps |= ((x - math.sin(at) * wide) / .13) ** 2 + ((y - .02) / .2) ** 2 < 1
        if -.2 < math.cos(yaw) < .75:
            bumps |= ((x - math.sin(yaw) * (wide + .01)) / .13) ** 2 + ((y + .13) / .16) ** 2 < 1
        colour[bumps & ~inside] = skin * .95
        solid |= bumps
    colour[hair] = tone
    nz = 0.8 * np.sqrt(np.maximum(0, 1 - hu * hu)) + 0.2 * np.maximum(0, 1 - hv * hv)
    lx, ly, lz = brush.light.direction
    lit = np.maximum(0, np.clip(hu, -1, 1) * (lx * .8) - hv * (ly * .5) + nz * lz)
    colour *= ((brush.light.ambient + brush.light.diffuse * lit) * (0.78 + 0.22 * nz))[..., None]
    brush.image[y0:y1, x0:x1][solid] = np.minimum(colour[solid], 255)
    brush.owner[y0:y1, x0:x1][solid] = brush.label
