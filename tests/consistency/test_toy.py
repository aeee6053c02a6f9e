"""Each objective learns eight Gaussians, to a distance that a wrong sign would not reach."""

from functools import lru_cache

import pytest
import torch

from messi_lib.consistency.noise import karras_sigmas
from messi_lib.consistency.ode import sample_ode
from messi_lib.consistency.sampling import sample_multistep
from messi_lib.consistency.toy import (
    SETTINGS,
    ToyDenoiser,
    eight_gaussians,
    sliced_wasserstein,
    train_toy,
)

N, STEPS = 4000, 1000
# Sliced Wasserstein distance of one-step samples (edm: 40 Heun steps; ct: two steps), measured with
# 1,000 steps of training, with a margin of a half. Two sets of real points differ by 0.01.
BOUNDS = {"edm": 0.08, "cd": 0.11, "ict": 0.10, "ect": 0.12, "ct": 0.20}


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def one_thread():
    """Products this small only wait for a second thread, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@lru_cache(maxsize=1)
def diffusion() -> ToyDenoiser:
    return train_toy("edm", STEPS)


def samples(objective: str, network: ToyDenoiser) -> torch.Tensor:
    if objective == "edm":
        return sample_ode(network, N, karras_sigmas(40), draw(3))
    return sample_multistep(network, N, [80.0, 0.8] if objective == "ct" else [80.0], draw(3))


@pytest.mark.parametrize("objective", SETTINGS)
def test_every_objective_finds_the_eight_gaussians(objective):
    real = eight_gaussians(N, draw(1))
    if objective == "edm":
        network = diffusion()
    else:
        network = train_toy(objective, STEPS, start=diffusion() if objective == "cd" else None)
    distance = sliced_wasserstein(samples(objective, network), real)
    untrained = sliced_wasserstein(samples(objective, ToyDenoiser()), real)
    assert distance < BOUNDS[objective] and distance < 0.7 * untrained


def test_consistency_tuning_improves_on_few_steps_of_diffusion():
    real = eight_gaussians(N, draw(1))
    tuned = train_toy("ect", STEPS, start=diffusion())
    few = sliced_wasserstein(sample_ode(diffusion(), N, karras_sigmas(2), draw(3)), real)
    assert sliced_wasserstein(sample_multistep(tuned, N, [80.0, 0.8], draw(3)), real) < 0.5 * few


def test_the_judge():
    a, b = eight_gaussians(N, draw(1)), eight_gaussians(N, draw(2))
    assert sliced_wasserstein(a, a) == 0 and sliced_wasserstein(a, b) < 0.02
    moved = sliced_wasserstein(a, a + torch.tensor([0.3, 0.0]))
    assert moved == pytest.approx(0.3 * 2 / torch.pi, rel=0.01)  # mean of |cos| over directions
    with pytest.raises(ValueError, match="as many points"):
        sliced_wasserstein(a, b[:10])


def test_bad_wishes_are_refused():
    with pytest.raises(ValueError, match="objective='gan'"):
        train_toy("gan", 1)
    with pytest.raises(ValueError, match="cd distils"):
        train_toy("cd", 1)
