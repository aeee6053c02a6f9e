import pytest
import torch

from messi_lib.consistency.noise import Preconditioning, broadcast, karras_sigmas

from .reference import close, fixture


def test_karras_grid_equals_the_public_code():
    expected = fixture()["diffusion"]["sigmas_karras_40"][:-1]  # theirs ends with an extra 0
    torch.testing.assert_close(karras_sigmas(40), expected, rtol=2e-5, atol=0)


def test_grid_descends_between_its_ends():
    grid = karras_sigmas(10, 0.01, 5.0)
    assert torch.all(grid[1:] < grid[:-1])
    torch.testing.assert_close(grid[[0, -1]], torch.tensor([5.0, 0.01]), rtol=1e-5, atol=0)
    with pytest.raises(ValueError, match="at least one"):
        karras_sigmas(0)
    with pytest.raises(ValueError, match="sigma_min"):
        karras_sigmas(3, 1.0, 0.5)


@pytest.mark.parametrize("boundary, key", [(False, "scalings_edm"), (True, "scalings_cm")])
def test_scalings_equal_the_public_code(boundary, key):
    entry = fixture()["diffusion"]
    for ours, theirs in zip(Preconditioning(boundary=boundary)(entry["sigmas"]), entry[key]):
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-5, atol=1e-8)


def test_boundary_condition_is_exact():
    c_skip, c_out, _ = Preconditioning()(torch.tensor([0.002]))
    assert c_skip.item() == 1 and c_out.item() == 0


def test_edm_coefficients_give_unit_variance():
    """EDM appendix B.6: input and training target of the network have unit variance."""
    sigma = torch.tensor([0.01, 0.5, 30.0])
    c_skip, c_out, c_in = Preconditioning(boundary=False)(sigma)
    torch.testing.assert_close(c_in**2 * (sigma**2 + 0.25), torch.ones(3))
    target = ((1 - c_skip) ** 2 * 0.25 + c_skip**2 * sigma**2) / c_out**2
    torch.testing.assert_close(target, torch.ones(3), rtol=1e-4, atol=1e-4)


def test_broadcast_takes_one_level_or_one_per_image():
    x = torch.zeros(3, 1, 2, 2)
    assert broadcast(2.0, x).shape == broadcast(torch.ones(3), x).shape == (3, 1, 1, 1)
    with pytest.raises(ValueError, match="one per image"):
        broadcast(torch.ones(2), x)


def test_close_can_fail():
    with pytest.raises(AssertionError):
        close(torch.ones(2), torch.tensor([1.0, 1.001]))
