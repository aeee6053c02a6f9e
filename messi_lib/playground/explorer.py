"""`NoiseExplorer`: sliders for the noise levels of a hole's filling, and one pixel on its way.

It draws with PIL and SVG, since callbacks of widgets must not touch pyplot (see `playground`).
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..consistency.denoiser import Denoiser
from ..consistency.noise import karras_sigmas
from ..images import grid
from ..inpainting.solvers import replacement
from ..runs import seed_generator
from .session import LOCK
from .viewer import png

COLOURS = ("#e05252", "#3fae5f", "#4f83e0")  # of the lines of red, green and blue: on both themes
MOST = 12  # network calls
WIDTH, HEIGHT, LEFT = 460, 190, 34  # of the plot


@dataclass(frozen=True, eq=False)
class Call:
    """One network call: its noise level, what goes in, and the guess of the clean image."""

    sigma: float
    given: Tensor  # (3, S, S), noisy
    guess: Tensor  # (3, S, S), not clamped


@contextmanager
def listening(denoiser: Denoiser) -> Iterator[list[Call]]:
    """Meanwhile every call of the denoiser is written down, of its first image only."""
    calls: list[Call] = []

    def heard(_module: Denoiser, given: tuple, out: Tensor) -> None:
        calls.append(Call(float(given[1]), given[0][0].detach().cpu(), out[0].detach().cpu()))

    hook = denoiser.register_forward_hook(heard)
    try:
        yield calls
    finally:
        hook.remove()


def trajectory(calls: list[Call], y: int, x: int) -> np.ndarray:
    """What a pixel is guessed to be, call by call: float32 (calls, 3)."""
    return torch.stack([call.guess[:, y, x] for call in calls]).numpy()


def plot(values: np.ndarray, labels: list[str]) -> str:
    """Lines of red, green and blue over the network calls as SVG; real pixels lie in the band."""
    low, high = min(-1.0, float(values.min())), max(1.0, float(values.max()))
    rows = np.interp(values, (low, high), (HEIGHT - 34, 8))
    columns = np.linspace(LEFT, WIDTH - 12, len(values)) if len(values) > 1 else [WIDTH / 2]
    zero, one, minus = np.interp((0, 1, -1), (low, high), (HEIGHT - 34, 8))
    parts = [
        f'<rect x="{LEFT}" y="{one:.1f}" width="{WIDTH - LEFT}" height="{minus - one:.1f}" '
        'fill="currentColor" opacity="0.08"/>',
        *(
            f'<text x="{LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{text}</text>'
            for place, text in ((one, "1"), (zero, "0"), (minus, "-1"))
        ),
        *(
            f'<text x="{place:.1f}" y="{HEIGHT - 16}" text-anchor="middle">{text}</text>'
            for place, text in zip(columns, map(html.escape, labels))
        ),
    ]
    for channel, colour in enumerate(COLOURS):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(columns, rows[:, channel]))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
            for x, y in zip(columns, rows[:, channel])
        ]
    title = "the pixel's red, green and blue as guessed at each noise level"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" style="max-width:{WIDTH}px" role="img" '
        f'aria-label="{title}" font-size="10" fill="currentColor" font-family="system-ui">'
        f'{"".join(parts)}<text x="{LEFT}" y="{HEIGHT - 3}">{title}</text></svg>'
    )


class NoiseExplorer(widgets.VBox):
    """A hole filled anew at each move of a slider, with the guess after every network call.

    `first` and `mid` are the first noise level and the last (t_mid: with two calls the level in
    between); further calls lie between them on a Karras grid. `calls_made` are the calls of the
    last filling, `y` and `x` the pixel that is watched.

    Args:
        denoiser: an unconditional generator.
        image: (1, 3, S, S) in [-1, 1]. hole: bool (1, 1, S, S).
    """

    def __init__(self, denoiser: Denoiser, image: Tensor, hole: Tensor):
        self.denoiser, self.image, self.region = denoiser, image, hole
        self.calls_made: list[Call] = []
        size, top = denoiser.image_size, math.log10(denoiser.sigma_max)
        named = {"continuous_update": False, "style": {"description_width": "110px"}}
        named["layout"] = widgets.Layout(width="320px")
        levels = {"base": 10, "readout_format": ".2f", "step": 0.05, **named}
        self.first = widgets.FloatLogSlider(
            denoiser.sigma_max, min=0, max=top, description="first noise level", **levels
        )
        self.mid = widgets.FloatLogSlider(
            0.8, min=-1.5, max=top, description="last level, t_mid", **levels
        )
        self.calls = widgets.IntSlider(2, 1, MOST, description="network calls", **named)
        self.seed = widgets.IntSlider(0, 0, 50, description="seed", **named)
        places = hole[0, 0].nonzero().float()
        y, x = places.mean(0).round().int().tolist() if len(places) else (size // 2, size // 2)
        self.y = widgets.IntSlider(y, 0, size - 1, description="pixel: row", **named)
        self.x = widgets.IntSlider(x, 0, size - 1, description="pixel: column", **named)
        self.strip = widgets.Image(format="png", layout=widgets.Layout(max_width="100%"))
        self.lines = widgets.HTML(layout=widgets.Layout(width="100%"))
        for control in (self.first, self.mid, self.calls, self.seed):
            control.observe(lambda _: self.fill(), "value")
        for control in (self.y, self.x):
            control.observe(lambda _: self.show(), "value")
        row = widgets.Layout(flex_flow="row wrap", grid_gap="0 12px")
        controls = [self.first, self.mid, self.calls, self.seed, self.y, self.x]
        super().__init__([widgets.HBox(controls, layout=row), self.strip, self.lines])
        self.fill()

    @property
    def levels(self) -> list[float]:
        """The noise levels of the sliders, descending; one alone where t_mid is not below first."""
        first = min(self.first.value, self.denoiser.sigma_max)
        if self.calls.value == 1 or self.mid.value >= first:
            return [first]
        return karras_sigmas(self.calls.value, self.mid.value, first).tolist()

    def fill(self) -> None:
        """Fill the hole at the noise levels of the sliders, and show it."""
        generator = seed_generator(self.seed.value, "explorer")
        with LOCK, listening(self.denoiser) as calls:
            replacement(self.denoiser, self.image, self.region, self.levels, generator)
        self.calls_made = calls
        self.show()

    def show(self) -> None:
        """Draw the guesses with the pixel marked, and its lines."""
        self.strip.value = png(np.asarray(self.picture()))
        guesses = trajectory(self.calls_made, self.y.value, self.x.value)
        self.lines.value = plot(guesses, [f"{call.sigma:.3g}" for call in self.calls_made])

    def picture(self) -> Image.Image:
        """The window with the hole in grey, then the guess after each call; the pixel is marked."""
        empty = torch.where(self.region, 0.0, self.image.cpu())
        guesses = torch.stack([call.guess for call in self.calls_made]).clamp(-1, 1)
        tiles = torch.cat([empty, torch.where(self.region, guesses, empty)])
        scale = max(1, 96 // self.denoiser.image_size)
        sheet = grid(tiles, columns=len(tiles), scale=scale)
        step = self.denoiser.image_size * scale + 2
        for number in range(len(tiles)):
            top = 2 + self.y.value * scale
            left = 2 + number * step + self.x.value * scale
            frame = sheet[top - 2 : top + scale + 2, left - 2 : left + scale + 2]
            inner = frame[2:-2, 2:-2].copy()
            frame[:] = (255, 214, 0)
            frame[2:-2, 2:-2] = inner
        return Image.fromarray(sheet)
