import copy
import dataclasses

import pytest
import torch
from torch import nn

from messi_lib.consistency.recipes import OBJECTIVES, Recipe, passes, stage_of
from messi_lib.profiles import ConsistencyConfig, preset

from .toys import tiny_denoiser

CONFIG = preset(ConsistencyConfig, "smoke", steps=100)
IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def recipe_of(objective: str, student: nn.Module, **changes) -> Recipe:
    teacher = tiny_denoiser(7) if objective == "cd" else None
    return Recipe(dataclasses.replace(CONFIG, objective=objective, **changes), student, teacher)


def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_stages_follow_the_fractions():
    config = dataclasses.replace(CONFIG, edm_fraction=0.6, ect_stages=4)
    stages = [stage_of(config, step) for step in range(100)]
    assert stages[:60] == [-1] * 60 and stages[60:] == sorted(stages[60:])
    assert [stages.count(s) for s in range(4)] == [10, 10, 10, 10]
    assert stage_of(dataclasses.replace(config, edm_fraction=0.0), 0) == 0
    assert stage_of(dataclasses.replace(config, objective="edm"), 99) == -1


def test_cost_counts_the_networks_that_run():
    """Forward passes counted by watching them; a backward pass of the student counts two."""
    for objective, expected in (("edm", 3), ("ect", 4), ("ct", 4), ("ict", 4), ("cd", 6)):
        student = tiny_denoiser(0)
        recipe = recipe_of(objective, student, edm_fraction=0.0)
        forwards: list[int] = []
        networks = [student, recipe.target, recipe.teacher]
        for network in filter(None, networks):
            network.register_forward_hook(lambda *_, seen=forwards: seen.append(1))
        recipe(student, IMAGES, draw(), 50)
        assert len(forwards) + 2 == expected
        assert passes(recipe.config) == 100 * expected
    default = dataclasses.replace(CONFIG, edm_fraction=0.25)
    assert passes(default) == 25 * 3 + 75 * 4 and passes(default, 10) == 30


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_gives_losses_with_their_levels_and_a_gradient(objective):
    student = tiny_denoiser(0)
    recipe = recipe_of(objective, student)
    loss, sigma = recipe(student, IMAGES, draw(), 90)
    assert loss.shape == sigma.shape == (4,)
    assert torch.isfinite(loss).all() and (sigma > 0).all() and (sigma <= 1e3).all()
    loss.mean().backward()
    assert all(p.grad is not None for p in student.parameters())
    for slow in filter(None, (recipe.target, recipe.teacher)):
        assert all(p.grad is None for p in slow.parameters())


@pytest.mark.parametrize("objective, step, rate", [("ct", 99, None), ("cd", 0, 0.95)])
def test_the_target_follows_the_student(objective, step, rate):
    student = tiny_denoiser(0)
    recipe = recipe_of(objective, student)
    before = copy.deepcopy(recipe.target.state_dict())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 1.0
    recipe.after_step(student, step)
    if rate is None:  # mu(k) = exp(2 ln 0.95 / 150) at the end of CT's schedule
        rate = 0.95 ** (2 / 150)
    for name, value in recipe.target.state_dict().items():
        torch.testing.assert_close(value, before[name] + 1 - rate, rtol=1e-3, atol=1e-4)


def test_distillation_begins_with_its_teacher():
    student = tiny_denoiser(0)
    recipe = recipe_of("cd", student)
    for network in (student, recipe.target):
        for name, value in recipe.teacher.state_dict().items():
            assert torch.equal(value, network.state_dict()[name])


def test_grids_are_the_papers_unless_given():
    student = tiny_denoiser(0)
    assert [recipe_of("ct", student).scales(step) for step in (0, 100)] == [2, 151]
    assert [recipe_of("ict", student).scales(step) for step in (0, 100)] == [11, 1281]
    assert recipe_of("cd", student).scales(3) == 40
    assert recipe_of("ct", student, scales=(4, 8)).scales(100) == 9


def test_each_stage_has_its_dropout():
    student = tiny_denoiser(0)
    recipe = recipe_of("ect", student, dropout=0.1, ect_dropout=0.3, edm_fraction=0.5)
    seen = []
    for step in (0, 49, 50, 99):
        recipe(student, IMAGES, draw(), step)
        seen.append({m.p for m in student.modules() if isinstance(m, nn.Dropout)})
    assert seen == [{0.1}, {0.1}, {0.3}, {0.3}]


def test_bad_wishes_are_refused():
    with pytest.raises(ValueError, match="unknown objective 'ectt'.*did you mean 'ect'"):
        recipe_of("ectt", tiny_denoiser(0))
    with pytest.raises(ValueError, match="distils a diffusion model"):
        Recipe(dataclasses.replace(CONFIG, objective="cd"), tiny_denoiser(0))
    with pytest.raises(ValueError, match="none to the other"):
        Recipe(CONFIG, tiny_denoiser(0), tiny_denoiser(1))
