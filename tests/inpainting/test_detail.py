"""Sharpness and grain: measured on what is known, and given to what is not."""

import cv2
import numpy as np
import pytest
import torch

from messi_lib.images import resize, to_tensor
from messi_lib.inpainting import detail
from messi_lib.inpainting.detail import (
    MAX_GRAIN,
    crisp,
    draw_grain,
    edge_blur,
    energy,
    grain_levels,
    match_detail,
    sampled,
)

ALL = np.ones((128, 128), bool)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def step(sigma, size=128, low=0.2, high=0.8):
    """A vertical edge blurred by `sigma`, grey."""
    image = np.full((size, size), low, np.float32)
    image[:, size // 2 :] = high
    return cv2.GaussianBlur(image, (0, 0), sigma)


def noise(sigma, size=128, seed=0, level=0.5):
    values = np.random.default_rng(seed).normal(level, sigma, (size, size))
    return values.astype(np.float32)


def rgb(grey):
    return np.repeat(grey[..., None], 3, 2)


@pytest.mark.parametrize("sigma", [1.0, 1.8, 3.0])
def test_the_width_of_an_edge_is_measured(sigma):
    assert edge_blur(step(sigma), ALL) == pytest.approx(sigma, rel=0.15)
    assert edge_blur(step(sigma) + noise(0.004, level=0), ALL) == pytest.approx(sigma, rel=0.25)


def test_without_an_edge_there_is_no_width():
    assert edge_blur(np.full((128, 128), 0.4, np.float32), ALL) is None
    assert edge_blur(step(1.5), np.zeros((128, 128), bool)) is None


def small_edge():
    """A disc on grass, 32 px, as a generator would draw it."""
    canvas = np.full((256, 256, 3), (70, 120, 60), np.uint8)
    cv2.circle(canvas, (128, 128), 70, (200, 60, 120), -1)
    return resize(to_tensor(canvas), 32)


def test_edges_get_steeper_than_by_bicubic_enlargement():
    patch = small_edge()
    plain, sharp = resize(patch, 256), crisp(patch, 256)
    assert sharp.shape == plain.shape and sharp.abs().max() <= 1
    widths = [
        edge_blur(((each[0].mean(0) + 1) / 2).numpy(), np.ones((256, 256), bool))
        for each in (plain, sharp)
    ]
    assert widths[1] < 0.6 * widths[0]
    # nearer to what the small picture was made of, and nowhere far from the plain enlargement
    canvas = np.full((256, 256, 3), (70, 120, 60), np.uint8)
    cv2.circle(canvas, (128, 128), 70, (200, 60, 120), -1)
    truth = to_tensor(canvas)
    errors = [(each - truth).abs().mean().item() for each in (plain, sharp)]
    assert errors[1] < 0.9 * errors[0]


def test_slow_changes_stay_slow():
    """The false contours of a shock filter: a sky must not fall into terraces."""
    ramp = torch.linspace(-0.4, 0.4, 32).view(1, 1, 1, 32).expand(1, 3, 32, 32)
    plain, sharp = resize(ramp, 256), crisp(ramp, 256)
    assert (plain - sharp).abs()[..., 12:-12].max() < 0.01
    flat = torch.full((1, 3, 32, 32), 0.3)
    assert (crisp(flat, 256) - 0.3).abs().max() < 1e-5


def test_sizes():
    patch = torch.rand(3, 32, 32) - 0.5
    assert torch.equal(crisp(patch, 32), patch[None]) and torch.equal(crisp(patch, 9), patch[None])
    assert crisp(patch, 77).shape == (1, 3, 77, 77)
    assert crisp(patch, 5000).shape[-1] == detail.LIMIT
    large = torch.rand(1, 3, 1024, 1024) - 0.5
    assert torch.equal(crisp(large, 4000), large)


def test_grain_is_measured_in_the_calm_parts():
    image = noise(0.02)
    levels = grain_levels(image, ALL)
    textured = image.copy()
    textured[:64] = noise(0.2, seed=1)[:64]
    assert grain_levels(textured, ALL) == pytest.approx(levels, rel=0.15)
    edged = image + 0.4 * (step(0.8) > 0.5)
    assert grain_levels(edged, ALL) == pytest.approx(levels, rel=0.1)
    assert max(grain_levels(np.full((128, 128), 0.5, np.float32), ALL)) < 1e-6


def test_drawn_grain_has_the_levels_asked_for():
    wanted = [0.02, 0.01, 0.005]
    grain = draw_grain(wanted, (300, 500), seeded())
    assert grain.shape == (300, 500)
    found = grain_levels(grain + 0.5, np.ones(grain.shape, bool))
    assert found == pytest.approx(wanted, rel=0.25)
    assert np.array_equal(grain, draw_grain(wanted, (300, 500), seeded()))
    assert not np.array_equal(grain, draw_grain(wanted, (300, 500), seeded(1)))
    assert not draw_grain([0.0, 0.0, 0.0], (30, 30), seeded()).any()


class TestMatch:
    def around(self):
        inside = np.zeros((128, 128), bool)
        inside[34:94, 34:94] = True
        return inside, ~inside

    def match(self, new, old, hidden=None):
        inside, outside = self.around()
        hidden = inside if hidden is None else hidden
        new = rgb(new) if new.ndim == 2 else new
        old = np.rint(rgb(old) * 255).clip(0, 255).astype(np.uint8)
        return match_detail(new.copy(), old, inside, outside, hidden, seeded()), inside

    def test_a_smooth_patch_gets_the_grain_of_the_photo(self):
        photo = noise(0.012)
        done, inside = self.match(np.full((128, 128), 0.5, np.float32), photo)
        want, have = grain_levels(photo, ~inside), grain_levels(detail.grey_of(done), inside)
        assert have[0] == pytest.approx(want[0], rel=0.2)
        assert done.mean() == pytest.approx(0.5, abs=0.005)

    def test_a_patch_that_has_it_gets_no_more(self):
        done, _ = self.match(noise(0.012, seed=3), noise(0.012))
        assert np.abs(done - rgb(noise(0.012, seed=3))).std() < 0.005

    def test_grain_is_bounded(self):
        done, inside = self.match(np.full((128, 128), 0.5, np.float32), noise(0.3))
        assert done[inside].std() < 3 * MAX_GRAIN

    def test_a_patch_that_is_too_sharp_gets_the_softness_of_the_photo(self):
        new = step(0.5)
        done, inside = self.match(new, step(2.5, low=0.1, high=0.9))
        before = edge_blur(new, inside)
        assert edge_blur(detail.grey_of(done), inside) > before + 0.8

    def test_fine_contrast_is_raised_and_bounded(self):
        new, photo = step(2.0, low=0.4, high=0.6), step(1.0, low=0.0, high=1.0)
        done, inside = self.match(new, photo)
        gain = energy(detail.grey_of(done), inside) / energy(new, inside)
        assert 1.0 < gain < detail.MAX_GAIN

    def test_a_lively_patch_on_an_even_photo_keeps_its_contrast(self):
        new = step(3.0)
        done, _ = self.match(new, np.full((128, 128), 0.5, np.float32))
        assert np.abs(done - rgb(new)).max() < 1e-4

    def test_the_hidden_pixels_are_not_read(self):
        inside, _ = self.around()
        one = noise(0.012)
        two = np.where(inside, noise(0.3, seed=5), one)
        new = np.full((128, 128), 0.5, np.float32)
        assert np.array_equal(self.match(new, one)[0], self.match(new, two)[0])

    def test_with_too_little_known_nothing_happens(self):
        new = rgb(step(1.0))
        none = np.zeros((128, 128), bool)
        old = np.zeros((128, 128, 3), np.uint8)
        assert match_detail(new, old, ALL, none, ALL, seeded()) is new


def test_a_large_photo_is_measured_in_squares():
    image = np.rint(rgb(noise(0.012, 1400)) * 255).astype(np.uint8)
    image[:, 900:] = 128
    region = np.zeros((1400, 1400), bool)
    region[:, :900] = True
    grey, part = sampled(image, region)
    assert grey.shape == part.shape and grey.size < region.size / 2 and part.any()
    whole = grain_levels(image[..., 0].astype(np.float32) / 255, region)
    assert grain_levels(grey, part) == pytest.approx(whole, rel=0.05)
