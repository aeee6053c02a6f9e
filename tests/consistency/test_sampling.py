import pytest
import torch

from messi_lib.consistency.denoiser import Denoiser
from messi_lib.consistency.noise import karras_sigmas
from messi_lib.consistency.sampling import sample_multistep, step_sigmas

from .reference import close, fixture, network
from .toys import GaussianDenoiser


def reference_denoiser(boundary):
    return Denoiser(network("tiny")[0], image_size=32, boundary=boundary)


def generator():
    return torch.Generator().manual_seed(9)


def test_one_step_and_multistep_equal_the_public_code():
    samples = fixture()["diffusion"]["samples"]
    denoiser = reference_denoiser(True)
    close(sample_multistep(denoiser, 2, [80.0], generator()), samples["onestep"].clamp(-1, 1))
    grid = karras_sigmas(40)
    # Times 0, 22, 39 of the public code: its last time only says that no noise is added again.
    ours = sample_multistep(denoiser, 2, grid[[0, 22]], generator())
    close(ours, samples["multistep_0_22_39"].clamp(-1, 1), 2e-3)


def test_samples_of_an_exact_consistency_function_have_the_data_statistics():
    denoiser = GaussianDenoiser(0.2, 0.25, image_size=16)
    for steps in (1, 2, 5):
        x = sample_multistep(denoiser, 64, step_sigmas(steps, denoiser), generator())
        assert x.mean().item() == pytest.approx(0.2, abs=0.01)
        assert x.std().item() == pytest.approx(0.25, abs=0.01)


def test_number_of_calls_progress_and_determinism():
    denoiser, seen = GaussianDenoiser(), []
    one = sample_multistep(
        denoiser, 2, [80.0, 2.0, 0.5], generator(), progress=lambda i, n: seen.append((i, n))
    )
    assert denoiser.calls == [80.0, 2.0, 0.5] and seen == [(0, 3), (1, 3), (2, 3)]
    assert torch.equal(one, sample_multistep(denoiser, 2, [80.0, 2.0, 0.5], generator()))


def test_progress_can_cancel():
    class Stop(Exception):
        pass

    def cancel(step, total):
        if step == 1:
            raise Stop

    denoiser = GaussianDenoiser()
    with pytest.raises(Stop):
        sample_multistep(denoiser, 1, [80.0, 2.0, 0.5], generator(), progress=cancel)
    assert denoiser.calls == [80.0]


@pytest.mark.parametrize("sigmas", [[], [1.0, 2.0], [1.0, 1.0], [90.0], [1.0, 0.001], [-1.0]])
def test_bad_levels_are_refused(sigmas):
    with pytest.raises(ValueError, match="sigmas"):
        sample_multistep(GaussianDenoiser(), 1, sigmas, generator())


def test_step_grid():
    grid = step_sigmas(3, GaussianDenoiser())
    assert len(grid) == 3 and grid[0] == pytest.approx(80) and grid[-1] > 0.002
    with pytest.raises(ValueError, match="at least one"):
        step_sigmas(0, GaussianDenoiser())
