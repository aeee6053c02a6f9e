import pytest
import torch

from messi_lib.consistency.denoiser import Denoiser
from messi_lib.consistency.objectives import ect_loss, ect_partner, edm_loss, pseudo_huber
from messi_lib.runs import seed_generator

from .reference import close, fixture, network
from .toys import GaussianDenoiser, tiny_denoiser


def test_edm_loss_equals_the_public_code(monkeypatch):
    entry = fixture()["diffusion"]
    denoiser = Denoiser(network("tiny")[0], image_size=32)
    from messi_lib.consistency import objectives

    monkeypatch.setattr(objectives, "lognormal_sigmas", lambda *a: entry["sigma4"])
    monkeypatch.setattr(objectives, "draw_noise", lambda *a: entry["noise"])
    losses = edm_loss(denoiser, entry["x0"], torch.Generator())
    close(losses.loss, entry["edm_losses"]["loss"])


def test_edm_loss_is_least_for_the_true_posterior_mean():
    data = 0.2 + 0.3 * torch.randn(256, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def at(mu, s):
        return edm_loss(GaussianDenoiser(mu, s), data, torch.Generator().manual_seed(1)).loss.mean()

    # The closed form takes one level per batch, so all images get the first one.
    assert at(0.2, 0.3) < at(0.6, 0.3) and at(0.2, 0.3) < at(0.2, 0.9)


def test_partner_level_is_below_and_closes_up():
    t = torch.tensor([0.01, 0.5, 3.0, 80.0])
    levels = torch.stack([ect_partner(t, stage) for stage in range(8)])
    assert torch.all(levels < t) and torch.all(levels >= 0)
    assert torch.all(levels[1:] >= levels[:-1])
    assert levels[0, 0] == 0  # stage 0 at small noise: a diffusion loss
    torch.testing.assert_close(levels[7, 3] / 80, torch.tensor(1 - 1 / 256), rtol=1e-6, atol=0)


def test_the_student_is_drawn_to_the_exact_consistency_function():
    """Gaussian data, the target exact: among students the exact consistency function fits best."""

    class Student(GaussianDenoiser):
        def forward(self, x, sigma, *, boundary=None, inject=None):
            s = self.s if torch.is_grad_enabled() else 0.3  # the target runs without gradients
            level = torch.as_tensor(sigma).view(-1, 1, 1, 1)
            return self.mu + (x - self.mu) * s / (0.3**2 + level**2) ** 0.5

    data = 0.2 + 0.3 * torch.randn(512, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def at(s):
        generator = torch.Generator().manual_seed(1)
        return ect_loss(Student(0.2, s), data, generator, stage=7).loss.mean().item()

    assert at(0.3) < at(0.24) and at(0.3) < at(0.36)


def test_both_sides_share_the_dropout_mask_and_the_noise():
    """With r = t the two sides are equal exactly when noise and dropout are shared."""
    denoiser = tiny_denoiser(dropout=0.5).train()
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    from messi_lib.consistency import objectives

    seen = []
    original = objectives.pseudo_huber

    def spy(x, y, c=0.0):
        seen.append((x.detach(), y))
        return original(x, y, c)

    objectives.pseudo_huber, partner = spy, objectives.ect_partner
    objectives.ect_partner = lambda t, stage, q: t
    try:
        ect_loss(denoiser, images, torch.Generator().manual_seed(0), stage=3)
    finally:
        objectives.pseudo_huber, objectives.ect_partner = original, partner
    student, target = seen[0]
    assert torch.equal(student, target)


def test_the_target_carries_no_gradient():
    denoiser = tiny_denoiser()
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    calls = []
    original = denoiser.forward

    def spy(*args, **kwargs):
        out = original(*args, **kwargs)
        calls.append(out.requires_grad)
        return out

    denoiser.forward = spy
    ect_loss(denoiser, images, torch.Generator().manual_seed(0), stage=5).loss.mean().backward()
    assert calls == [True, False]


def test_pseudo_huber_runs_from_square_to_norm():
    x, y = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    norm = (48 * 0.25) ** 0.5
    assert pseudo_huber(x, y).item() == pytest.approx(norm)
    assert pseudo_huber(x, y, c=1e-3).item() == pytest.approx(norm, abs=2e-3)
    assert pseudo_huber(x, y, c=1e3).item() == pytest.approx(norm**2 / 2e3, rel=2e-2)


@pytest.mark.parametrize("loss", [edm_loss, lambda *a: ect_loss(*a, stage=2)])
def test_losses_are_functions_of_their_generator(loss):
    denoiser, images = tiny_denoiser(), torch.rand(3, 3, 16, 16) * 2 - 1
    same = [loss(denoiser, images, seed_generator(0, "x")) for _ in range(2)]
    assert torch.equal(same[0].loss, same[1].loss) and same[0].loss.shape == (3,)
    assert torch.equal(same[0].sigma, same[1].sigma) and (same[0].sigma > 0).all()
    assert not torch.equal(same[0].loss, loss(denoiser, images, seed_generator(1, "x")).loss)
