"""Power-function average of the weights (Karras et al. 2024, "EDM2", section 3.1).

Its length grows with the run (a fixed share of what has been seen), so one setting serves a run of
minutes and a run of days, where an exponential average copied from a 200-million-image run would
still hold the random initialisation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


def gamma_from_std(std: float) -> float:
    """The exponent whose profile has relative standard deviation `std` (EDM2, eq. 126).

    The largest real root of g^3 + 7 g^2 + (16 - std^-2) g + (12 - std^-2) = 0.

    Raises:
        ValueError: std outside (0, 0.288], where no such profile exists.
    """
    if not 0 < std <= 0.288:
        raise ValueError(f"ema_std={std}: choose a relative length in (0, 0.288], for example 0.05")
    t = std**-2
    roots = np.roots([1.0, 7.0, 16.0 - t, 12.0 - t])
    return float(max(root.real for root in roots if abs(root.imag) < 1e-9))


class PowerEMA:
    """Average of a module's parameters and buffers, in fp32, beside the module.

    Made before any wrapping or compiling, and updated from the unwrapped module, so that its names
    are the module's names.

    Args:
        std: relative length.
        device: where the average is kept; None: where the module is. On the CPU it costs a GPU no
            memory, and `every` keeps the transfers rare.
        every: optimiser steps between updates. The steps between count as if the weights had stood
            still, which for weights that move slowly changes little.
    """

    def __init__(
        self,
        module: nn.Module,
        std: float = 0.05,
        *,
        device: torch.device | str | None = None,
        every: int = 1,
    ):
        if every < 1:
            raise ValueError(f"ema_every={every}: give 1 or more steps")
        self.gamma = gamma_from_std(std)
        self.every = every
        self.last = 0  # the step of the last update
        self.weights: dict[str, Tensor] = {
            name: value.detach().to(device or value.device, copy=True)
            for name, value in module.state_dict().items()
        }

    def beta(self, step: int) -> float:
        """Share of the old average kept at `step` (counted from 1): (1 - n/step)^(gamma + 1) for an
        update n steps after the last one.

        One update over n steps keeps what n single ones would keep: their product telescopes.
        """
        return (self.last / step) ** (self.gamma + 1)

    def decay(self, step: int) -> float:
        """Share of the old average that one step keeps at `step`, for the curves."""
        return (1 - 1 / step) ** (self.gamma + 1)

    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards `module` after optimiser step `step` (counted from 1).

        Only at multiples of `every`: a run that is logged, saved or stopped at other steps has the
        same average.
        """
        if step < 1:
            raise ValueError(f"step={step}: steps are counted from 1")
        if step % self.every == 0:
            self._move(self.weights, module, step)
            self.last = step

    def fresh(self, module: nn.Module, step: int) -> dict[str, Tensor]:
        """The average as of `step`, also between updates (then a copy)."""
        if step == self.last:
            return self.weights
        copies = {name: value.clone() for name, value in self.weights.items()}
        self._move(copies, module, step)
        return copies

    @torch.no_grad()
    def _move(self, weights: dict[str, Tensor], module: nn.Module, step: int) -> None:
        share = 1 - self.beta(step)
        for name, value in module.state_dict().items():
            average = weights[name]
            if average.is_floating_point():
                average.lerp_(value.to(average), share)
            else:
                average.copy_(value)
