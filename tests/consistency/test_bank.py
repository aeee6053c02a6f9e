"""The bank of latents: the same image whatever the batch, as multistep sampling draws it."""

from __future__ import annotations

import pytest
import torch

from messi_lib.consistency.bank import Bank
from messi_lib.consistency.denoiser import build_denoiser
from messi_lib.consistency.sampling import sample_multistep
from messi_lib.profiles import ConsistencyConfig, preset


@pytest.fixture(scope="module")
def denoiser():
    torch.manual_seed(3)
    made = build_denoiser(preset(ConsistencyConfig, "smoke")).eval()
    for name, value in made.named_parameters():  # its last layers begin at zero
        if not value.detach().any():
            torch.nn.init.normal_(value, std=0.05)
        assert torch.isfinite(value).all(), name
    return made.requires_grad_(False)


def test_an_image_of_the_bank_is_the_same_in_any_batch(denoiser):
    bank = Bank(denoiser, seed=5)
    whole = bank.noise(bank.streams(0, 7))
    parts = [bank.noise(bank.streams(start, count)) for start, count in ((0, 3), (3, 1), (4, 3))]
    assert torch.equal(whole, torch.cat(parts))
    for steps in (1, 3):
        at_once = bank(0, 6, steps)
        assert at_once.shape == (6, *denoiser.shape) and at_once.abs().max() <= 1
        one_by_one = torch.cat([bank(i, 1, steps) for i in range(6)])
        assert torch.allclose(at_once, one_by_one, atol=1e-4)
        assert (at_once[0] - at_once[1]).abs().max() > 0.01
        assert (at_once[1] - Bank(denoiser, seed=6)(1, 1, steps)[0]).abs().max() > 0.01


def test_the_bank_samples_as_multistep_sampling_does(denoiser):
    """One image, whose stream is then the only source of noise: algorithm 1."""
    bank = Bank(denoiser, seed=5, levels={2: [80, 0.8]})
    for steps, levels in ((1, [80.0]), (2, [80.0, 0.8]), (4, bank.levels(4))):
        stream = bank.streams(9, 1)[0]
        wanted = sample_multistep(denoiser, 1, levels, stream)
        assert torch.allclose(bank(9, 1, steps), wanted, atol=1e-4)
    assert bank.levels(4) == sorted(bank.levels(4), reverse=True)
    with pytest.raises(ValueError, match=r"levels \(80, 3\) are 2 steps, not 4"):
        Bank(denoiser, levels={4: (80, 3)})
    with pytest.raises(ValueError, match="steps=0"):
        bank(0, 1, 0)
