"""Augmentation: image and regions move together, colours stay in range, equal seeds agree."""

import pytest
import torch

from messi_lib.segmentation.augment import augment, blur_and_noise, colours, mirror_and_zoom


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int = 8, size: int = 48):
    person = torch.zeros(n, 1, size, size, dtype=torch.bool)
    person[..., 12:34, 8:20] = True
    ignore = torch.zeros_like(person)
    ignore[..., :, 40:] = True
    image = torch.where(person, 0.8, -0.6).repeat(1, 3, 1, 1)
    return image, person, ignore


def test_equal_seeds_give_equal_batches_and_others_do_not():
    first, again, other = (augment(*batch(), generator(seed)) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[1], other[1])


def test_shapes_types_and_range():
    image, person, ignore = augment(*batch(), generator())
    assert image.shape == (8, 3, 48, 48) and image.dtype == torch.float32
    assert person.dtype == ignore.dtype == torch.bool and person.shape == (8, 1, 48, 48)
    assert float(image.min()) >= -1 and float(image.max()) <= 1


def test_regions_follow_the_image():
    image, person, ignore = batch(64)
    image[:, 1:2] = ignore.float()
    warped, moved, ignored = mirror_and_zoom(image, person, ignore, generator())
    bright = warped[:, :1] > 0.1
    assert float((bright & moved).sum() / (bright | moved).sum()) > 0.99
    # ignore grows by interpolation, never shrinks: no pixel of it is trained on
    assert torch.equal(ignored, warped[:, 1:2] > 0)


def test_half_is_mirrored_and_sizes_vary_within_their_bounds():
    image, person, ignore = batch(200)
    columns = torch.linspace(-1, 1, 48).view(1, 1, 1, 48).expand(200, 3, 48, 48)
    warped, moved, _ = mirror_and_zoom(columns, person, ignore, generator())
    mirrored = (warped[:, 0, 24, 25] < warped[:, 0, 24, 22]).float().mean()
    assert 0.4 < float(mirrored) < 0.6
    areas = moved.flatten(1).sum(1) / person[0].sum()
    assert float(areas.max()) > 1.5 and float(areas.min()) < 0.7


def test_proportions_are_kept():
    """A circle stays a circle: as wide as high wherever it lies wholly inside."""
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    circle = ((rows - 48) ** 2 + (columns - 48) ** 2 < 20**2)[None, None].repeat(32, 1, 1, 1)
    image = circle.float().repeat(1, 3, 1, 1)
    _, moved, _ = mirror_and_zoom(image, circle, torch.zeros_like(circle), generator())
    checked = 0
    for one in moved[:, 0]:
        border = one[0].any() or one[-1].any() or one[:, 0].any() or one[:, -1].any()
        if not border:
            checked += 1
            assert abs(int(one.any(0).sum()) - int(one.any(1).sum())) <= 1
    assert checked > 10


def test_colours_change_light_and_reach_greyscale():
    image = torch.rand(64, 3, 8, 8, generator=generator(3)) * 2 - 1
    changed = colours(image, generator())
    spread = (changed.amax(1) - changed.amin(1)).flatten(1).mean(1)
    assert 3 <= int((spread < 1e-5).sum()) <= 20, "about 15% are grey"
    means = changed.flatten(1).mean(1)
    assert float(means.std()) > 0.1 and float(changed.abs().max()) <= 1


def test_blur_keeps_flat_images_and_noise_has_no_bias():
    flat = torch.full((64, 3, 32, 32), 0.25)
    changed = blur_and_noise(flat, generator())
    noise = (changed - flat).flatten(1).std(1)
    assert int((noise < 1e-6).sum()) > 10 and 0.02 < float(noise.max()) < 0.13
    assert float((changed - flat).mean()) == pytest.approx(0, abs=2e-3)


def test_blur_lowers_the_contrast_of_fine_detail_in_some_images_only():
    stripes = (torch.arange(32) % 2 * 1.0 - 0.5).view(1, 1, 1, 32).expand(64, 3, 32, 32)
    kept = blur_and_noise(stripes, generator())[..., 4:-4].flatten(1).std(1) / 0.5
    assert int((kept < 0.6).sum()) > 8 and int((kept > 0.95).sum()) > 24
