"""How often the augmentation changes what, by how much, of which images; what it refuses."""

import dataclasses
import math

import pytest
import torch

from messi_lib.consistency.augment import LABELS, Augmentation

from .warps import FULL, generator, pictures

STRENGTHS = {"scale": 0.2, "rotation": 1.0, "anisotropy": 0.2, "translation": 0.125}


# ------------------------------------------------------------------ chances


def test_changes_happen_as_often_as_they_should():
    n, p = 4000, 0.3
    labels = dataclasses.replace(FULL, probability=p).draw(n, generator())
    turned = labels[:, 4] != 0
    stretched = labels[:, 5:7].any(1)
    wanted = {
        "xflip": (labels[:, 0] == 1, 0.5),
        "yflip": (labels[:, 1] == 1, p / 2),
        "scale": (labels[:, 2] != 0, p),
        "turn": (turned, p),
        "stretch": (stretched, p),
        "along the sides": (stretched & (labels[:, 6] == 0), p / 2),
        "shift": (labels[:, 7:].any(1), p),
        "scale and turn": ((labels[:, 2] != 0) & turned, p * p),
        "turn and stretch": (turned & stretched, p * p),
        "stretch and shift": (stretched & labels[:, 7:].any(1), p * p),
        "both flips": (labels[:, :2].all(1), p / 4),
    }
    for name, (happened, chance) in wanted.items():
        bound = 4 * math.sqrt(chance * (1 - chance) / n)
        assert abs(float(happened.float().mean()) - chance) < bound, name
    assert torch.equal(labels[:, 7] != 0, labels[:, 8] != 0)  # both ways or neither
    assert ((labels[:, 0] == 0) | (labels[:, 0] == 1)).all()


def test_sizes_of_changes_have_the_distributions_of_the_paper():
    p1 = Augmentation(probability=1.0)
    labels = p1.draw(4000, generator()).double()
    for column in (2, 7, 8):
        assert labels[:, column].mean().abs() < 0.07
        assert labels[:, column].std() == pytest.approx(1, abs=0.05)
    assert labels[:, 5:7].norm(dim=1).square().mean() == pytest.approx(1, abs=0.1)
    angle = torch.atan2(labels[:, 4], 1 + labels[:, 3])
    assert angle.abs().max() <= p1.rotation + 1e-6
    assert angle.std() == pytest.approx(p1.rotation / math.sqrt(3), rel=0.05)
    axis = torch.atan(labels[:, 6] / labels[:, 5])[labels[:, 6] != 0]
    assert axis.std() == pytest.approx(math.pi / math.sqrt(12), rel=0.05)
    stretch = labels[:, 5:7].norm(dim=1) * labels[:, 5].sign()
    sizes = torch.stack([labels[:, 2], labels[:, 4], stretch, labels[:, 7], labels[:, 8]])
    assert (torch.corrcoef(sizes) - torch.eye(5)).abs().max() < 0.07  # 4.4 / sqrt(4000)
    side = FULL.matrices(p1.draw(4000, generator()))[:, :, 2] / 2  # in widths
    assert side.std(0) == pytest.approx([0.125, 0.125], rel=0.05)


COLUMNS = {
    "xflip": [0], "yflip": [1], "scale": [2], "rotation": [3, 4], "anisotropy": [5, 6],
    "translation": [7, 8],
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_switching_one_change_off_clears_its_labels_and_leaves_the_others(name):
    off = False if name in ("xflip", "yflip") else 0.0
    every = dataclasses.replace(FULL, probability=0.6).draw(200, generator())
    less = dataclasses.replace(FULL, probability=0.6, **{name: off}).draw(200, generator())
    kept = [column for column in range(LABELS) if column not in COLUMNS[name]]
    assert not less[:, COLUMNS[name]].any() and every[:, COLUMNS[name]].any(0).all()
    assert torch.equal(less[:, kept], every[:, kept])


def test_people_stand_upright_by_default():
    labels = Augmentation(probability=1.0).draw(500, generator())
    assert not labels[:, 1].any()
    assert labels[:, 4].abs().max() <= math.sin(math.pi / 12) + 1e-6


def test_the_same_generator_gives_the_same_result_and_another_does_not():
    images = pictures(16, 32)
    first, again, other = (FULL(images, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[1], other[1])
    assert torch.equal(first[0], FULL.apply(images, first[1]))


# ------------------------------------------------------------------ where it runs


def test_autocast_and_gradients_do_not_matter():
    images = pictures(16, 32).requires_grad_()
    plain, _ = FULL(images, generator())
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = FULL(images, generator())
    assert torch.equal(plain, mixed) and not plain.requires_grad


def test_half_precision_images_keep_their_type():
    images = pictures(8, 16).bfloat16()
    p1 = dataclasses.replace(FULL, probability=1.0)
    half, labels = p1(images, generator())
    full, _ = p1(images.float(), generator())
    assert half.dtype == torch.bfloat16 and labels.dtype == torch.float32
    torch.testing.assert_close(half.float(), full, atol=0.01, rtol=0)


def test_an_empty_batch_stays_empty():
    out, labels = FULL(torch.zeros(0, 3, 16, 16), generator())
    assert out.shape == (0, 3, 16, 16) and labels.shape == (0, LABELS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.gpu
def test_the_gpu_agrees():
    images = pictures(32, 32)
    on_cpu, labels = FULL(images, generator())
    on_gpu, same = FULL(images.cuda(), generator())
    assert on_gpu.is_cuda and same.is_cuda and torch.equal(same.cpu(), labels)
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=5e-3, rtol=0)  # TF32 where it is on


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_probabilities_end_at_0_and_1(value):
    with pytest.raises(ValueError, match=r"^probability=.*from 0 to 1$"):
        Augmentation(probability=value)


@pytest.mark.parametrize("name", STRENGTHS)
@pytest.mark.parametrize("value", [-0.1, 4.0, math.inf, math.nan])
def test_strengths_are_small_numbers(name, value):
    with pytest.raises(ValueError, match=rf"^{name}=.*from 0 \(off\) to [13.\d]+$"):
        Augmentation(**{name: value})


@pytest.mark.parametrize("shape", [(2, 3, 16, 24), (2, 1, 16, 16), (3, 16, 16), (2, 3, 0, 0)])
@pytest.mark.parametrize("probability", [0.0, 0.5])
def test_images_of_another_shape_are_an_error(shape, probability):
    with pytest.raises(ValueError, match=r"^images of shape .*: expected \(B, 3, S, S\).*$"):
        Augmentation(probability)(torch.zeros(shape), generator())


def test_bytes_and_labels_of_another_shape_are_errors():
    with pytest.raises(ValueError, match=r"^images of type uint8: .*to_tensor first$"):
        FULL(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), generator())
    with pytest.raises(ValueError, match=r"^labels of shape \(3, 9\): expected \(2, 9\)$"):
        FULL.apply(torch.zeros(2, 3, 16, 16), torch.zeros(3, 9))
