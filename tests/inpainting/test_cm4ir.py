"""CM4IR: its beginning, its noise, and its steps against a transcription of the algorithm."""

import pytest
import torch
from consistency.toys import GaussianDenoiser, tiny_denoiser

from messi_lib.consistency.sampling import sample_multistep
from messi_lib.inpainting.cm4ir import LAST, START, cm4ir, cm4ir_sigmas, smooth_fill


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def problem(n=2, size=16, seed=0):
    image = torch.rand(n, 3, size, size, generator=seeded(seed)) * 2 - 1
    hole = torch.zeros(n, 1, size, size, dtype=torch.bool)
    for i in range(n):
        hole[i, :, 3 : 9 + i, 4 : 8 + 2 * i] = True
    return image, hole


class TestFill:
    @pytest.mark.parametrize("size", [8, 15, 32, 33])
    def test_it_keeps_what_is_known_and_never_reads_the_hole(self, size):
        image, hole = problem(size=size)
        filled = smooth_fill(image, hole)
        keep = ~hole.expand_as(image)
        assert torch.equal(filled[keep], image[keep])
        dirty = torch.where(hole, torch.full_like(image, float("nan")), image)
        assert torch.equal(smooth_fill(dirty, hole), filled)
        assert torch.equal(smooth_fill(image, torch.zeros_like(hole)), image)

    def test_it_lies_between_the_known_values(self):
        image, hole = problem(size=32)
        hole[:, :, 4:28, 4:28] = True
        filled = smooth_fill(image, hole)
        for one, region, source in zip(filled, hole[:, 0], image):
            known = source[:, ~region]
            assert (one.amax((1, 2)) <= known.amax(1) + 1e-6).all()
            assert (one.amin((1, 2)) >= known.amin(1) - 1e-6).all()

    def test_a_flat_image_is_continued_flat_and_a_ramp_as_a_ramp(self):
        _, hole = problem(n=1, size=32)
        hole[:, :, 6:26, 6:26] = True
        flat = smooth_fill(torch.full((1, 3, 32, 32), 0.3), hole)
        torch.testing.assert_close(flat, torch.full_like(flat, 0.3))
        ramp = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
        filled = smooth_fill(ramp, hole)
        assert (filled - ramp).abs().max() < 0.35
        assert (filled[..., 8] < filled[..., 23] - 0.5).all(), "left dark, right bright"

    def test_with_nothing_known_it_is_grey(self):
        image, hole = problem()
        assert not smooth_fill(image, torch.ones_like(hole)).any()

    def test_images_do_not_meet(self):
        image, hole = problem(n=3)
        hole[1] = True
        together = smooth_fill(image, hole)
        for i in range(3):
            alone = smooth_fill(image[i : i + 1], hole[i : i + 1])
            assert torch.equal(together[i : i + 1], alone)


def test_the_levels_begin_in_the_middle():
    denoiser = GaussianDenoiser()
    assert cm4ir_sigmas(1, denoiser).tolist() == pytest.approx([START])
    levels = cm4ir_sigmas(4, denoiser)
    assert levels[0].item() == pytest.approx(START) and levels[-1].item() == pytest.approx(LAST)
    with pytest.raises(ValueError, match="steps=0"):
        cm4ir_sigmas(0, denoiser)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("delta", [0.0, 0.3])
def test_the_steps_are_those_of_the_algorithm(eta, delta):
    """Written out once more, as in the paper's code: matrices, signs and all."""
    denoiser = tiny_denoiser().eval().requires_grad_(False)
    size = denoiser.image_size
    image, hole = problem(n=1, size=size)
    sigmas = [20.0, 3.0, 0.4]
    result = cm4ir(denoiser, image, hole, sigmas, seeded(), eta=eta, delta=delta)

    keep = (~hole).expand_as(image).flatten()
    a = torch.eye(keep.numel())[keep]  # (known values, all values)
    pseudo_inverse = torch.linalg.pinv(a)
    y = a @ image.flatten()
    generator = seeded()

    def z():
        return torch.randn(image.shape, generator=generator)

    x = smooth_fill(image, hole) + sigmas[0] * z()
    for i, sigma in enumerate(sigmas):
        x0 = denoiser(x, sigma * (1 + delta)).clamp(-1, 1)
        z_hat_minus = (x0 - x) / sigma
        guidance = pseudo_inverse @ (a @ x0.flatten() - y)
        x0 = x0 - guidance.view_as(x0)
        if i + 1 < len(sigmas):
            spread = (sigmas[i + 1] ** 2 - denoiser.sigma_min**2) ** 0.5
            x = x0 + eta * spread * z() + (1 - eta**2) ** 0.5 * spread * z_hat_minus
    torch.testing.assert_close(result, x0, atol=2e-5, rtol=0)


def test_it_begins_with_the_continued_surroundings():
    """At a level that is almost no noise, one step returns the beginning."""
    denoiser = GaussianDenoiser(image_size=16)
    image, hole = problem()
    result = cm4ir(denoiser, image, hole, [0.0021], seeded())
    torch.testing.assert_close(result, smooth_fill(image, hole), atol=0.02, rtol=0)


def test_the_network_is_told_a_higher_level_but_none_it_does_not_know():
    denoiser = GaussianDenoiser()
    image, hole = problem(size=8)
    cm4ir(denoiser, image, hole, [70.0, 2.0], seeded(), delta=0.5)
    assert denoiser.calls == pytest.approx([80.0, 3.0])


def test_only_with_all_noise_fresh_it_is_the_plain_sampler():
    denoiser = GaussianDenoiser()
    image, hole = problem(size=8)
    everything, sigmas = torch.ones_like(hole), [80.0, 4.0, 0.5]
    plain = sample_multistep(denoiser, 2, sigmas, seeded())
    fresh = cm4ir(denoiser, image, everything, sigmas, seeded(), eta=1.0)
    assert torch.equal(fresh, plain)
    assert not torch.equal(cm4ir(denoiser, image, everything, sigmas, seeded(), eta=0.9), plain)


def test_the_mean_of_draws_has_less_of_the_fresh_noise():
    """All else equal: with eta 1 the spread after the last step is known in closed form."""
    s, sigma = 0.2, 0.5
    denoiser = GaussianDenoiser(mu=0.0, s=s, image_size=32)
    image, hole = torch.zeros(4, 3, 32, 32), torch.ones(4, 1, 32, 32, dtype=torch.bool)
    for draws in (1, 8):
        result = cm4ir(denoiser, image, hole, [80.0, sigma], seeded(), eta=1.0, draws=draws)
        shrink = s**2 / (s**2 + sigma**2)
        expected = (shrink * (s**2 + sigma**2 / draws)) ** 0.5
        assert result.std().item() == pytest.approx(expected, rel=0.03)


def test_draws_without_fresh_noise_change_nothing():
    denoiser = GaussianDenoiser()
    image, hole = problem(size=8)
    sigmas = [12.0, 1.0, 0.4]
    one = cm4ir(denoiser, image, hole, sigmas, seeded(), eta=0.0)
    four = cm4ir(denoiser, image, hole, sigmas, seeded(), eta=0.0, draws=4)
    torch.testing.assert_close(one, four, atol=1e-6, rtol=0)


@pytest.mark.parametrize("wrong", [dict(eta=1.1), dict(eta=-0.1), dict(delta=-0.5)])
def test_what_is_out_of_range_is_refused(wrong):
    image, hole = problem(size=8)
    with pytest.raises(ValueError, match="eta=.*delta="):
        cm4ir(GaussianDenoiser(), image, hole, [12.0, 1.0], seeded(), **wrong)
