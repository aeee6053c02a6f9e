"""Labelled augmentation: what the labels say is what happened, and nothing else happened.

Positions are (x, y), right and down from the centre, in half widths: the image spans [-1, 1].
"""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from messi_lib.consistency.augment import LABEL_NAMES, LABELS, Augmentation, warp

from .warps import FULL, generator, pictures, places, smooth


def label(**values: float) -> torch.Tensor:
    """Labels (1, 9) with some of them set by name; `turn` and `stretch=(n, a)` set two each."""
    turn, (n, a) = values.pop("turn", 0.0), values.pop("stretch", (0.0, 0.0))
    values |= {"cos_rotation": math.cos(turn) - 1, "sin_rotation": math.sin(turn)}
    values |= {"cos_stretch": n * math.cos(a), "sin_stretch": n * math.sin(a)}
    return torch.tensor([[values.pop(name, 0.0) for name in LABEL_NAMES]])


def rotated(x, y, angle: float):
    """The places turned clockwise as seen on a screen, where y points down."""
    c, s = math.cos(angle), math.sin(angle)
    return c * x - s * y, s * x + c * y


def origin(x, y, *, flips=(0, 0), n=0.0, turn=0.0, stretch=(0.0, 0.0), shift=(0.0, 0.0)):
    """Where what is seen at (x, y) after the change came from: each change undone, last first."""
    x, y = x - shift[0] / 4, y - shift[1] / 4  # W/8 is a quarter of half the width
    strength, axis = stretch
    x, y = rotated(x, y, -axis)
    x, y = x / 2 ** (0.2 * strength), y * 2 ** (0.2 * strength)
    x, y = rotated(x, y, axis)
    x, y = rotated(x, y, -turn)
    x, y = x / 2 ** (0.2 * n), y / 2 ** (0.2 * n)
    return (-x if flips[0] else x), (-y if flips[1] else y)


changes = st.fixed_dictionaries({
    "flips": st.tuples(st.integers(0, 1), st.integers(0, 1)),
    "n": st.floats(-1, 1.5),
    "turn": st.floats(-math.pi, math.pi),
    "stretch": st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)),
    "shift": st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
})  # fmt: skip


def labels_of(change: dict) -> torch.Tensor:
    (xflip, yflip), (shift_x, shift_y) = change["flips"], change["shift"]
    return label(
        xflip=xflip, yflip=yflip, scale=change["n"], turn=change["turn"],
        stretch=change["stretch"], shift_x=shift_x, shift_y=shift_y,
    )  # fmt: skip


# ------------------------------------------------------------------ what must not change


def test_probability_zero_is_the_identity_and_draws_nothing():
    images, rng = pictures(5, 16), generator()
    before = rng.get_state()
    out, labels = Augmentation(probability=0.0)(images, rng)
    assert torch.equal(out, images) and torch.equal(labels, torch.zeros(5, LABELS))
    assert torch.equal(rng.get_state(), before)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_images_that_need_no_warp_are_copied_to_the_bit(size):
    images = torch.randn(64, 3, size, size, generator=generator(1))
    original = images.clone()
    out, labels = dataclasses.replace(FULL, probability=0.3)(images, generator(2))
    assert torch.equal(images, original)
    assert out.shape == images.shape and out.dtype == torch.float32 and out.isfinite().all()
    assert labels.shape == (64, LABELS) and labels.dtype == torch.float32
    seen = set()
    for image, result, row in zip(images, out, labels, strict=True):
        flips = tuple(row[:2].tolist())
        sides = [side for flip, side in zip(flips, (2, 1), strict=True) if flip]
        same = torch.equal(result, image.flip(sides))
        assert same == (not row[2:].any())
        seen.add((flips, same))
    assert len(seen) == 8  # all four flips, warped and not


def test_a_flip_mirrors_left_and_right():
    images = pictures(1, 16)
    assert torch.equal(FULL.apply(images, label(xflip=1))[0, :, 3, 0], images[0, :, 3, 15])
    assert torch.equal(FULL.apply(images, label(yflip=1))[0, :, 0, 3], images[0, :, 15, 3])


def test_every_image_of_a_batch_gets_its_own_change():
    images = pictures(24, 16)
    out, labels = dataclasses.replace(FULL, probability=0.3)(images, generator())
    assert 2 < int(labels[:, 2:].any(1).sum()) < 22
    for image, row, result in zip(images, labels, out, strict=True):
        torch.testing.assert_close(FULL.apply(image[None], row[None])[0], result)


# ------------------------------------------------------------------ what the labels say


@settings(max_examples=60, deadline=None)
@given(change=changes)
def test_a_change_shows_the_picture_at_the_places_its_labels_name(change):
    x, y = places(32)
    out = FULL.apply(smooth(x, y)[None], labels_of(change))[0]
    x, y = origin(x, y, **change)
    inside = (x.abs() < 0.9) & (y.abs() < 0.9)  # what lies further out was mirrored at the border
    assert inside.any()
    assert (out - smooth(x, y)).abs().amax(0)[inside].max() < 0.02


@settings(max_examples=60, deadline=None)
@given(change=changes)
def test_a_blob_moves_and_stretches_as_the_matrix_says(change):
    x, y = places(64)
    centre, variance = torch.tensor([0.06, -0.09]), 0.1**2
    blob = torch.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * variance))
    labels = labels_of(change)
    out = FULL.apply(blob.expand(1, 3, -1, -1), labels)[0, 0].double().clamp(min=0)
    matrix = FULL.matrices(labels)[0]
    where = matrix[:, :2] @ centre.double() + matrix[:, 2]
    near = (x - where[0]) ** 2 + (y - where[1]) ** 2 < 0.6**2  # without the blob's mirror images
    weights, offsets = out[near] / out[near].sum(), torch.stack([x[near], y[near]]).double()
    mean = offsets @ weights
    torch.testing.assert_close(mean, where, atol=0.01, rtol=0)
    offsets = offsets - mean[:, None]
    covariance = (weights * offsets) @ offsets.T
    expected = variance * matrix[:, :2] @ matrix[:, :2].T
    assert (covariance - expected).norm() < 0.08 * expected.norm()


def test_a_larger_scale_label_means_larger_content():
    x, y = places(32)
    disc = (x**2 + y**2 < 0.25).float().expand(1, 3, -1, -1)
    small, plain, large = (FULL.apply(disc, label(scale=n)).mean() for n in (-2.5, 0.0, 2.5))
    assert small == pytest.approx(float(plain) / 2, rel=0.03)  # 2^(-0.5) each way
    assert large == pytest.approx(float(plain) * 2, rel=0.03)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_a_shift_by_whole_pixels_is_one_and_mirrors_the_border(size):
    images = pictures(2, size)
    right, down = size // 8, -size // 16
    out = FULL.apply(images, label(shift_x=1.0, shift_y=-0.5).expand(2, -1))
    pad = size // 2
    wide = np.pad(images.numpy(), [(0, 0), (0, 0), (pad, pad), (pad, pad)], mode="symmetric")
    rows, columns = slice(pad - down, pad - down + size), slice(pad - right, pad - right + size)
    error = (out - torch.from_numpy(wide[:, :, rows, columns])).abs()
    # The only corner of the picture is its fold at the border.
    assert error[:, :, : size + down - 2, right + 2 :].max() < 0.01
    assert error.max() < 0.05 * 64 / size


def test_beyond_its_border_an_image_is_mirrored():
    """The same as warping a picture three times as wide that shows the mirror images."""
    images = torch.randn(3, 3, 16, 16, generator=generator())
    wide = np.pad(images.numpy(), [(0, 0), (0, 0), (16, 16), (16, 16)], mode="symmetric")
    labels = torch.cat([label(turn=0.4), label(scale=-2.0, stretch=(1.0, 0.6)), label(turn=1e-3)])
    matrices = FULL.matrices(labels)
    expected = warp(torch.from_numpy(wide), matrices)[:, :, 16:32, 16:32]
    torch.testing.assert_close(warp(images, matrices), expected, atol=1e-4, rtol=0)


def test_labels_determine_the_change_and_differ_where_the_change_does():
    labels = dataclasses.replace(FULL, probability=1.0).draw(300, generator())
    matrices = FULL.matrices(labels).flatten(1)
    near = torch.cdist(matrices, matrices) + 10 * torch.eye(300)
    assert near.min() > 1e-3  # no two drawn changes are alike
    # Stretching along an axis and squeezing along it are told apart.
    stretched, squeezed = (FULL.matrices(label(stretch=(n, 0.3)))[0] for n in (1.0, -1.0))
    product = stretched[:, :2] @ squeezed[:, :2]
    torch.testing.assert_close(product, torch.eye(2).double(), atol=1e-6, rtol=0)
    assert stretched[0, 0] > 1.1 and squeezed[0, 0] < 0.9


# ------------------------------------------------------------------ quality of the warp


@pytest.mark.parametrize(
    "name, pattern",
    [
        ("checkerboard", lambda i, j: 1.0 - 2.0 * ((i + j) % 2)),
        ("stripes", lambda i, j: torch.cos(2 * math.pi * 0.4 * j) + 0 * i),
    ],
)
def test_shrinking_fine_patterns_gives_their_mean_and_no_moire(name, pattern):
    i, j = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    images = (0.25 + 0.7 * pattern(i, j)).expand(1, 3, -1, -1).contiguous()
    labels = label(scale=-4.0, turn=0.1)
    matrix = FULL.matrices(labels)
    back = torch.linalg.inv(matrix[:, :, :2])
    grid = F.affine_grid(F.pad(back, (0, 1)).float(), [1, 3, 64, 64], align_corners=False)
    plain = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    ours = FULL.apply(images, labels)
    inner = (..., slice(20, 44), slice(20, 44))  # without the fold where the mirrored part begins
    assert ours[inner].mean() == pytest.approx(0.25, abs=0.01)
    assert plain[inner].std() > 0.2
    assert ours[inner].std() < 0.1 * plain[inner].std()


@pytest.mark.parametrize("frequency, kept", [(0.1, 0.97), (0.2, 0.95), (0.3, 0.85)])
def test_turning_keeps_more_detail_than_plain_interpolation(frequency, kept):
    """Amplitude of a wave (cycles per pixel) that is left after a turn and half a pixel's shift."""
    x, y = places(64)
    labels = label(turn=math.pi / 12, shift_x=1 / 16, shift_y=1 / 16)
    wave = torch.cos(2 * math.pi * frequency * 32 * x)
    images = wave.expand(1, 3, -1, -1).contiguous()
    matrix = FULL.matrices(labels)
    back = torch.linalg.inv(matrix[:, :, :2])
    back = torch.cat([back, -back @ matrix[:, :, 2:]], 2).float()
    grid = F.affine_grid(back, [1, 3, 64, 64], align_corners=False)
    plain = F.grid_sample(images, grid, align_corners=False)
    expected = torch.cos(2 * math.pi * frequency * 32 * grid[0, ..., 0])

    def amplitude(result: torch.Tensor) -> float:
        a, b = result[0, 0, 16:48, 16:48], expected[16:48, 16:48]
        return float((a * b).sum() / (b * b).sum())

    ours = amplitude(FULL.apply(images, labels))
    assert kept < ours < 1.06
    assert abs(1 - ours) < abs(1 - amplitude(plain))


def test_a_warp_is_linear_and_keeps_constants():
    labels = FULL.draw(200, generator(3))
    labels = labels[labels[:, 2:].any(1)][:16]
    a, b = (torch.rand(16, 3, 24, 24, generator=generator(s)) * 2 - 1 for s in (4, 5))
    together = FULL.apply(0.3 * a - 0.6 * b, labels)
    apart = 0.3 * FULL.apply(a, labels) - 0.6 * FULL.apply(b, labels)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)
    grey = torch.full((16, 3, 24, 24), -0.7)
    torch.testing.assert_close(FULL.apply(grey, labels), grey, atol=1e-5, rtol=0)


def test_far_shifts_and_strong_zooms_stay_finite_and_near_the_range():
    images = torch.sign(torch.randn(4, 3, 16, 16, generator=generator()))
    matrix = torch.tensor([[[0.1, 0.0, 7.3], [0.0, 9.0, -5.1]]]).double().expand(4, -1, -1)
    assert warp(images, matrix).abs().max() < 2
