"""What each way of reading costs: parameters, operations and milliseconds, counted and measured.

Operations are split as use splits them: once per photo, and at every network call. A comparison of
ways is only fair with equal parameters: `equal_width` chooses the inner width for that.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..consistency.denoiser import Denoiser
from ..profiles import FusionConfig
from .adapters import Flops
from .alignment import Alignment
from .conditioned import ConditionedDenoiser, block_shapes, reading_blocks
from .modules import MODULES, make_adapter


def count(module: torch.nn.Module) -> int:
    """Parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def equal_width(
    name: str,
    denoiser: Denoiser,
    latent_channels: int,
    config: FusionConfig,
    *,
    like: int = 0,
) -> int:
    """The inner width at which a module has as many parameters as "tokens" at config.inner_dim.

    Args:
        name: one of `MODULES`, or "alignment" (whose parameters are there in training only).
        like: latent channels of the "tokens" that is compared with; 0: the same.

    Returns:
        The best width that the module can have: for attention multiples of 4 * heads.

    Raises:
        ValueError: an unknown name, or no width within 10 %.
    """
    shapes = block_shapes(denoiser)
    places = reading_blocks(denoiser, config.rates)

    def size(module: str, width: int, channels: int = latent_channels) -> int:
        if module == "alignment":
            return count(Alignment(shapes["middle_block"][0], channels, width))
        with torch.device("meta"):  # sizes only
            return sum(
                count(make_adapter(module, shapes[place], channels, width, config.heads))
                for place in places
            )

    wanted = size("tokens", config.inner_dim, like or latent_channels)
    unit = 1 if name in ("additive", "film", "alignment") else 4 * config.heads
    # Parameters are linear in the width.
    first, second = size(name, unit), size(name, 2 * unit)
    steps = max(round((wanted - first) / (second - first)), 0)
    width = unit * (1 + steps)
    found = size(name, width)
    if abs(found / wanted - 1) > 0.1:
        raise ValueError(
            f"module={name!r}: no width has {wanted:,} parameters to within 10 % (nearest "
            f"{found:,}): raise inner_dim={config.inner_dim}"
        )
    return width


def make_conditioned(
    denoiser: Denoiser,
    latent_channels: int,
    config: FusionConfig,
    *,
    zero: bool = True,
    like: int = 0,
) -> ConditionedDenoiser:
    """The conditioned generator of a configuration, its width chosen by `equal_width`."""
    return ConditionedDenoiser(
        denoiser,
        latent_channels,
        inner_dim=equal_width(config.module, denoiser, latent_channels, config, like=like),
        heads=config.heads,
        module=config.module,
        rates=config.rates,
        pool=config.pool,
        zero=zero,
    )


def total_flops(conditioned: ConditionedDenoiser, tokens: int) -> Flops:
    """Operations of all adapters for one photo with so many latent tokens."""
    shapes = block_shapes(conditioned.denoiser)
    parts = [
        conditioned.adapter(name).flops(shapes[name][1] * shapes[name][2], tokens)
        for name in conditioned.names
    ]
    return Flops(sum(part.photo for part in parts), sum(part.step for part in parts))


@dataclass(frozen=True)
class Cost:
    """Of one way of reading, for one photo."""

    module: str
    inner_dim: int
    parameters: int
    flops: Flops
    ms: tuple[float, float]  # per photo, per network call


@torch.no_grad()
def measure_costs(
    denoiser: Denoiser,
    latent_shape: tuple[int, int, int],
    config: FusionConfig,
    modules: Sequence[str] = MODULES,
    repeats: int = 20,
) -> list[Cost]:
    """Costs by module, at equal parameters, where `denoiser` is; milliseconds are medians.

    Args:
        latent_shape: (L, h, w).
    """
    costs = []
    place = next(denoiser.parameters()).device
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, *latent_shape, generator=generator).to(place)
    maps = {
        name: torch.randn(1, *shape, generator=generator).to(place)
        for name, shape in block_shapes(denoiser).items()
    }
    for module in modules:
        chosen = dataclasses.replace(config, module=module)
        made = make_conditioned(denoiser, latent_shape[0], chosen)
        width = equal_width(module, denoiser, latent_shape[0], config)
        condition = made.condition(latent)

        def step(made=made, condition=condition) -> None:
            for name in made.names:
                made.adapter(name)(maps[name], condition[name])

        times = (
            _milliseconds(lambda made=made: made.condition(latent), repeats, place),
            _milliseconds(step, repeats, place),
        )
        flops = total_flops(made, latent_shape[1] * latent_shape[2])
        costs.append(Cost(module, width, count(made.adapters), flops, times))
    return costs


def _milliseconds(work, repeats: int, place: torch.device) -> float:
    times = []
    for _ in range(repeats + 2):
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        began = time.perf_counter()
        work()
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[2:])  # the first ones warm up


def cost_table(costs: Sequence[Cost]) -> str:
    """One line per module."""
    lines = [
        f"{'module':<12} {'width':>5} {'parameters':>10} {'MFLOP/photo':>11} {'MFLOP/call':>10} "
        f"{'ms/photo':>8} {'ms/call':>7}"
    ]
    for cost in costs:
        lines.append(
            f"{cost.module:<12} {cost.inner_dim:>5} {cost.parameters:>10,} "
            f"{cost.flops.photo / 1e6:>11.2f} {cost.flops.step / 1e6:>10.2f} "
            f"{cost.ms[0]:>8.2f} {cost.ms[1]:>7.2f}"
        )
    return "\n".join(lines)
