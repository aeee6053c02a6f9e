"""What players look like: the number 10, other teams, street clothes, hair and skin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .poses import Kit, Look, pick

KITS: tuple[str, ...] = ("sky", "blaugrana", "pink")
HAIR_STYLES = ("short", "buzz", "bald", "quiff", "afro", "long", "bun")
SKINS = [(250, 220, 196), (241, 200, 168), (226, 178, 140), (196, 144, 104), (150, 102, 70),
         (112, 74, 52), (84, 56, 42)]
HAIRS = [(28, 24, 24), (44, 32, 26), (74, 48, 32), (110, 72, 42), (176, 130, 72), (222, 188, 120),
         (150, 66, 34), (150, 146, 142)]
CLOTH = [(238, 238, 236), (32, 34, 42), (206, 38, 48), (30, 70, 170), (246, 206, 50),
         (24, 118, 70), (240, 122, 36), (116, 40, 120), (24, 34, 76), (128, 22, 44),
         (90, 184, 226), (60, 176, 120)]
BOOTS = [(30, 30, 34), (240, 240, 240), (250, 120, 30), (60, 220, 120), (240, 60, 130),
         (60, 150, 250), (250, 220, 50)]


def famous_kit(name: str, rng: np.random.Generator) -> Kit:
    """The recurring player's kit: name in KITS; boots vary."""
    boots = BOOTS[int(rng.integers(len(BOOTS)))]
    if name == "sky":
        return Kit((92, 178, 238), (250, 251, 252), "stripes", (30, 34, 52), (246, 246, 246),
                   boots, (246, 246, 246), 10, (24, 28, 48), stripes=5.0)
    if name == "blaugrana":
        return Kit((18, 56, 160), (190, 18, 62), "stripes", (18, 46, 140), (20, 44, 130),
                   boots, (246, 204, 64), 10, (250, 216, 70), stripes=5.0)
    return Kit((250, 150, 192), (250, 150, 192), "plain", (244, 138, 184), (250, 156, 196),
               boots, (36, 34, 38), 10, (36, 34, 38))


def number_ten(kit: str, rng: np.random.Generator) -> Look:
    """The recurring player: light-tan skin, dark-brown short hair, full beard, 1.70 m."""
    return Look((232, 184, 148), (62, 38, 24), "short", 1.0, 1.70, 1.03, famous_kit(kit, rng))


def random_kit(rng: np.random.Generator) -> Kit:
    """A team's kit: two unlike colours and a pattern."""
    i, j, k = rng.permutation(len(CLOTH))[:3]
    pattern = pick(rng, ["plain", "plain", "stripes", "hoops", "halves"])
    dark = sum(CLOTH[i]) < 380
    return Kit(CLOTH[i], CLOTH[j], pattern, CLOTH[j] if rng.random() < 0.6 else CLOTH[k], CLOTH[i],
               pick(rng, BOOTS), CLOTH[j], 1, (246, 246, 246) if dark else (24, 24, 30),
               stripes=pick(rng, [5.0, 6.0, 8.0]))


def street_clothes(rng: np.random.Generator) -> Kit:
    """Everyday wear: muted tops, mostly trousers."""
    top = tuple(int(0.7 * c + 0.3 * v) for c, v in zip(pick(rng, CLOTH), rng.integers(60, 220, 3)))
    trouser = pick(rng, [(46, 62, 98), (38, 40, 48), (96, 86, 72), (70, 92, 130), (150, 136, 112)])
    pattern = "hoops" if rng.random() < 0.2 else "plain"
    return Kit(top, (236, 234, 228), pattern, trouser, trouser, pick(rng, BOOTS[:2]), top, 0,
               long_sleeves=bool(rng.random() < .55), trousers=bool(rng.random() < .8))


def random_look(rng: np.random.Generator, kit: Kit) -> Look:
    """Anybody: skin, hair, beard and build at random, wearing `kit` with a number of their own."""
    kit = replace(kit, boots=pick(rng, BOOTS) if kit.number else kit.boots,
                  number=int(rng.integers(2, 24)) if kit.number else 0,
                  long_sleeves=kit.long_sleeves or bool(rng.random() < .12))
    skin_i = int(rng.integers(len(SKINS)))
    hair = HAIRS[int(rng.integers(3 if skin_i > 3 else len(HAIRS)))]
    beard = pick(rng, [0.0, 0.0, 0.5, 1.0])
    style = pick(rng, HAIR_STYLES, (.34, .14, .07, .16, .08, .13, .08))
    if style in ("long", "bun"):
        beard *= float(rng.random() < 0.2)
    return Look(SKINS[skin_i], hair, style, beard, float(rng.uniform(1.62, 1.95)),
                float(rng.uniform(0.9, 1.17)), kit)
