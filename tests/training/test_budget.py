import dataclasses

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from messi_lib.consistency.denoiser import build_denoiser
from messi_lib.consistency.recipes import Recipe
from messi_lib.consistency.train import dry_runs
from messi_lib.profiles import ConsistencyConfig, preset
from messi_lib.training.budget import LiveBytes, StepBytes, budget, step_bytes


def test_live_bytes_follow_tensors_through_their_lives():
    with LiveBytes() as live:
        a = torch.zeros(1000)
        b = a + 1
        view = b.view(10, 100)
        assert live.now == 8000
        del b
        assert live.now == 8000  # the view keeps the storage
        del view
        assert live.now == 4000
        a.add_(1)
        assert live.now == 4000 and live.peak >= 8000
        del a
    assert live.now == 0


def test_activations_are_what_backward_needs():
    """A chain of sigmoids keeps its outputs: (depth) x (values), and two more in the backward."""
    depth, width = 6, 5000
    with FakeTensorMode():

        def loss_of(images):
            x = torch.zeros(images, width, requires_grad=True)
            for _ in range(depth):
                x = x.sigmoid()
            return x.sum()

        each = step_bytes(loss_of).each
    assert (depth + 1) * 4 * width <= each <= (depth + 4) * 4 * width


def test_what_does_not_grow_with_the_images_is_told_apart():
    """A product with a weight that is made anew at each step: its bytes are fixed."""
    weight = nn.Parameter(torch.zeros(300, 300))

    def loss_of(images):
        return (torch.zeros(images, 300) @ (2 * weight)).square().sum()

    step = step_bytes(loss_of)
    assert step.fixed >= 4 * 300 * 300
    again = step_bytes(loss_of, step.fixed)
    assert again.fixed == step.fixed and again.each == pytest.approx(step.each, rel=0.01)


def test_checkpointing_is_seen():
    from torch.utils.checkpoint import checkpoint

    def block(x):
        for _ in range(10):
            x = x.sigmoid()
        return x

    def loss_of(keep):
        def made(images):
            x = torch.zeros(images, 5000, requires_grad=True)
            for _ in range(4):
                x = block(x) if keep else checkpoint(block, x, use_reentrant=False)
            return x.sum()

        return made

    with FakeTensorMode():
        assert step_bytes(loss_of(False)).each < 0.5 * step_bytes(loss_of(True)).each


def test_the_states_add_up():
    model = nn.Linear(1000, 1000, bias=False, device="meta")
    lean = budget(model, StepBytes(2_000_000, 1_000_000), 5, average_on_device=False)
    assert lean.parameters == 10**6
    assert lean.states == 16 * 10**6 and lean.total == 23 * 10**6
    assert lean.with_images(9).total == 27 * 10**6
    assert 16 * 10**6 < lean.state_file < 16.01 * 10**6  # and a header
    full = budget(model, StepBytes(0, 5_000_000), 1, copies=2)
    assert full.states == 28 * 10**6 and full.total == 33 * 10**6
    frozen = nn.Linear(1000, 1000, bias=False, device="meta").requires_grad_(False)
    assert budget(frozen, StepBytes(0, 0), 1).states == 8 * 10**6
    assert "1,000,000 parameters" in lean.table() and "0.02 GB" in lean.table()


def test_the_update_counts_when_it_takes_more_than_the_activations():
    model = nn.Linear(1000, 1000, bias=False, device="meta")
    small, large = StepBytes(0, 100), StepBytes(0, 10**8)
    assert budget(model, small, 1, optimizer="radam").total == 24 * 10**6
    assert budget(model, small, 1, optimizer="adam").total == 20 * 10**6 + 100
    assert budget(model, large, 1, optimizer="radam").total == 120 * 10**6


@pytest.mark.parametrize("kind", ["radam", "adam"])
def test_optimisers_make_what_the_budget_says(kind):
    """As on a GPU: RAdam for all weights at once, Adam in one fused kernel."""
    model = nn.Sequential(*(nn.Linear(100, 100, bias=False) for _ in range(5)))
    classes = {"radam": torch.optim.RAdam, "adam": torch.optim.Adam}
    how = {"foreach": True} if kind == "radam" else {"fused": True}
    optimizer = classes[kind](model.parameters(), **how)
    model(torch.ones(1, 100)).sum().backward()
    for _ in range(8):  # RAdam's first steps, without second moments, are cheaper
        optimizer.step()
    with LiveBytes() as live:
        optimizer.step()
    planned = budget(model, StepBytes(0, 0), 0, optimizer=kind).update
    assert live.peak == pytest.approx(planned, rel=0.02, abs=100)


@pytest.mark.parametrize("parts", [1, 3])
def test_the_estimate_meets_what_a_real_step_allocates(parts):
    """Fake tensors and real ones of the same network: the same peak of live bytes."""

    def loss_of(images):
        torch.manual_seed(0)
        layers = [nn.Sequential(nn.Linear(64, 64), nn.SiLU()) for _ in range(parts)]
        return nn.Sequential(*layers)(torch.zeros(images * 64, 64)).square().mean()

    real = step_bytes(loss_of)
    with FakeTensorMode():
        fake = step_bytes(loss_of)
    assert fake == real and real.each > 0


@pytest.mark.parametrize("rates", [(), (1, 2)])
def test_a_generators_step_allocates_what_its_dry_run_says(rates):
    """The real network on real images, counted: the same number of live bytes."""
    config = preset(ConsistencyConfig, "laptop", precision="fp32", checkpoint_rates=rates)
    denoiser = build_denoiser(config).train()
    recipe = Recipe(config, denoiser)

    def loss_of(images):
        generator = torch.Generator().manual_seed(0)
        return recipe(denoiser, torch.zeros(images, 3, 32, 32), generator, 599).loss.mean()

    loss_of(1).backward()
    with LiveBytes() as live:
        loss_of(12).backward()
    (planned,) = dry_runs(dataclasses.replace(config, batch=12), [rates])
    assert live.peak == pytest.approx(planned.fixed + planned.activations, rel=0.02)
