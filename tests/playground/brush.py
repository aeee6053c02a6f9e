"""What a brush leaves, computed apart from the painter's JavaScript, and how the tests watch it."""

from __future__ import annotations

import numpy as np

# In the page: `trail` is where the pointer was, in pixels of the working copy.
TRAIL = """
window.trail = [];
for (const kind of ["pointerdown", "pointermove"]) addEventListener(kind, (event) => {
  const canvas = document.querySelector("canvas.messi-ink");
  if (!canvas) return;
  const box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width;
  for (const each of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event])
    trail.push([(each.clientX - box.left) * scale, (each.clientY - box.top) * scale]);
}, true);
"""


def brushed(trail: list, radius: float, size: tuple[int, int], softness: float = 0.0) -> np.ndarray:
    """uint8 (H, W): what a round brush leaves that was led along these places.

    Full where a pixel's centre lies within the hard core of the path, a smooth step beyond.
    """
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    far = np.full(size, np.inf)
    for (ax, ay), (bx, by) in zip([trail[0], *trail], trail):
        dx, dy = bx - ax, by - ay
        square = dx * dx + dy * dy
        along = ((x - ax) * dx + (y - ay) * dy) / square if square else np.zeros(size)
        along = along.clip(0, 1)
        far = np.minimum(far, (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2)
    core = radius * (1 - softness)
    left = ((radius - np.sqrt(far)) / max(radius - core, 1e-9)).clip(0, 1)
    soft = np.floor(255 * left * left * (3 - 2 * left) + 0.5)
    ink = np.where(np.sqrt(far) <= core, 255, soft) if softness else np.full(size, 255)
    return np.where(far <= radius * radius, ink, 0).astype(np.uint8)
