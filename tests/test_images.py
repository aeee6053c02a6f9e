"""Pixels and regions in memory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from messi_lib import images


def test_all_256_levels_survive_the_round_trip():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, 2)
    tensor = images.to_tensor(pixels)
    assert tensor.shape == (1, 3, 16, 16) and tensor.dtype == torch.float32
    assert tensor.min() == -1 and tensor.max() == 1
    assert np.array_equal(images.to_uint8(tensor)[0], pixels)
    assert np.array_equal(images.to_uint8(tensor[0]), pixels)


def test_channels_and_batch_stay_in_order():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    tensor = images.to_tensor(pixels)
    assert tensor.shape == (2, 3, 4, 5)
    assert tensor[1, 2, 3, 4] == torch.tensor(float(pixels[1, 3, 4, 2])) / 127.5 - 1


def test_to_uint8_rounds_and_clamps():
    values = torch.tensor([-3.0, -1.0, -1 + 0.6 / 127.5, -1 + 0.4 / 127.5, 1.0, 7.0])
    levels = images.to_uint8(values.view(1, 1, 6).expand(3, 1, 6))
    assert levels[0, :, 0].tolist() == [0, 0, 1, 0, 255, 255]
    with pytest.raises(ValueError, match="NaN"):
        images.to_uint8(torch.full((3, 2, 2), float("nan")))


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8)])
def test_to_tensor_refuses_other_arrays(bad):
    with pytest.raises(ValueError, match="uint8"):
        images.to_tensor(bad)


def test_resize_is_antialiased_and_stays_in_range():
    board = torch.ones(1, 3, 64, 64)
    board[..., ::2] = -1  # stripes of one pixel: without antialiasing they alias to full contrast
    small = images.resize(board, 16)
    assert small.shape == (1, 3, 16, 16) and small.abs().max() < 0.2
    edge = torch.cat([torch.full((1, 3, 8, 4), -1.0), torch.ones(1, 3, 8, 4)], 3)
    large = images.resize(edge, (20, 40))
    assert large.shape == (1, 3, 20, 40) and large.abs().max() <= 1
    assert images.resize(edge, 8) is edge


SIDES = st.integers(1, 45)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_no_pixel_of_a_region_gets_lost(height, width, new_height, new_width, seed):
    rng = np.random.default_rng(seed)
    region = np.zeros((height, width), bool)
    y, x = rng.integers(height), rng.integers(width)
    region[y, x] = True
    resized = images.resize_region(region, (new_height, new_width))
    assert resized.shape == (new_height, new_width) and resized.dtype == bool
    assert resized.any()
    rows = np.flatnonzero(resized.any(1))
    assert rows[0] <= (y + 1) * new_height / height and rows[-1] + 1 >= y * new_height / height
    assert not images.resize_region(np.zeros_like(region), (new_height, new_width)).any()


def test_resize_region_of_tensors_max_pools_down_and_repeats_up():
    region = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    region[0, 0, 1, 2] = True
    assert images.resize_region(region, 2)[0, 0].tolist() == [[False, True], [False, False]]
    larger = images.resize_region(region, 8)
    assert larger[0, 0].sum() == 4 and not larger[1].any()
    with pytest.raises(ValueError, match="bool"):
        images.resize_region(region.float(), 2)


def test_grid_places_every_image():
    levels = (10, 20, 30, 40, 50)
    tiles = torch.stack([torch.full((3, 4, 6), level / 127.5 - 1) for level in levels])
    sheet = images.grid(tiles, columns=3, pad=1, scale=2)
    assert sheet.shape == (2 * 9 + 1, 3 * 13 + 1, 3)
    assert [sheet[1, 1 + 13 * i, 0] for i in range(3)] == [10, 20, 30]
    assert [sheet[10, 1 + 13 * i, 0] for i in range(3)] == [40, 50, 255]
    assert images.grid(tiles[:1]).shape == (4 + 4, 6 + 4, 3)


def test_overlay_tints_the_region_only():
    pixels = np.full((4, 4, 3), 100, np.uint8)
    region = np.eye(4, dtype=bool)
    tinted = images.overlay(pixels, region, colour=(200, 0, 100), opacity=0.5)
    assert (tinted[region] == (150, 50, 100)).all() and (tinted[~region] == 100).all()
    assert (pixels == 100).all(), "the input stays"


def test_write_png(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    images.write_png(pixels, tmp_path / "new" / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), pixels)
    images.write_png(pixels[..., 0] > 99, tmp_path / "r.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "r.png")), (pixels[..., 0] > 99) * 255)
    assert not list(tmp_path.glob(".*"))


def test_every_level_becomes_its_float_and_no_image_is_fine():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    wanted = torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert torch.equal(images.to_tensor(levels), wanted)
    assert images.to_tensor(levels[:0]).shape == (0, 3, 16, 16)
