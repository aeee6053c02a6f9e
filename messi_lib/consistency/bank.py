"""A fixed bank of latents: image i of a seed is the same picture, however many are drawn at once.

Two generators, or two moments of one, are compared on the same noise, and a longer series only
adds images to a shorter one. The start noise of an image is the same for every number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..runs import seed_generator
from .denoiser import Denoiser
from .sampling import check_sigmas, step_sigmas


class Bank:
    """Images of a consistency function by their numbers: `bank(start, count, steps)`.

    Args:
        seed: of the bank; image i has a generator of its own, made from `(seed, i)`.
        levels: noise levels (descending) for numbers of steps; others take `step_sigmas`.

    Raises:
        ValueError: levels that do not fit the denoiser, or their number.
    """

    def __init__(
        self, denoiser: Denoiser, seed: int = 0, levels: Mapping[int, Sequence[float]] | None = None
    ):
        self.denoiser, self.seed = denoiser, seed
        self.chosen: dict[int, list[float]] = {}
        for steps, given in (levels or {}).items():
            self.chosen[steps] = check_sigmas(given, denoiser)
            if len(self.chosen[steps]) != steps:
                raise ValueError(f"levels {tuple(given)} are {len(given)} steps, not {steps}")

    def levels(self, steps: int) -> list[float]:
        """The noise levels of so many steps."""
        if steps not in self.chosen:
            self.chosen[steps] = check_sigmas(step_sigmas(steps, self.denoiser), self.denoiser)
        return self.chosen[steps]

    def streams(self, start: int, count: int) -> list[torch.Generator]:
        """One generator for each of the images start, ..., start + count - 1."""
        return [seed_generator(self.seed, "bank", i) for i in range(start, start + count)]

    def noise(self, streams: list[torch.Generator]) -> Tensor:
        """The next noise of each stream, (n, 3, S, S), on the denoiser's device."""
        shape, device = self.denoiser.shape, next(self.denoiser.parameters()).device
        return torch.stack([torch.randn(shape, generator=s) for s in streams]).to(device)

    @torch.no_grad()
    def __call__(self, start: int, count: int, steps: int) -> Tensor:
        """Images start, ..., start + count - 1, (count, 3, S, S) in [-1, 1].

        As `sampling.sample_multistep`, with the noise of each image from its own stream. Another
        `count` gives the same images up to the rounding of the network's arithmetic.
        """
        streams, clean = self.streams(start, count), None
        for sigma in self.levels(steps):
            if clean is None:
                x = self.noise(streams) * sigma
            else:
                x = clean + (sigma**2 - self.denoiser.sigma_min**2) ** 0.5 * self.noise(streams)
            clean = self.denoiser(x, sigma).clamp(-1, 1)
        return clean
