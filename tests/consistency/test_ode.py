import pytest
import torch

from messi_lib.consistency.denoiser import Denoiser
from messi_lib.consistency.noise import karras_sigmas
from messi_lib.consistency.ode import SOLVERS, ancestral_levels, ode_path, sample_ode

from .reference import close, fixture, network
from .toys import GaussianDenoiser


def generator():
    return torch.Generator().manual_seed(9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_samples_equal_the_public_code(solver):
    theirs = fixture()["diffusion"]["samples"][{"dpm2": "dpm"}.get(solver, solver) + "5"]
    denoiser = Denoiser(network("tiny")[0], image_size=32)
    close(sample_ode(denoiser, 2, karras_sigmas(5), generator(), solver=solver), theirs)


@pytest.mark.parametrize("solver, bound, order", [("euler", 0.2, 0.45), ("heun", 0.02, 0.25),
                                                  ("dpm2", 0.02, 0.25)])  # fmt: skip
def test_solvers_converge_to_the_gaussian_ode(solver, bound, order):
    """Probability-flow ODE of N(mu, s^2): x(0) = mu + (x(T) - mu) s / sqrt(s^2 + T^2), exactly."""
    denoiser = GaussianDenoiser(0.2, 0.3, image_size=8)
    start = torch.randn(4, 3, 8, 8, generator=generator()) * 80
    exact = 0.2 + (start - 0.2) * 0.3 / (0.3**2 + 80**2) ** 0.5
    error = []
    for n in (10, 40):
        x = sample_ode(denoiser, 4, karras_sigmas(n), generator(), solver=solver, clip=False)
        error.append((x - exact.clamp(-1, 1)).abs().max())
    assert error[1] < bound and error[1] < order * error[0]


def test_ancestral_samples_have_the_data_statistics():
    denoiser = GaussianDenoiser(0.2, 0.25, image_size=16)
    x = sample_ode(denoiser, 64, karras_sigmas(80), generator(), solver="ancestral")
    assert x.mean().item() == pytest.approx(0.2, abs=0.01)
    assert x.std().item() == pytest.approx(0.25, abs=0.02)
    down, up = ancestral_levels(2.0, 1.5)
    assert down**2 + up**2 == pytest.approx(1.5**2) and ancestral_levels(1.0, 0.0) == (0, 0)


@pytest.mark.parametrize(
    "solver, calls", [("euler", 5), ("ancestral", 5), ("heun", 9), ("dpm2", 10)]
)
def test_number_of_calls_and_progress(solver, calls):
    denoiser, seen = GaussianDenoiser(), []
    sample_ode(
        denoiser, 1, karras_sigmas(5), generator(), solver=solver,
        progress=lambda i, n: seen.append((i, n)),
    )  # fmt: skip
    assert len(denoiser.calls) == calls and seen == [(i, 5) for i in range(5)]


def test_an_unknown_solver_is_refused():
    with pytest.raises(ValueError, match="solver='rk4': use 'euler'"):
        sample_ode(GaussianDenoiser(), 1, [80.0], generator(), solver="rk4")


def test_a_path_is_that_of_the_gaussian_ode():
    """x - mu shrinks as sqrt(s^2 + sigma^2), for data N(mu, s^2)."""
    denoiser = GaussianDenoiser(0.2, 0.3)
    levels = karras_sigmas(200, 0.002, 5.0)
    x = 5 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    path = ode_path(denoiser, x, levels)
    assert path.shape == (200, 4, 3, 8, 8) and torch.equal(path[0], x)
    shrink = ((0.3**2 + levels**2) / (0.3**2 + 5.0**2)).sqrt().view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(path, 0.2 + (x - 0.2) * shrink, atol=2e-3, rtol=2e-3)
