"""Pasting into an image of another mode: what stays, what is converted."""

import numpy as np
import pytest
from PIL import Image

from messi_lib.native import SIMPLER, as_rgb, paste


def region(height=20, width=30):
    changed = np.zeros((height, width), bool)
    changed[5:12, 8:20] = True
    return changed


@pytest.mark.parametrize(
    ("mode", "white"), [("I;16", 65535), ("I", 65535), ("F", 1.0), ("F", 255.0)]
)
def test_deep_grey_uses_its_whole_range(mode, white):
    kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    ramp = np.linspace(0, white, 600).reshape(20, 30).astype(kinds[mode])
    native = Image.fromarray(ramp)
    assert native.mode == mode
    seen = as_rgb(native)
    assert seen[0, 0].tolist() == [0, 0, 0] and seen[-1, -1].tolist() == [255, 255, 255]
    assert np.abs(seen[..., 0] - np.linspace(0, 255, 600).reshape(20, 30)).max() <= 0.51
    pasted = np.asarray(paste(native, np.full_like(seen, 255), region()))
    assert (pasted[region()] == white).all()
    assert np.array_equal(pasted[~region()], ramp[~region()])


def test_32_bit_values_beyond_16_bits_and_no_numbers():
    native = Image.fromarray(np.array([[0, 2**30, 2**31 - 1]], np.int32))
    assert as_rgb(native)[0, :, 0].tolist() == [0, 128, 255]
    broken = Image.fromarray(np.array([[np.nan, 0.5, 1.0]], np.float32))
    assert as_rgb(broken)[0, :, 0].tolist() == [0, 128, 255]
    pasted = np.asarray(paste(broken, as_rgb(broken), np.array([[False, True, False]])))
    assert np.isnan(pasted[0, 0]), "what is not new stays, whatever it is"


def test_a_full_palette_picks_the_nearest_colours_and_a_small_one_gets_new_ones():
    levels = np.repeat(np.arange(256, dtype=np.uint8), 2).reshape(32, 16)
    shades = Image.fromarray(levels).convert("P")
    changed = np.zeros((32, 16), bool)
    changed[9, 0] = True  # its grey is used by the neighbour too: all 256 entries are taken
    full = as_rgb(paste(shades, np.full((32, 16, 3), (130, 131, 132), np.uint8), changed))
    assert np.ptp(full[9, 0]) == 0 and abs(int(full[9, 0, 0]) - 131) <= 4
    assert np.array_equal(full[~changed], as_rgb(shades)[~changed])
    few = Image.fromarray(np.full((32, 16, 3), 90, np.uint8)).quantize(4)
    pasted = paste(few, np.full((32, 16, 3), (250, 20, 20), np.uint8), changed)
    assert as_rgb(pasted)[9, 0].tolist() == [250, 20, 20]
    assert (as_rgb(pasted)[~changed] == as_rgb(few)[~changed]).all()


def test_translucent_palette_entries_stay_translucent():
    image = Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).quantize(2)
    alpha = bytes([120] * 256)
    image.info["transparency"] = alpha
    before = np.asarray(image.convert("RGBA"))[..., 3]
    pasted = paste(image, np.full((20, 30, 3), 200, np.uint8), region())
    assert np.array_equal(np.asarray(pasted.convert("RGBA"))[..., 3], before)


def test_the_input_stays_and_nothing_changed_is_a_copy():
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "YCbCr"):
        native = Image.fromarray(np.full((20, 30, 3), 99, np.uint8)).convert(mode)
        before = np.asarray(native).copy()
        paste(native, np.zeros((20, 30, 3), np.uint8), region())
        assert np.array_equal(np.asarray(native), before)
        same = paste(native, np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), bool))
        assert np.array_equal(np.asarray(same), before) and same.mode == mode


def test_exotic_modes_have_a_simpler_one_that_can_be_read():
    for mode, simpler in SIMPLER.items():
        assert as_rgb(Image.new(mode, (3, 2)).convert(simpler)).shape == (2, 3, 3)
