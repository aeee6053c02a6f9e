"""Resampling: RePaint's order of levels, and that it brings hole and surroundings together."""

import pytest
import torch
from consistency.toys import GaussianDenoiser, tiny_denoiser

from messi_lib.inpainting.resample import resample, resample_levels, resample_plan
from messi_lib.inpainting.solvers import calm_sigmas, replacement, solve


class FlatDenoiser(GaussianDenoiser):
    """Closed form for images of one grey each, drawn from N(0, s^2): all pixels hang together.

    The ODE moves the mean of a noisy image, and takes off whatever differs from it.
    """

    def forward(self, x, sigma, *, boundary=None, inject=None):
        self.calls.append(float(sigma))
        pixels = x[0].numel()
        mean = x.mean((1, 2, 3), keepdim=True)
        shrink = (self.s**2 / (self.s**2 + float(sigma) ** 2 / pixels)) ** 0.5
        return (shrink * mean).expand_as(x)


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def in_steps(count, jump, resamplings):
    """RePaint's schedule as its paper writes it: one step of noise at a time, up and down."""
    t, walk = count, []
    jumps = dict.fromkeys(range(0, count - jump, jump), resamplings - 1)
    while t >= 1:
        walk.append(count - t)  # the network is called at t, and leads to t - 1
        t -= 1
        if jumps.get(t, 0) > 0:
            jumps[t] -= 1
            for _ in range(jump):
                t += 1
    return walk


@pytest.mark.parametrize("count", [1, 2, 5, 8])
@pytest.mark.parametrize("jump", [1, 2, 3])
@pytest.mark.parametrize("resamplings", [1, 2, 4])
def test_the_order_is_that_of_repaint(count, jump, resamplings):
    sigmas = [float(2**i) for i in range(count, 0, -1)]
    if resamplings > 1 and jump >= count:
        with pytest.raises(ValueError, match="too long"):
            resample_levels(sigmas, jump, resamplings)
        return
    expected = [sigmas[i] for i in in_steps(count, jump, resamplings)]
    assert resample_levels(sigmas, jump, resamplings) == expected


def test_an_order_written_out():
    sigmas = [60.0, 50.0, 40.0, 30.0, 20.0, 10.0]
    assert resample_levels(sigmas, 2, 3) == [
        60, 50, 40, 30, 40, 30, 40, 30, 20, 10, 20, 10, 20, 10
    ]  # fmt: skip
    assert resample_levels(sigmas, 2, 2, below=25.0) == [60, 50, 40, 30, 20, 10, 20, 10]
    assert resample_levels(sigmas, 1, 3, below=10.0) == [60, 50, 40, 30, 20, 10, 10, 10]
    assert resample_levels(sigmas, 5, 1) == sigmas


@pytest.mark.parametrize(("jump", "resamplings"), [(0, 2), (1, 0), (-1, 2)])
def test_what_is_not_positive_is_refused(jump, resamplings):
    with pytest.raises(ValueError, match="1 or more"):
        resample_levels([3.0, 2.0, 1.0], jump, resamplings)


def test_levels_must_descend_before_they_are_walked():
    with pytest.raises(ValueError, match="descend"):
        resample(GaussianDenoiser(), *flat_problem(8), [1.0, 2.0], seeded())


@pytest.mark.parametrize("steps", range(1, 17))
def test_a_plan_spends_its_budget(steps):
    grid, times = resample_plan(steps, GaussianDenoiser())
    levels = resample_levels(grid.tolist(), 1, times, below=float(grid[-1]))
    assert len(levels) == steps and levels[0] == pytest.approx(80.0)


def flat_problem(size=8, n=1, grey=0.4):
    image = torch.full((n, 3, size, size), grey)
    hole = torch.zeros(n, 1, size, size, dtype=torch.bool)
    hole[..., : size // 2] = True  # half of it
    return image, hole


@pytest.mark.parametrize("denoiser", [GaussianDenoiser(), tiny_denoiser().eval()])
def test_once_is_replacement(denoiser):
    image, hole = flat_problem(denoiser.image_size, n=2)
    sigmas = calm_sigmas(4, denoiser)
    for draws in (1, 3):
        once = resample(denoiser, image, hole, sigmas, seeded(), resamplings=1, draws=draws)
        plain = replacement(denoiser, image, hole, sigmas, seeded(), draws=draws)
        assert torch.equal(once, plain)
        again = resample(denoiser, image, hole, sigmas, seeded(), resamplings=2, draws=draws)
        assert not torch.equal(again, plain)


def test_with_nothing_known_it_is_sampling_along_the_same_levels():
    """With everything to fill there is nothing to agree with, but a sample stays a sample."""
    denoiser = GaussianDenoiser(mu=0.1, s=0.2, image_size=48)
    image, hole = flat_problem(48, n=2)
    everything = torch.ones_like(hole)
    result = resample(denoiser, image, everything, calm_sigmas(4, denoiser), seeded(), jump=2)
    assert denoiser.calls[3:6] == [denoiser.calls[3], denoiser.calls[2], denoiser.calls[3]]
    assert abs(result.mean() - 0.1) < 0.01 and abs(result.std() - 0.2) < 0.01


def test_a_flat_image_is_completed_better_by_going_back():
    """What is known decides the hole, and each pass brings the hole half of the way nearer."""
    denoiser = FlatDenoiser(s=0.5)
    image, hole = flat_problem()
    inside = hole.expand_as(image)
    grid = calm_sigmas(4, denoiser)

    def error(result):
        return (result - image)[inside].abs().mean().item()

    once = [error(replacement(denoiser, image, hole, grid, seeded(i))) for i in range(40)]
    more = [
        error(resample(denoiser, image, hole, grid, seeded(i), resamplings=4)) for i in range(40)
    ]
    assert sum(more) < 0.75 * sum(once)


def test_at_an_equal_budget_it_fits_the_surroundings_better():
    denoiser = FlatDenoiser(s=0.5)
    image, hole = flat_problem()
    inside = hole.expand_as(image)
    errors = {}
    for solver in ("replacement", "resample"):
        results = [
            solve(solver, denoiser, image, hole, steps=8, draws=8, generator=seeded(i))
            for i in range(40)
        ]
        errors[solver] = sum((r - image)[inside].abs().mean().item() for r in results)
    assert errors["resample"] < 0.9 * errors["replacement"]
