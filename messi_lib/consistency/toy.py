"""Eight Gaussians in the plane: every objective trained in seconds, and judged without doubt.

On images a wrong sign hides behind half a day of training. Here data, network and judge are so
small that all objectives can be compared while one waits: the same losses as for images, on points.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from ..profiles import ConsistencyConfig
from ..runs import seed_generator
from .noise import Preconditioning, broadcast
from .recipes import Recipe

RADIUS, SPREAD = 0.65, 0.05  # of the circle, and of each Gaussian on it


def eight_gaussians(n: int, generator: torch.Generator) -> Tensor:
    """Points (n, 2) in [-1, 1]; each coordinate has a standard deviation of about 0.46."""
    angle = torch.randint(0, 8, (n,), generator=generator) * (math.pi / 4)
    centres = RADIUS * torch.stack([angle.cos(), angle.sin()], dim=1)
    return centres + SPREAD * torch.randn(n, 2, generator=generator)


class ToyDenoiser(nn.Module):
    """What `Denoiser` is for images: (B, 2) and a noise level -> the estimate of the clean point.

    Args:
        width: of the four hidden layers.
    """

    def __init__(self, width: int = 128, sigma_min: float = 0.002, sigma_max: float = 80.0):
        super().__init__()
        self.sigma_data, self.sigma_min, self.sigma_max = 0.5, sigma_min, sigma_max
        self.shape = (2,)
        self.frequencies: Tensor
        self.register_buffer("frequencies", 2.0 ** torch.arange(-2, 4))
        layers: list[nn.Module] = [nn.Linear(2 + 2 * len(self.frequencies), width), nn.SiLU()]
        for _ in range(3):
            layers += [nn.Linear(width, width), nn.SiLU()]
        self.network = nn.Sequential(*layers, nn.Linear(width, 2))

    def forward(
        self, x: Tensor, sigma: Tensor | float, *, boundary: bool | None = None, inject=None
    ) -> Tensor:
        """EDM eq. 7, with the boundary condition unless `boundary` is False."""
        sigma = broadcast(sigma, x)
        condition = boundary is None or boundary
        c_skip, c_out, c_in = Preconditioning(self.sigma_data, self.sigma_min, condition)(sigma)
        phases = sigma.log() / 4 * self.frequencies
        h = self.network(torch.cat([c_in * x, phases.sin(), phases.cos()], dim=1))
        return c_skip * x + c_out * h


# The published schedules are for hundreds of thousands of steps on images; these for thousands.
SETTINGS: dict[str, dict] = {
    "edm": {},
    "ct": {"scales": (2, 50), "target_rate": 0.9},
    "cd": {},
    "ict": {"scales": (10, 640)},
    "ect": {"edm_fraction": 0.0},
}


def train_toy(
    objective: str,
    steps: int = 4000,
    *,
    start: ToyDenoiser | None = None,
    batch: int = 256,
    lr: float = 2e-3,
    seed: int = 0,
) -> ToyDenoiser:
    """Train on fresh points and return the averaged network.

    Args:
        objective: a name in `SETTINGS`.
        start: network to begin with; for `cd` it is the teacher too, and must be given.

    Raises:
        ValueError: an unknown objective, or distillation without a teacher.
    """
    if objective not in SETTINGS:
        raise ValueError(f"objective={objective!r}: use {', '.join(map(repr, SETTINGS))}")
    if objective == "cd" and start is None:
        raise ValueError("cd distils a diffusion model: give one trained with 'edm' as start")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # products this small only wait for a second thread
    try:
        return _train(objective, steps, start, batch, lr, seed)
    finally:
        torch.set_num_threads(threads)


def _train(
    objective: str, steps: int, start: ToyDenoiser | None, batch: int, lr: float, seed: int
) -> ToyDenoiser:
    torch.manual_seed(seed)
    student = copy.deepcopy(start) if start is not None else ToyDenoiser()
    student.requires_grad_(True)
    teacher = start if objective == "cd" else None
    recipe = Recipe(
        ConsistencyConfig(objective=objective, steps=steps, **SETTINGS[objective]), student, teacher
    )
    average = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.RAdam(student.parameters(), lr=lr)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        generator = seed_generator(seed, "toy", step)
        points = eight_gaussians(batch, generator)
        loss = recipe(student, points, generator, step).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recipe.after_step(student, step)
        _follow(average, student, min(0.99, (1 + step) / (10 + step)))
    return average


@torch.no_grad()
def _follow(slow: nn.Module, fast: nn.Module, rate: float) -> None:
    """slow <- rate slow + (1 - rate) fast"""
    for a, b in zip(slow.parameters(), fast.parameters()):
        a.lerp_(b, 1 - rate)


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 64) -> float:
    """Mean over directions of the earth mover's distance between projections (Rabin et al. 2012).

    Args:
        a, b: points (n, 2), equally many.
        directions: evenly spaced angles.

    Raises:
        ValueError: sets of different sizes.
    """
    if a.shape != b.shape:
        raise ValueError(f"{tuple(a.shape)} and {tuple(b.shape)}: as many points on both sides")
    angle = torch.arange(directions) * (math.pi / directions)
    axes = torch.stack([angle.cos(), angle.sin()])
    left, right = ((points @ axes).sort(dim=0).values for points in (a, b))
    return float((left - right).abs().mean())
