import pytest
import torch

from messi_lib.fusion.study import Difference, paired_bootstrap


def numbers(n, seed):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def test_interval_of_a_mean_is_as_wide_as_theory_says():
    """1.96 standard errors on both sides of the mean, for numbers from a normal distribution."""
    ours, theirs = 0.5 + numbers(400, 0), torch.zeros(400)
    found = paired_bootstrap(ours, theirs)
    error = ours.std().item() / 20
    assert found.mean == pytest.approx(ours.mean().item(), abs=1e-6)
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.15 * error)
    narrower = paired_bootstrap(ours, theirs, level=0.5)
    assert narrower.high - narrower.low < 0.5 * (found.high - found.low)


def test_pairs_take_out_what_photos_have_in_common():
    photo = 100 * numbers(60, 1)  # photos differ by 100, the two generators by 0.5
    found = paired_bootstrap(photo - 0.5 + 0.1 * numbers(60, 2), photo)
    assert found.clear and found.high < -0.4
    unpaired = paired_bootstrap(photo - 0.5, photo.flip(0))
    assert not unpaired.clear


def test_no_difference_is_found_where_none_is_about_nineteen_times_in_twenty():
    clear = [
        paired_bootstrap(numbers(50, seed), numbers(50, 1000 + seed), resamples=1000).clear
        for seed in range(100)
    ]
    assert 0 <= sum(clear) <= 15


def test_the_sentence_follows_the_numbers():
    better = Difference(-0.1, -0.2, -0.05, 2.0, 40)
    worse = Difference(0.1, 0.05, 0.2, 2.0, 40)
    nothing = Difference(-0.01, -0.05, 0.03, 2.0, 40)
    assert "the loss is lower" in better.sentence("true", "none")
    assert "-5.0 %" in better.sentence("true", "none")
    assert "the error is higher" in worse.sentence("true", "none", "error")
    assert "no measurable effect on the loss" in nothing.sentence("true", "none")
    for found in (better, worse, nothing):
        assert found.sentence("true", "none").startswith("true against none") and "40 photos" in (
            found.sentence("true", "none")
        )


def test_numbers_that_do_not_pair_up_are_refused():
    with pytest.raises(ValueError, match="one number per photo"):
        paired_bootstrap(torch.zeros(10), torch.zeros(9))
    with pytest.raises(ValueError, match="3 photos say nothing"):
        paired_bootstrap(torch.zeros(3), torch.zeros(3))
