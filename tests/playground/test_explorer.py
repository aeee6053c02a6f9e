"""The sliders for noise levels, on an exact network and on a real one."""

from __future__ import annotations

import io
import xml.etree.ElementTree

import numpy as np
import pytest
import torch
from consistency.toys import GaussianDenoiser, tiny_denoiser
from PIL import Image

from messi_lib.inpainting.solvers import replacement
from messi_lib.playground.explorer import NoiseExplorer, listening, plot, trajectory
from messi_lib.runs import seed_generator


def problem(size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.linspace(-0.8, 0.8, size).expand(1, 3, size, size).clone()
    hole = torch.zeros(1, 1, size, size, dtype=torch.bool)
    hole[..., 4:12, 3:9] = True
    return image, hole


def explorer(denoiser=None) -> NoiseExplorer:
    return NoiseExplorer(denoiser or GaussianDenoiser(image_size=16), *problem())


def test_the_sliders_are_the_noise_levels():
    shown = explorer()
    shown.first.value, shown.mid.value, shown.calls.value = 40, 2.0, 2
    assert shown.levels == pytest.approx([40, 2])
    assert [call.sigma for call in shown.calls_made] == pytest.approx([40, 2])
    shown.calls.value = 5
    assert len(shown.calls_made) == 5
    assert shown.levels[0] == pytest.approx(40) and shown.levels[-1] == pytest.approx(2)
    assert sorted(shown.levels, reverse=True) == shown.levels
    shown.mid.value = 60  # not below the first: one call is left
    assert shown.levels == pytest.approx([40]) and len(shown.calls_made) == 1
    shown.mid.value, shown.calls.value = 2.0, 1
    assert shown.levels == pytest.approx([40])


def test_what_is_shown_is_what_the_solver_does():
    denoiser = tiny_denoiser()
    image, hole = problem(denoiser.image_size)
    shown = NoiseExplorer(denoiser, image, hole)
    shown.calls.value, shown.seed.value = 3, 7
    wanted = replacement(denoiser, image, hole, shown.levels, seed_generator(7, "explorer"))
    last = shown.calls_made[-1].guess.clamp(-1, 1)
    inside = hole[0, 0]
    torch.testing.assert_close(last[:, inside], wanted[0][:, inside].cpu())


def test_a_move_of_a_slider_draws_anew_and_a_pixel_needs_no_network():
    shown = explorer()
    strip, lines = shown.strip.value, shown.lines.value
    shown.seed.value = 3
    assert shown.strip.value != strip and shown.lines.value != lines
    count = len(shown.denoiser.calls)
    strip, lines = shown.strip.value, shown.lines.value
    shown.y.value, shown.x.value = 5, 11
    assert len(shown.denoiser.calls) == count
    assert shown.strip.value != strip and shown.lines.value != lines


def test_the_strip_shows_the_hole_and_every_guess_with_the_pixel_marked():
    shown = explorer()
    shown.calls.value, shown.y.value, shown.x.value = 4, 8, 6
    sheet = np.asarray(Image.open(io.BytesIO(shown.strip.value)))
    scale = 96 // 16
    assert sheet.shape == (16 * scale + 4, 5 * (16 * scale + 2) + 2, 3)
    yellow = (sheet == (255, 214, 0)).all(-1)
    for tile in range(5):
        left = 2 + tile * (16 * scale + 2)
        place = yellow[2:, left : left + 16 * scale]
        assert np.argwhere(place).mean(0) == pytest.approx((8.5 * scale - 0.5, 6.5 * scale - 0.5))
    grey = sheet[2 + 5 * scale, 2 + 4 * scale]
    assert (grey == 128).all() or (grey == 127).all()


def test_listening_hears_everything_and_lets_go():
    denoiser = GaussianDenoiser(image_size=8)
    x = torch.randn(2, 3, 8, 8)
    with listening(denoiser) as calls:
        out = denoiser(x, 3.0)
    denoiser(x, 2.0)
    (call,) = calls
    assert call.sigma == 3.0
    torch.testing.assert_close(call.given, x[0])
    torch.testing.assert_close(call.guess, out[0])
    np.testing.assert_array_equal(trajectory(calls, 2, 5), out[:1, :, 2, 5].detach())


def test_the_plot_is_svg_with_a_line_per_colour():
    values = np.array([[0.0, 0.5, -0.5], [1.5, 0.2, -0.1], [0.3, 0.3, 0.3]])
    tree = xml.etree.ElementTree.fromstring(plot(values, ["80", "<3", "0.5"]))
    lines = [node for node in tree.iter() if node.tag.endswith("polyline")]
    assert len(lines) == 3
    heights = [[float(p.split(",")[1]) for p in node.get("points").split()] for node in lines]
    assert np.argsort(heights[0]).tolist() == [1, 2, 0], "larger values lie higher"
    one = plot(values[:1], ["80"])
    assert xml.etree.ElementTree.fromstring(one) is not None
