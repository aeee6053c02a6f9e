"""The generator that is told of the known pixels: exact properties, with a real small network."""

import pytest
import torch
from consistency.toys import tiny_denoiser

from messi_lib.inpainting.conditional import condition_of, conditional, conditional_sigmas
from messi_lib.inpainting.weights import load_for, solver_for


@pytest.fixture(scope="module")
def denoiser():
    return tiny_denoiser(condition_channels=4).eval().requires_grad_(False)


def problem(n=3, size=16):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(n, 3, size, size, generator=generator) * 2 - 1
    hole = torch.zeros(n, 1, size, size, dtype=torch.bool)
    for i in range(n):
        hole[i, :, 3 : 9 + i, 4 : 8 + i] = True
    return image, hole


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def test_the_condition_tells_what_is_known_and_where_nothing_is():
    image, hole = problem()
    told = condition_of(image, hole)
    assert told.shape == (3, 4, 16, 16)
    keep = ~hole
    assert torch.equal(told[:, :3][keep.expand(-1, 3, -1, -1)], image[keep.expand_as(image)])
    assert not told[:, :3][hole.expand(-1, 3, -1, -1)].any()
    assert torch.equal(told[:, 3:] == 1, hole) and torch.equal(told[:, 3:] == -1, keep)


@pytest.mark.parametrize(("steps", "draws"), [(1, 1), (2, 1), (3, 4)])
class TestExact:
    def fill(self, denoiser, image, hole, steps, draws, generator=None):
        sigmas = conditional_sigmas(steps, denoiser)
        return conditional(denoiser, image, hole, sigmas, generator or seeded(), draws=draws)

    def test_nothing_to_fill_returns_the_input(self, denoiser, steps, draws):
        image, hole = problem()
        nothing = torch.zeros_like(hole)
        assert torch.equal(self.fill(denoiser, image, nothing, steps, draws), image)

    def test_the_image_in_the_hole_is_never_read(self, denoiser, steps, draws):
        image, hole = problem()
        clean = self.fill(denoiser, image, hole, steps, draws)
        for filling in (torch.randn(image.shape) * 50, torch.full_like(image, float("nan"))):
            dirty = torch.where(hole, filling, image)
            assert torch.equal(self.fill(denoiser, dirty, hole, steps, draws), clean)

    def test_what_is_known_changes_what_is_filled_in(self, denoiser, steps, draws):
        """From the first step on: the zero-shot solvers cannot say so at sigma_max."""
        image, hole = problem()
        one = self.fill(denoiser, image, hole, steps, draws)
        two = self.fill(denoiser, -image, hole, steps, draws)
        inside = hole.expand_as(image)
        assert (one[inside] - two[inside]).abs().mean() > 0.01

    def test_outside_the_hole_the_seed_does_not_matter_and_inside_it_does(
        self, denoiser, steps, draws
    ):
        image, hole = problem()
        one = self.fill(denoiser, image, hole, steps, draws, seeded(1))
        two = self.fill(denoiser, image, hole, steps, draws, seeded(2))
        keep = ~hole.expand_as(image)
        assert torch.equal(one[keep], image[keep]) and torch.equal(two[keep], image[keep])
        assert not torch.equal(one, two)

    def test_a_batch_is_as_many_single_calls(self, denoiser, steps, draws):
        image, hole = problem()
        each = [seeded(i) for i in range(3)]
        together = self.fill(denoiser, image, hole, steps, draws, each)
        for i in range(3):
            pick = slice(i, i + 1)
            alone = self.fill(denoiser, image[pick], hole[pick], steps, draws, [seeded(i)])
            # Convolutions of other batch sizes are summed in another order.
            assert torch.allclose(together[pick], alone, atol=2e-5)


def test_levels_descend_from_sigma_max_and_progress_counts_the_calls(denoiser):
    assert conditional_sigmas(1, denoiser) == [80.0]
    levels = conditional_sigmas(4, denoiser)
    assert len(levels) == 4 and levels == sorted(levels, reverse=True)
    assert min(conditional_sigmas(30, denoiser)) > denoiser.sigma_min
    calls = []
    image, hole = problem()
    conditional(denoiser, image, hole, levels, seeded(), progress=lambda *at: calls.append(at))
    assert calls == [(0, 4), (1, 4), (2, 4), (3, 4)]
    with pytest.raises(ValueError, match="at least one network call"):
        conditional_sigmas(0, denoiser)


def test_a_denoiser_without_a_condition_is_refused(denoiser):
    plain = tiny_denoiser().eval()
    image, hole = problem()
    with pytest.raises(ValueError, match="takes no condition: train one with messi train"):
        conditional(plain, image, hole, [80.0], seeded())
    with pytest.raises(ValueError, match="draws=0"):
        conditional(denoiser, image, hole, [80.0], seeded(), draws=0)
    with pytest.raises(ValueError, match="2 generators for 3 images"):
        conditional(denoiser, image, hole, [80.0], [seeded(), seeded()])
    with pytest.raises(ValueError, match="a condition of 0 channels, but this denoiser takes 4"):
        denoiser(image, 1.0)
    with pytest.raises(ValueError, match="a condition of 4 channels, but this denoiser takes 0"):
        plain(image, 1.0, condition=condition_of(image, hole))


def test_weights_and_solvers_fit_each_other(denoiser, tmp_path):
    from messi_lib.consistency.train import export_denoiser

    plain = tiny_denoiser()
    assert (solver_for(denoiser), solver_for(plain)) == ("conditional", "replacement")
    files = {}
    for name, each in {"holes": denoiser, "plain": plain}.items():
        path = tmp_path / f"{name}.safetensors"
        files[name] = export_denoiser(path, each.config, each.state_dict(), {})
    assert load_for("", files["holes"]).condition_channels == 4
    assert load_for("conditional", files["holes"]).condition_channels == 4
    assert load_for("resample", files["plain"]).condition_channels == 0
    assert load_for("replacement").condition_channels == 0  # the one that ships
    with pytest.raises(ValueError, match="plain.*conditional needs a generator for holes"):
        load_for("conditional", files["plain"])
    with pytest.raises(ValueError, match="holes.*cm4ir needs a generator that takes no condition"):
        load_for("cm4ir", files["holes"])
    with pytest.raises(ValueError, match="unknown solver 'magic': use one of replacement"):
        load_for("magic")
