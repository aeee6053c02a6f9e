"""Solvers: what must hold exactly, with closed-form and with real networks."""

import numpy as np
import pytest
import torch
from consistency.toys import GaussianDenoiser, tiny_denoiser

from messi_lib.consistency.sampling import sample_multistep, step_sigmas
from messi_lib.inpainting.solvers import calm_sigmas, replacement


def cases():
    return [(GaussianDenoiser(), 1), (GaussianDenoiser(), 4), (tiny_denoiser().eval(), 2)]


def problem(denoiser, n=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(n, *denoiser.shape, generator=generator) * 2 - 1
    size = denoiser.image_size
    hole = torch.zeros(n, 1, size, size, dtype=torch.bool)
    for i in range(n):
        hole[i, :, 1 : 4 + i, 2 : 5 + i] = True
    return image, hole


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("denoiser", "steps"), cases(), ids=["one step", "four", "network"])
class TestExact:
    def test_nothing_to_fill_returns_the_input(self, denoiser, steps):
        image, hole = problem(denoiser)
        sigmas = step_sigmas(steps, denoiser)
        result = replacement(denoiser, image, torch.zeros_like(hole), sigmas, seeded())
        assert torch.equal(result, image)

    def test_everything_to_fill_is_the_plain_sampler(self, denoiser, steps):
        image, hole = problem(denoiser)
        sigmas = step_sigmas(steps, denoiser)
        result = replacement(denoiser, image, torch.ones_like(hole), sigmas, seeded())
        assert torch.equal(result, sample_multistep(denoiser, 2, sigmas, seeded()))
        other = sample_multistep(denoiser, 2, sigmas, seeded(2))
        assert not torch.equal(result, other), "or the comparison would say nothing"

    def test_the_image_in_the_hole_is_never_read(self, denoiser, steps):
        image, hole = problem(denoiser)
        sigmas = step_sigmas(steps, denoiser)
        clean = replacement(denoiser, image, hole, sigmas, seeded())
        for filling in (torch.randn(image.shape) * 50, torch.full_like(image, float("nan"))):
            dirty = torch.where(hole, filling, image)
            assert torch.equal(replacement(denoiser, dirty, hole, sigmas, seeded()), clean)

    def test_outside_the_hole_the_seed_does_not_matter(self, denoiser, steps):
        image, hole = problem(denoiser)
        sigmas = step_sigmas(steps, denoiser)
        one = replacement(denoiser, image, hole, sigmas, seeded(1))
        two = replacement(denoiser, image, hole, sigmas, seeded(2))
        keep = ~hole.expand_as(image)
        assert torch.equal(one[keep], image[keep]) and torch.equal(two[keep], image[keep])
        assert (one != two)[hole.expand_as(image)].float().mean() > 0.5

    def test_the_same_seed_gives_the_same(self, denoiser, steps):
        image, hole = problem(denoiser)
        sigmas = step_sigmas(steps, denoiser)
        runs = [replacement(denoiser, image, hole, sigmas, seeded()) for _ in range(2)]
        assert torch.equal(*runs)

    def test_a_batch_equals_single_calls(self, denoiser, steps):
        image, hole = problem(denoiser, n=3)
        sigmas = step_sigmas(steps, denoiser)
        together = replacement(denoiser, image, hole, sigmas, [seeded(i) for i in range(3)])
        for i in range(3):
            part = slice(i, i + 1)
            alone = replacement(denoiser, image[part], hole[part], sigmas, seeded(i))
            if isinstance(denoiser, GaussianDenoiser):
                assert torch.equal(together[part], alone)
            else:  # kernels may add up in another order for another batch size
                torch.testing.assert_close(together[part], alone, atol=1e-4, rtol=0)


def test_one_generator_serves_the_batch_in_the_order_of_the_sampler():
    """For one image, a generator and a list of one are the same thing."""
    denoiser = GaussianDenoiser()
    image, hole = problem(denoiser, n=1)
    sigmas = step_sigmas(3, denoiser)
    single = replacement(denoiser, image, hole, sigmas, seeded())
    assert torch.equal(replacement(denoiser, image, hole, sigmas, [seeded()]), single)
    with pytest.raises(ValueError, match="2 generators for 1"):
        replacement(denoiser, image, hole, sigmas, [seeded(), seeded(2)])


def test_the_filling_follows_the_distribution_of_the_data():
    """Independent pixels: the hole's content is N(mu, s^2) whatever the surroundings are."""
    denoiser = GaussianDenoiser(mu=0.2, s=0.1, image_size=48)
    image = torch.full((4, 3, 48, 48), -0.9)
    hole = torch.zeros(4, 1, 48, 48, dtype=torch.bool)
    hole[..., 8:40, 8:40] = True
    result = replacement(denoiser, image, hole, step_sigmas(6, denoiser), seeded())
    inside = result[hole.expand_as(result)]
    assert abs(inside.mean() - 0.2) < 0.01 and abs(inside.std() - 0.1) < 0.01


def test_a_mean_of_draws_is_an_estimate_of_the_posterior_mean():
    """For Gaussian data the spread after the last step is known: a^2 (s^2 + sigma^2 / draws)."""
    s, sigma = 0.2, 0.5
    denoiser = GaussianDenoiser(mu=0.0, s=s, image_size=32)
    image = torch.zeros(4, 3, 32, 32)
    hole = torch.ones(4, 1, 32, 32, dtype=torch.bool)
    for draws in (1, 8):
        result = replacement(denoiser, image, hole, [80.0, sigma], seeded(), draws=draws)
        shrink = s**2 / (s**2 + sigma**2)
        expected = (shrink * (s**2 + sigma**2 / draws)) ** 0.5
        assert result.std().item() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("draws", [2, 5])
def test_draws_keep_what_must_hold_exactly(draws):
    denoiser = GaussianDenoiser()
    image, hole = problem(denoiser, n=3)
    sigmas = calm_sigmas(4, denoiser, last=0.3)

    def solve(part=slice(None), picture=image, generator=None):
        generator = generator or [seeded(i) for i in range(3)][part]
        return replacement(
            denoiser, picture[part], hole[part], sigmas, generator, draws=draws, calm_below=2.0
        )

    together = solve()
    for i in range(3):
        torch.testing.assert_close(solve(slice(i, i + 1)), together[i : i + 1], atol=1e-6, rtol=0)
    keep = ~hole.expand_as(image)
    assert torch.equal(together[keep], image[keep])
    dirty = torch.where(hole, torch.full_like(image, float("nan")), image)
    assert torch.equal(solve(picture=dirty), together)
    plain = replacement(denoiser, image, hole, sigmas, [seeded(i) for i in range(3)])
    assert not torch.equal(together, plain)


def test_draws_concern_the_levels_below_the_limit_only():
    denoiser = GaussianDenoiser()
    image, hole = problem(denoiser)
    sigmas = [80.0, 5.0, 1.6]
    one = replacement(denoiser, image, hole, sigmas, seeded())
    assert torch.equal(
        replacement(denoiser, image, hole, sigmas, seeded(), draws=4, calm_below=1.0), one
    )
    grid = calm_sigmas(5, denoiser)
    assert len(grid) == 5 and grid[-1].item() == pytest.approx(0.5)
    with pytest.raises(ValueError, match="steps=0"):
        calm_sigmas(0, denoiser)
    with pytest.raises(ValueError, match="draws=0"):
        replacement(denoiser, image, hole, sigmas, seeded(), draws=0)


def test_no_noise_is_left_and_the_noise_levels_are_those_given():
    """Ending early, or starting below sigma_max, was what made the pictures colourful."""
    denoiser = GaussianDenoiser(mu=0.0, s=1e-4)
    image, hole = problem(denoiser)
    sigmas = step_sigmas(5, denoiser)
    result = replacement(denoiser, image, hole, sigmas, seeded())
    assert result[hole.expand_as(result)].abs().max() < 0.02
    assert denoiser.calls == [float(s) for s in sigmas]
    assert denoiser.calls[0] == pytest.approx(80.0)


def test_progress_is_told_and_can_cancel():
    denoiser = GaussianDenoiser()
    image, hole = problem(denoiser)
    seen = []
    replacement(denoiser, image, hole, step_sigmas(3, denoiser), seeded(),
                progress=lambda i, n: seen.append((i, n)))  # fmt: skip
    assert seen == [(0, 3), (1, 3), (2, 3)]

    def cancel(step, total):
        if step == 1:
            raise KeyboardInterrupt

    denoiser.calls.clear()
    with pytest.raises(KeyboardInterrupt):
        replacement(denoiser, image, hole, step_sigmas(3, denoiser), seeded(), progress=cancel)
    assert len(denoiser.calls) == 1


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda image, hole: (image * 127.5 + 127.5, hole), r"\[-1,1\]"),
        (lambda image, hole: (image, hole.float()), "bool"),
        (lambda image, hole: (image, hole[:, 0]), "bool"),
        (lambda image, hole: (image, hole[:1]), "bool"),
        (lambda image, hole: (image, hole.expand(-1, 3, -1, -1)), "bool"),
        (lambda image, hole: (image[..., :4], hole[..., :4]), "this generator takes"),
    ],
)
def test_the_causes_of_colourful_pictures_are_refused(change, match):
    denoiser = GaussianDenoiser()
    image, hole = change(*problem(denoiser))
    with pytest.raises(ValueError, match=match):
        replacement(denoiser, image, hole, step_sigmas(2, denoiser), seeded())


def test_levels_that_do_not_descend_are_refused():
    denoiser = GaussianDenoiser()
    image, hole = problem(denoiser)
    for sigmas in ([], [1.0, 2.0], [80.0, 0.001], np.array([80.0, 80.0])):
        with pytest.raises(ValueError, match="sigmas"):
            replacement(denoiser, image, hole, sigmas, seeded())
