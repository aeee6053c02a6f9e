import math

import pytest
import torch

from messi_lib.consistency import discrete
from messi_lib.consistency.denoiser import Denoiser
from messi_lib.consistency.discrete import (
    cd_loss,
    ct_loss,
    ct_scales,
    ct_target_rate,
    heun_step,
    ict_loss,
    ict_probabilities,
    ict_scales,
)
from messi_lib.consistency.noise import karras_sigmas

from .reference import close, fixture, network, seeded_weights
from .toys import GaussianDenoiser, tiny_denoiser


def trio() -> tuple[Denoiser, Denoiser, Denoiser]:
    """Student, target and teacher of the fixture (its README gives the rules)."""
    student, target, teacher = (
        Denoiser(network("tiny")[0], image_size=32, boundary=True) for _ in range(3)
    )
    with torch.no_grad():
        for parameter in target.parameters():
            parameter += 0.01
    teacher.unet.load_state_dict(seeded_weights(teacher.unet.state_dict(), 5))
    return student, target, teacher


@pytest.mark.parametrize("distance", ["l1", "l2", "l2-32"])
def test_ct_and_cd_losses_equal_the_public_code(monkeypatch, distance):
    entry = fixture()["diffusion"]
    monkeypatch.setattr(discrete, "draw_intervals", lambda *a: entry["consistency_indices_N18"])
    monkeypatch.setattr(discrete, "draw_noise", lambda *a: entry["noise"])
    student, target, teacher = trio()
    given = student, target, entry["x0"], torch.Generator()
    theirs = entry["consistency_losses"]
    with torch.no_grad():
        close(ct_loss(*given, scales=18, distance=distance).loss, theirs[f"{distance}_CT_N18"])
        ours = cd_loss(*given, teacher=teacher, scales=18, distance=distance)
        close(ours.loss, theirs[f"{distance}_CD_N18"])


def test_l2_at_32_pixels_is_coarser_than_l2():
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros_like(x)
    assert (discrete.DISTANCES["l2-32"](x, zero) < 0.5 * discrete.DISTANCES["l2"](x, zero)).all()
    flat = torch.full_like(x, 0.5)
    torch.testing.assert_close(discrete.DISTANCES["l2-32"](flat, zero), torch.full((2,), 0.25))


@pytest.mark.parametrize("name", ["ct_in64", "ct_lsun", "fixed_prog", "cd"])
def test_schedules_equal_the_public_code(name):
    entry = fixture()["ema_and_scales"][name]
    kind, rate, mode, start, end, total, _ = entry["args"]
    for step, (ema, scales) in entry["values"].items():
        if int(step) > total or mode == "fixed":  # the public code grows on after the end
            continue
        ours = ct_scales(int(step), total, start, end)
        assert ours == scales
        if kind == "adaptive":
            assert ct_target_rate(ours, start, rate) == pytest.approx(ema, rel=1e-9)
    assert ct_scales(10 * total, total, start, end) == end + 1


def test_ict_doubles_its_intervals_until_the_end():
    total = 8000
    scales = [ict_scales(step, total) for step in range(0, total + 1, 100)]
    assert scales[0] == 11 and scales[-1] == 1281 and sorted(scales) == scales
    assert sorted(set(scales)) == [10 * 2**i + 1 for i in range(8)]


def test_ict_probabilities_are_the_lognormal_between_neighbours():
    grid = karras_sigmas(200)
    p = ict_probabilities(grid)
    assert p.sum().item() == pytest.approx(1) and (p > 0).all()
    draws = (-1.1 + 2 * torch.randn(400_000, generator=torch.Generator().manual_seed(0))).exp()
    inside = draws[(draws > grid[-1]) & (draws < grid[0])]
    for low, high in ((0.1, 0.5), (1.0, 5.0)):
        chosen = (grid[:-1] <= high) & (grid[1:] >= low)
        share = ((inside >= low) & (inside <= high)).float().mean()
        assert p[chosen].sum().item() == pytest.approx(share.item(), abs=0.02)


def test_heun_step_follows_the_gaussian_ode():
    teacher = GaussianDenoiser(0.2, 0.3)
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 5
    t, r = torch.full((4,), 5.0), torch.full((4,), 4.5)
    exact = 0.2 + (x - 0.2) * ((0.3**2 + 4.5**2) / (0.3**2 + 5.0**2)) ** 0.5
    torch.testing.assert_close(heun_step(teacher, x, t, r), exact, atol=2e-3, rtol=1e-3)


class Scaled(GaussianDenoiser):
    """A consistency function whose spread can be wrong, with a level for every image."""

    def forward(self, x, sigma, *, boundary=None, inject=None):
        level = torch.as_tensor(sigma).view(-1, *[1] * (x.ndim - 1))
        if boundary is False:
            return (0.3**2 * x + level**2 * self.mu) / (0.3**2 + level**2)
        return self.mu + (x - self.mu) * self.s / (0.3**2 + level**2) ** 0.5


@pytest.mark.parametrize("kind", ["ct", "cd", "ict"])
def test_the_exact_consistency_function_fits_best(kind):
    data = 0.2 + 0.3 * torch.randn(512, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    exact = Scaled(0.2, 0.3)

    def at(s):
        generator, student = torch.Generator().manual_seed(1), Scaled(0.2, s)
        if kind == "ict":  # its target is the student: here, the exact one
            target = torch.is_grad_enabled

            class Both(Scaled):
                def forward(self, x, sigma, **options):
                    return (student if target() else exact)(x, sigma, **options)

            return ict_loss(Both(0.2, s), data, generator, scales=161).loss.mean().item()
        if kind == "ct":
            return ct_loss(student, exact, data, generator, scales=151).loss.mean().item()
        return cd_loss(student, exact, data, generator, teacher=exact, scales=40).loss.mean().item()

    assert at(0.3) < at(0.24) and at(0.3) < at(0.36)


@pytest.mark.parametrize("kind", ["ct", "cd", "ict"])
def test_only_the_student_learns(kind):
    student, target = tiny_denoiser(0), tiny_denoiser(1)
    images, generator = torch.rand(3, 3, 16, 16) * 2 - 1, torch.Generator().manual_seed(0)
    if kind == "ict":
        loss = ict_loss(student, images, generator, scales=11)
    else:
        more = {"teacher": target} if kind == "cd" else {}
        loss = {"ct": ct_loss, "cd": cd_loss}[kind](
            student, target, images, generator, scales=11, **more
        )
    assert loss.loss.shape == (3,) and torch.isfinite(loss.loss).all()
    loss.loss.mean().backward()
    assert all(p.grad is None for p in target.parameters())
    assert any(p.grad is not None and p.grad.any() for p in student.parameters())


def test_bad_arguments_are_refused():
    denoiser, images = tiny_denoiser(), torch.zeros(2, 3, 16, 16)
    with pytest.raises(ValueError, match="distance='lpips'"):
        ct_loss(denoiser, denoiser, images, torch.Generator(), scales=8, distance="lpips")
    with pytest.raises(ValueError, match="scales=1"):
        ct_loss(denoiser, denoiser, images, torch.Generator(), scales=1)
    assert math.isfinite(ct_target_rate(2))
