"""Losses: equal to their formulas, blind to ignored pixels, defined without people."""

import math

import pytest
import torch

from messi_lib.segmentation import losses
from messi_lib.segmentation.losses import LOSSES, ring, weighted_loss

ALL = tuple((name, 1.0) for name in LOSSES)


def batch(seed: int = 0, n: int = 3, size: int = 12):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 1, size, size, generator=generator, dtype=torch.float64)
    person = torch.rand(n, 1, size, size, generator=generator) < 0.4
    ignore = torch.rand(n, 1, size, size, generator=generator) < 0.2
    return logits, person, ignore


def slow(name, logits, person, ignore):
    """Pixel by pixel, from the definitions."""
    entropy = weights = 0.0
    regions = []
    radius = max(1, round(0.01 * math.hypot(*person.shape[-2:])))
    for image in range(len(logits)):
        both = predicted = target = 0.0
        size = person.shape[-1]
        counted_person = person[image, 0] & ~ignore[image, 0]
        for y in range(size):
            for x in range(size):
                if ignore[image, 0, y, x]:
                    continue
                p = 1 / (1 + math.exp(-float(logits[image, 0, y, x])))
                t = bool(person[image, 0, y, x])
                near = counted_person[
                    max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1
                ]
                weight = 1.0
                if name == "boundary" and bool(near.any()) and not bool(near.all()):
                    weight = 5.0
                entropy -= weight * math.log(p if t else 1 - p)
                weights += weight
                both, predicted, target = both + p * t, predicted + p, target + t
        if target:
            dice = 1 - 2 * both / (predicted + target)
            regions.append(dice if name == "dice" else 1 - both / (predicted + target - both))
    if name in ("bce", "boundary"):
        return entropy / weights
    return sum(regions) / len(regions)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_to_the_definition(name):
    logits, person, ignore = batch()
    wanted = slow(name, logits, person, ignore)
    assert float(LOSSES[name](logits, person, ignore)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_prediction_reaches_zero(name):
    _, person, ignore = batch()
    logits = torch.where(person, 40.0, -40.0)
    assert float(LOSSES[name](logits, person, ignore)) == pytest.approx(0, abs=1e-6)


def test_iou_that_counts_the_intersection_twice_never_reaches_zero():
    """Post-mortem 3: the old union was pred + target."""
    _, person, ignore = batch()
    target = (person & ~ignore).double()
    old = 1 - (target * target).sum() / (target + target).sum()
    assert float(old) == pytest.approx(0.5)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_count_nowhere(name):
    logits, person, ignore = batch()
    changed_logits = torch.where(ignore, -5 * logits, logits).requires_grad_()
    changed_person = person ^ ignore
    here = LOSSES[name](logits, person, ignore)
    there = LOSSES[name](changed_logits, changed_person, ignore)
    assert float(here) == pytest.approx(float(there.detach()), rel=1e-9)
    there.backward()
    assert float(changed_logits.grad[ignore].abs().max()) == 0


def test_an_image_without_people_contributes_cross_entropy_only():
    logits, person, ignore = batch()
    empty = person.clone()
    empty[1] = False
    for name in ("dice", "iou"):
        without = LOSSES[name](logits[[0, 2]], empty[[0, 2]], ignore[[0, 2]])
        assert float(LOSSES[name](logits, empty, ignore)) == pytest.approx(float(without))
    nobody = torch.zeros_like(person)
    leaf = logits.clone().requires_grad_()
    total, values = weighted_loss(ALL, leaf, nobody, ignore)
    assert values["dice"] == values["iou"] == 0.0 and values["bce"] > 0
    total.backward()
    assert bool(torch.isfinite(leaf.grad).all())


def test_everything_ignored_is_zero_and_not_nan():
    logits, person, _ = batch()
    total, _ = weighted_loss(ALL, logits.requires_grad_(), person, torch.ones_like(person))
    total.backward()
    assert float(total.detach()) == 0 and bool(torch.isfinite(logits.grad).all())


def test_ring_lies_on_both_sides_and_not_on_the_border():
    person = torch.zeros(1, 1, 10, 10, dtype=torch.bool)
    person[..., 4:, :] = True
    found = ring(person, 1)[0, 0]
    assert found[3:5].all() and int(found.sum()) == 20


def test_boundary_weights_stress_the_outline():
    person = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    person[..., 20:44, 20:44] = True
    none = torch.zeros_like(person)
    logits = torch.where(person, 8.0, -8.0)
    at_edge, inside = logits.clone(), logits.clone()
    at_edge[..., 20, 22:42] = -8.0
    inside[..., 32, 22:42] = -8.0
    plain = losses.bce(at_edge, person, none) / losses.bce(inside, person, none)
    stressed = losses.boundary(at_edge, person, none) / losses.boundary(inside, person, none)
    assert float(plain) == pytest.approx(1.0, rel=1e-4) and 4.5 < float(stressed) < 5


def test_weighted_sum_and_small_logits():
    logits, person, ignore = batch()
    total, values = weighted_loss((("bce", 0.5), ("iou", 2.0)), logits, person, ignore)
    assert float(total) == pytest.approx(0.5 * values["bce"] + 2 * values["iou"], rel=1e-6)
    small, _ = weighted_loss((("bce", 1.0),), torch.full((3, 1, 3, 3), 0.7), person, ignore)
    full = losses.bce(torch.full((3, 1, 12, 12), 0.7), person, ignore)
    assert float(small) == pytest.approx(float(full), rel=1e-5)


@pytest.mark.parametrize(
    "terms, change, message",
    [
        ((), {}, "loss terms"),
        ((("focal", 1.0),), {}, "bce, dice, iou, boundary"),
        (ALL, {"person": torch.zeros(3, 1, 12, 12)}, "must be bool"),
        (ALL, {"ignore": torch.zeros(3, 1, 6, 6, dtype=torch.bool)}, "of one shape"),
        (ALL, {"logits": torch.zeros(2, 1, 12, 12)}, "do not fit"),
    ],
)
def test_wrong_arguments_are_refused(terms, change, message):
    logits, person, ignore = batch()
    arguments = {"logits": logits, "person": person, "ignore": ignore, **change}
    with pytest.raises(ValueError, match=message):
        weighted_loss(terms, **arguments)
