import pytest
import torch
from torch import nn

from messi_lib.training.ema import PowerEMA, gamma_from_std


@pytest.mark.parametrize("std", [0.05, 0.1])
def test_profile_has_the_wanted_relative_length(std):
    """The weights of a power-function average over [0, 1] are (g + 1) t^g; their std is `std`."""
    t = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    density = (gamma_from_std(std) + 1) * t ** gamma_from_std(std)
    mean = torch.trapezoid(density * t, t)
    deviation = (torch.trapezoid(density * t**2, t) - mean**2).sqrt()
    assert deviation.item() == pytest.approx(std, rel=1e-3)


def test_first_update_forgets_the_initialisation_and_constants_stay():
    layer = nn.Linear(2, 2)
    ema = PowerEMA(layer)
    nn.init.constant_(layer.weight, 3.0)
    ema.update(layer, 1)
    assert torch.equal(ema.weights["weight"], layer.weight)
    for step in range(2, 20):
        ema.update(layer, step)
    torch.testing.assert_close(ema.weights["weight"], layer.weight)


def test_average_is_the_weighted_sum_it_claims_to_be():
    layer = nn.Linear(1, 1, bias=False)
    ema = PowerEMA(layer, 0.1)
    expected = 0.0
    for step in range(1, 30):
        nn.init.constant_(layer.weight, float(step % 7))
        ema.update(layer, step)
        beta = (1 - 1 / step) ** (gamma_from_std(0.1) + 1)
        expected = beta * expected + (1 - beta) * (step % 7)
    assert ema.weights["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_one_update_keeps_what_many_would_keep():
    """The shares of the old average multiply to the share over the whole gap."""
    layer = nn.Linear(1, 1, bias=False)
    often, rare = PowerEMA(layer), PowerEMA(layer, every=4)
    nn.init.constant_(layer.weight, 1.0)
    for step in range(1, 5):
        often.update(layer, step)
        rare.update(layer, step)
    nn.init.constant_(layer.weight, 3.0)
    for step in range(5, 9):
        often.update(layer, step)
        rare.update(layer, step)
    torch.testing.assert_close(often.weights["weight"], rare.weights["weight"])
    rare.update(nn.Linear(1, 1, bias=False), 9)
    torch.testing.assert_close(often.weights["weight"], rare.weights["weight"])
    nn.init.constant_(layer.weight, 5.0)
    often.update(layer, 9)
    rare.update(layer, 9)  # not its turn
    assert rare.last == 8
    torch.testing.assert_close(often.weights["weight"], rare.fresh(layer, 9)["weight"])
    assert rare.fresh(layer, 8) is rare.weights


def test_integer_buffers_are_copied():
    layer = nn.BatchNorm1d(2)
    ema = PowerEMA(layer)
    layer(torch.randn(4, 2))
    ema.update(layer, 1)
    assert ema.weights["num_batches_tracked"] == 1


def test_impossible_lengths_and_steps_are_refused():
    with pytest.raises(ValueError, match="ema_std"):
        PowerEMA(nn.Linear(1, 1), 0.5)
    with pytest.raises(ValueError, match="ema_every=0"):
        PowerEMA(nn.Linear(1, 1), every=0)
    with pytest.raises(ValueError, match="counted from 1"):
        PowerEMA(nn.Linear(1, 1)).update(nn.Linear(1, 1), 0)
