"""Solvers: what must hold exactly, with closed-form and with real networks."""

import functools

import numpy as np
import pytest
import torch
from consistency.toys import GaussianDenoiser, tiny_denoiser

from messi_lib.consistency.noise import karras_sigmas
from messi_lib.consistency.sampling import sample_multistep, step_sigmas
from messi_lib.inpainting.cm4ir import cm4ir
from messi_lib.inpainting.holes import make_holes
from messi_lib.inpainting.resample import resample
from messi_lib.inpainting.solvers import (
    SOLVERS,
    Unknown,
    calm_sigmas,
    check_problem,
    own_levels,
    replacement,
    solve,
)


class ToldGaussian(GaussianDenoiser):
    """Closed form for `conditional`: data N(m, s^2 I), where m is the mean of the known pixels.

    With four channels the same for `layer`.
    """

    def __init__(self, channels=3):
        super().__init__()
        self.channels, self.condition_channels = channels, 4
        self.shape = (channels, *self.shape[1:])

    def forward(self, x, sigma, *, condition):
        keep = condition[:, 3:] < 0
        known = (condition[:, :3] * keep).sum((1, 2, 3), keepdim=True)
        m = known / (3 * keep).sum((1, 2, 3), keepdim=True).clamp(min=1)
        return m + super().forward(x - m + self.mu, sigma) - self.mu


KINDS = ("closed form", "network")
TOLD = {"conditional": 3, "layer": 4}  # solvers whose network is told of the hole: its channels


@functools.cache
def toy(solver, kind):
    """A denoiser that the solver takes."""
    if kind == "network":
        told = 4 if solver in TOLD else 0
        made = tiny_denoiser(condition_channels=told, channels=TOLD.get(solver, 3))
        return made.eval().requires_grad_(False)
    return ToldGaussian(TOLD[solver]) if solver in TOLD else GaussianDenoiser()


def problem(denoiser, n=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(n, 3, *denoiser.shape[1:], generator=generator) * 2 - 1
    size = denoiser.image_size
    hole = torch.zeros(n, 1, size, size, dtype=torch.bool)
    for i in range(n):
        hole[i, :, 1 : 4 + i, 2 : 5 + i] = True
    return image, hole


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("steps", "draws"), [(1, 1), (4, 1), (5, 3)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", SOLVERS)
class TestExact:
    """What holds for every solver, whatever its network has learnt."""

    def fill(self, solver, kind, image, hole, steps, draws, generator=None, **more):
        generator = generator or seeded()
        more |= dict(steps=steps, draws=draws, generator=generator)
        return solve(solver, toy(solver, kind), image, hole, **more)

    def test_nothing_to_fill_returns_the_input(self, solver, kind, steps, draws):
        image, hole = problem(toy(solver, kind))
        nothing = torch.zeros_like(hole)
        assert torch.equal(self.fill(solver, kind, image, nothing, steps, draws), image)

    def test_the_image_in_the_hole_is_never_read(self, solver, kind, steps, draws):
        image, hole = problem(toy(solver, kind))
        clean = self.fill(solver, kind, image, hole, steps, draws)
        for filling in (torch.randn(image.shape) * 50, torch.full_like(image, float("nan"))):
            dirty = torch.where(hole, filling, image)
            assert torch.equal(self.fill(solver, kind, dirty, hole, steps, draws), clean)

    def test_outside_the_hole_the_seed_does_not_matter(self, solver, kind, steps, draws):
        image, hole = problem(toy(solver, kind))
        one = self.fill(solver, kind, image, hole, steps, draws, seeded(1))
        two = self.fill(solver, kind, image, hole, steps, draws, seeded(2))
        keep = ~hole.expand_as(image)
        assert torch.equal(one[keep], image[keep]) and torch.equal(two[keep], image[keep])
        assert (one != two)[hole.expand_as(image)].float().mean() > 0.5

    def test_the_same_seed_gives_the_same(self, solver, kind, steps, draws):
        image, hole = problem(toy(solver, kind))
        runs = [self.fill(solver, kind, image, hole, steps, draws) for _ in range(2)]
        assert torch.equal(*runs)

    def test_a_person_annotated_twice_is_one_person(self, solver, kind, steps, draws):
        """The predecessor summed its masks: a person annotated twice became 2, and 1 - 2 a mask."""
        image, _ = problem(toy(solver, kind), n=1)
        size = image.shape[-1]
        person = np.zeros((size, size), bool)
        person[2:5, 3:6] = True
        once, twice = (make_holes([person] * times, 0.1, 0.0) for times in (1, 2))
        assert len(once) == len(twice) == 1 and twice[0].members == (0, 1)
        once, twice = (torch.from_numpy(h[0].full(person.shape))[None, None] for h in (once, twice))
        one = self.fill(solver, kind, image, once, steps, draws)
        assert torch.equal(self.fill(solver, kind, image, twice, steps, draws), one)

    def test_a_batch_equals_single_calls(self, solver, kind, steps, draws):
        image, hole = problem(toy(solver, kind), n=3)
        together = self.fill(solver, kind, image, hole, steps, draws, [seeded(i) for i in range(3)])
        for i in range(3):
            part = slice(i, i + 1)
            alone = self.fill(solver, kind, image[part], hole[part], steps, draws, seeded(i))
            if kind == "closed form" and draws == 1 and solver not in TOLD:
                assert torch.equal(together[part], alone)
            else:  # sums over pixels or draws add up in another order for another batch size
                torch.testing.assert_close(together[part], alone, atol=1e-4, rtol=0)

    def test_it_makes_as_many_calls_as_it_was_given(self, solver, kind, steps, draws):
        image, hole = problem(toy(solver, kind))
        seen = []
        self.fill(
            solver, kind, image, hole, steps, draws, progress=lambda i, n: seen.append((i, n))
        )
        assert seen == [(i, steps) for i in range(steps)]

    def test_progress_can_cancel(self, solver, kind, steps, draws):
        image, hole = problem(toy(solver, kind))

        def cancel(step, total):
            if step == total - 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.fill(solver, kind, image, hole, steps, draws, progress=cancel)


PLAIN = {
    "replacement": replacement,
    "resample": functools.partial(resample, resamplings=1),
    "cm4ir": functools.partial(cm4ir, eta=1.0, delta=0.0),
}  # the others are not here: their network is told that all is a hole, the plain sampler's nothing


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", PLAIN)
def test_everything_to_fill_is_the_plain_sampler(solver, kind, steps):
    denoiser = toy(solver, kind)
    image, hole = problem(denoiser)
    sigmas = step_sigmas(steps, denoiser)
    result = PLAIN[solver](denoiser, image, torch.ones_like(hole), sigmas, seeded())
    assert torch.equal(result, sample_multistep(denoiser, 2, sigmas, seeded()))
    other = sample_multistep(denoiser, 2, sigmas, seeded(2))
    assert not torch.equal(result, other), "or the comparison would say nothing"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", PLAIN)
class TestStrength:
    """Soft strength; `conditional` was trained with sharp holes and takes none."""

    def fill(self, solver, kind, image, hole, strength):
        more = dict(steps=6, draws=1, generator=seeded(), strength=strength)
        return solve(solver, toy(solver, kind), image, hole, **more)

    def test_full_strength_everywhere_is_no_strength(self, solver, kind):
        image, hole = problem(toy(solver, kind))
        full = torch.ones(hole.shape)
        plain = self.fill(solver, kind, image, hole, None)
        assert torch.equal(self.fill(solver, kind, image, hole, full), plain)
        outside = torch.where(hole, 1.0, 0.3)
        assert torch.equal(self.fill(solver, kind, image, hole, outside), plain)

    def test_no_strength_anywhere_returns_the_input(self, solver, kind):
        image, hole = problem(toy(solver, kind))
        assert torch.equal(self.fill(solver, kind, image, hole, torch.zeros(hole.shape)), image)

    def test_the_image_is_read_only_where_the_strength_is_below_one(self, solver, kind):
        image, hole = problem(toy(solver, kind))
        strength = torch.ones(hole.shape)
        strength[..., 3] = 0.45  # one column, through all holes
        clean = self.fill(solver, kind, image, hole, strength)
        hidden = hole & (strength == 1)
        dirty = torch.where(hidden, torch.full_like(image, float("nan")), image)
        assert torch.equal(self.fill(solver, kind, dirty, hole, strength), clean)
        soft = (hole & ~hidden).expand_as(image)
        assert (clean != image)[soft].any() and soft.any()
        moved = self.fill(solver, kind, torch.where(soft, -image, image), hole, strength)
        assert (moved != clean)[soft].any(), "there it is read"


@pytest.mark.parametrize("solver", PLAIN)
def test_more_strength_leaves_less_of_the_image(solver):
    """Closed form, so that it is known how a pixel follows from what it was."""
    denoiser = GaussianDenoiser(image_size=24)
    image, _ = problem(denoiser)
    hole = torch.zeros(2, 1, 24, 24, dtype=torch.bool)
    hole[..., 2:22, 2:22] = True
    inside, alike = hole.expand_as(image), []
    for value in (0.1, 0.4, 0.55, 1.0):
        strength = torch.full(hole.shape, value)
        result = solve(solver, denoiser, image, hole, steps=6, draws=1, generator=seeded(),
                       strength=strength)  # fmt: skip
        assert torch.equal(result[~inside], image[~inside])
        alike.append(torch.corrcoef(torch.stack([result[inside], image[inside]]))[0, 1].item())
    assert alike[0] == pytest.approx(1, abs=1e-6) and abs(alike[3]) < 0.1
    assert alike[0] - 0.1 > alike[1] > alike[3] + 0.15
    assert alike[1] >= alike[2] > alike[3] - 0.1, "levels between two of the grid are the same"


def test_the_level_below_which_a_pixel_is_free_is_its_strength_on_the_grid():
    denoiser = GaussianDenoiser()
    grid = karras_sigmas(5)
    levels = own_levels(torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]), denoiser)
    assert levels[0] == float("inf")
    torch.testing.assert_close(levels[1:], grid[1:], rtol=1e-5, atol=0)
    hole, strength = torch.ones(1, 1, 8, 8, dtype=torch.bool), torch.full((1, 1, 8, 8), 0.5)
    hole[..., 0] = False
    unknown = Unknown(denoiser, hole, strength)
    assert torch.equal(unknown.at(0.999 * float(grid[2])), hole)
    assert not unknown.at(1.001 * float(grid[2])).any()


@pytest.mark.parametrize(
    ("strength", "match"),
    [
        (torch.full((2, 1, 8, 8), 1.5), r"\[0,1\]"),
        (torch.full((2, 1, 8, 8), float("nan")), r"\[0,1\]"),
        (torch.ones(2, 1, 8, 8, dtype=torch.uint8), "float"),
        (torch.ones(2, 8, 8), "float"),
    ],
)
def test_a_strength_that_is_none_is_refused(strength, match):
    image, hole = problem(GaussianDenoiser())
    for solver in PLAIN:
        with pytest.raises(ValueError, match=match):
            solve(solver, GaussianDenoiser(), image, hole, steps=2, generator=seeded(),
                  strength=strength)  # fmt: skip


def test_below_full_strength_the_image_must_be_one():
    """Where it is read it must lie in [-1,1]; where it is not, it may be anything."""
    denoiser = GaussianDenoiser()
    image, hole = problem(denoiser)
    image = torch.where(hole, 7.0, image)
    check_problem(denoiser, image, hole, torch.ones(hole.shape))
    with pytest.raises(ValueError, match=r"\[-1,1\]"):
        check_problem(denoiser, image, hole, torch.full(hole.shape, 0.9))


class TestByName:
    def test_what_does_not_fit_is_refused(self):
        image, hole = problem(GaussianDenoiser())
        with pytest.raises(ValueError, match="'sharpest'.*replacement, resample, cm4ir"):
            solve("sharpest", GaussianDenoiser(), image, hole, steps=2, generator=seeded())
        with pytest.raises(ValueError, match="conditional needs"):
            solve("conditional", GaussianDenoiser(), image, hole, steps=2, generator=seeded())
        for solver in PLAIN:
            with pytest.raises(ValueError, match=f"{solver} needs.*use conditional"):
                solve(solver, ToldGaussian(), image, hole, steps=2, generator=seeded())
        with pytest.raises(ValueError, match="neither strength nor inject"):
            solve("conditional", ToldGaussian(), image, hole, steps=2, generator=seeded(),
                  strength=torch.ones(hole.shape))  # fmt: skip
        for solver in ("replacement", "conditional"):
            with pytest.raises(ValueError, match=f"{solver} needs .* draws layers: use layer"):
                solve(solver, ToldGaussian(4), image, hole, steps=2, generator=seeded())
        with pytest.raises(ValueError, match="layer needs .* draws images: train one"):
            solve("layer", ToldGaussian(), image, hole, steps=2, generator=seeded())

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_no_step_is_refused(self, solver):
        image, hole = problem(GaussianDenoiser())
        with pytest.raises(ValueError, match="steps=0"):
            solve(solver, toy(solver, "closed form"), image, hole, steps=0, generator=seeded())

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_the_same_things_are_refused_by_all(self, solver):
        denoiser = toy(solver, "closed form")
        image, hole = problem(denoiser)
        wrong = [(image * 127.5 + 127.5, hole, 1), (image, hole.float(), 1), (image, hole, 0)]
        for picture, region, draws in wrong:
            with pytest.raises(ValueError, match=r"\[-1,1\]|bool|draws=0"):
                solve(solver, denoiser, picture, region, steps=2, generator=seeded(), draws=draws)
        with pytest.raises(ValueError, match="3 generators for 2"):
            solve(solver, denoiser, image, hole, steps=2, generator=[seeded()] * 3)

    @pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 16])
    @pytest.mark.parametrize("solver", PLAIN)
    def test_the_levels_lie_in_the_range_of_the_generator_and_end_low(self, solver, steps):
        denoiser = GaussianDenoiser()
        image, hole = problem(denoiser)
        solve(solver, denoiser, image, hole, steps=steps, generator=seeded())
        assert len(denoiser.calls) == steps
        assert max(denoiser.calls) == denoiser.calls[0] <= denoiser.sigma_max * (1 + 1e-5)
        assert denoiser.calls[-1] == min(denoiser.calls)
        if steps > 1:
            assert 0.2 < denoiser.calls[-1] < 0.6


# --- replacement --------------------------------------------------------------------------------


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
