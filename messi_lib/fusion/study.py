"""Does the condition help? Losses of two generators on the same photos with the same noise, and
what may be concluded from their difference.

Photos differ from each other far more than two generators do. The difference is therefore taken
photo by photo, and its uncertainty by drawing photos with replacement (Efron 1979, the bootstrap).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..runs import seed_generator
from .conditioned import ConditionedDenoiser
from .train import fusion_loss


@torch.no_grad()
def held_out_losses(
    conditioned: ConditionedDenoiser,
    images: Tensor,
    latents: Tensor | None,
    *,
    draws: int = 4,
    stage: int | None = None,
    seed: int = 0,
    batch: int = 64,
) -> Tensor:
    """The training loss of each photo (N,), averaged over `draws` noise levels and noises.

    The same seed gives the same levels and noises to every generator and condition.

    Args:
        images: (N, 3, S, S). latents: (N, L, h, w), or None for the unconditioned generator.
    """
    total = torch.zeros(len(images))
    for draw in range(draws):
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            loss = fusion_loss(
                conditioned,
                images[part],
                None if latents is None else latents[part],
                seed_generator(seed, "held out", draw, start),
                stage=stage,
            )
            total[part] += loss.cpu()
    return total / draws


@dataclass(frozen=True)
class Difference:
    """Mean of `ours - theirs` over photos with its confidence interval."""

    mean: float
    low: float
    high: float
    theirs: float  # mean of what is compared with
    photos: int
    level: float = 0.95
    seeds: int = 1  # trainings that were drawn from too

    @property
    def relative(self) -> float:
        """The mean as a share of `theirs`."""
        return self.mean / self.theirs

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    def sentence(self, ours: str, theirs: str, what: str = "loss") -> str:
        """The finding in plain words, for two names of what is compared."""
        seeds = f", {self.seeds} seeds" if self.seeds > 1 else ""
        numbers = (
            f"{self.mean:+.3g} ({100 * self.relative:+.1f} %; {100 * self.level:.0f} % interval "
            f"{self.low:+.3g} to {self.high:+.3g}; {self.photos} photos{seeds})"
        )
        if not self.clear:
            return f"{ours} against {theirs}: no measurable effect on the {what}: {numbers}"
        word = "lower" if self.mean < 0 else "higher"
        return f"{ours} against {theirs}: the {what} is {word}: {numbers}"


def paired_bootstrap(
    ours: Tensor, theirs: Tensor, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> Difference:
    """Percentile bootstrap of the mean paired difference.

    Args:
        ours, theirs: (N,) numbers of the same N photos, in the same order; or (seeds, N), one row
            per training: then seeds and photos are both drawn with replacement.

    Raises:
        ValueError: numbers that do not pair up, or of fewer than 8 photos.
    """
    if ours.shape != theirs.shape or ours.ndim not in (1, 2):
        raise ValueError(f"{tuple(ours.shape)}, {tuple(theirs.shape)}: give one number per photo")
    photos = ours.shape[-1]
    if photos < 8:
        raise ValueError(f"{photos} photos say nothing about others: give 8 or more")
    difference = (ours - theirs).double().reshape(-1, photos)
    generator = seed_generator(seed, "bootstrap")
    drawn = torch.randint(photos, (resamples, photos), generator=generator)
    if ours.ndim == 1:
        means = difference[0][drawn].mean(1)
    else:
        # How often each row was drawn, as weights: all pairs of a drawn row and a drawn photo.
        rows = torch.randint(len(difference), (resamples, len(difference)), generator=generator)
        times = torch.nn.functional.one_hot(rows, len(difference)).double().mean(1)
        means = torch.stack([row[drawn].mean(1) for row in difference], 1).mul(times).sum(1)
    tail = (1 - level) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = torch.quantile(means, ends).tolist()
    mean, before = float(difference.mean()), float(theirs.double().mean())
    return Difference(mean, low, high, before, photos, level, len(difference))
