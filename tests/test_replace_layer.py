"""`replace` with a generator that draws layers: figure, background, and nobody's neighbour."""

import numpy as np
import pytest
import torch
from consistency.toys import GaussianDenoiser, tiny_denoiser
from red_people import TWO, find_red, scene

from messi_lib.inpainting.background import fill_background
from messi_lib.inpainting.holes import distance_to, make_holes
from messi_lib.inpainting.window import cut_region
from messi_lib.replace import replace
from messi_lib.segmentation.infer import Segmentation
from messi_lib.segmentation.people import people_from

EXACT = {"detail": False, "segmenter": find_red}  # as it was drawn, without grain


class Painter(GaussianDenoiser):
    """Draws one colour with one coverage wherever it is asked, and keeps what it was told."""

    def __init__(self, cover, colour=(0.2, -0.4, 0.6)):
        super().__init__(image_size=16)
        self.channels, self.condition_channels, self.shape = 4, 4, (4, 16, 16)
        share = (cover + 1) / 2
        self.layer = torch.tensor([*(share * value for value in colour), cover])
        self.told = []

    def forward(self, x, sigma, *, condition):
        self.told.append(condition)
        return self.layer.view(1, 4, 1, 1).expand_as(x)


def red(pixels):
    return (pixels[..., 0] > 200) & (pixels[..., 1:] < 60).all(-1)


def test_a_figure_that_covers_all_fills_the_hole_with_its_colour():
    pixels = scene(*TWO)
    done = replace(pixels, denoiser=Painter(1.0), **EXACT)
    wanted = (np.array([0.2, -0.4, 0.6]) + 1) * 127.5
    inner = np.zeros_like(done.hole)
    for top, left, height, width in TWO:  # the edge of a window's cells is the hole's, not more
        inner[top : top + height, left : left + width] = True
    assert (np.abs(done.pixels[inner] - wanted) <= 1.5).all()
    assert np.array_equal(done.pixels[~done.changed], pixels[~done.changed])


def test_where_nothing_is_drawn_the_photo_goes_on():
    pixels = scene(*TWO)
    done = replace(pixels, denoiser=Painter(-1.0), **EXACT)
    assert red(pixels).any() and not red(done.pixels).any()
    assert np.array_equal(done.pixels[done.hole], fill_background(pixels, done.hole)[done.hole])
    ring = done.changed & ~done.hole
    assert (np.abs(done.pixels[ring].astype(int) - pixels[ring]) <= 1).all(), "no border"


def test_each_figure_is_told_of_its_own_hole_alone():
    """Of the other's hole it might take room, and would be cut off there."""
    apart = ((10, 20, 40, 12), (10, 48, 40, 12))  # each within the other's window
    painter = Painter(-1.0)
    done = replace(scene(*apart), denoiser=painter, steps=1, context=2.0, **EXACT)
    (told,) = painter.told
    assert len(told) == len(done.windows) == 2
    whole = torch.cat([cut_region(done.hole, window, 16) for window in done.windows])
    own = told[:, 3:] > 0
    assert (own & ~whole).sum() == 0 and (whole & ~own).any((1, 2, 3)).all()
    assert own.any((1, 2, 3)).all()
    assert not (told[:, 0] > 0.6).any(), "nobody red beside it either"


TOUCHING = ((10, 20, 40, 20), (14, 40, 40, 20))  # arm in arm; whoever is on the right is nearer


def pair(*boxes):
    """Finds each box as a person of its own."""
    return lambda pixels: Segmentation(
        find_red(pixels).person,
        find_red(pixels).score,
        [people_from(red(scene(box)), 0.0)[0] for box in boxes],
    )


def test_people_who_touch_get_a_figure_each():
    painter = Painter(-1.0)
    options = {"denoiser": painter, "segmenter": pair(*TOUCHING), "steps": 1, "detail": False}
    done = replace(scene(*TOUCHING), **options)
    (told,) = painter.told
    assert len(told) == len(done.windows) == len(done.seams) == 2
    assert not red(done.pixels).any(), "the place behind both is the photo's"
    one = replace(scene(*TOUCHING), **options, apart=False)
    assert len(one.windows) == 1


def test_whoever_stands_nearer_is_in_front():
    """The nearer figure is laid over the other where their holes overlap."""

    class TwoColours(Painter):
        def forward(self, x, sigma, *, condition):
            colours = torch.tensor([[0.9, -0.9, -0.9, 1.0], [-0.9, 0.9, -0.9, 1.0]])
            return colours[: len(x), :, None, None].expand_as(x)

    more = {"segmenter": pair(*TOUCHING), "grow": 0.1, "detail": False, "feather": 0.0, "draws": 1}
    done = replace(scene(*TOUCHING), denoiser=TwoColours(1.0), **more)
    green = done.pixels[..., 1] > done.pixels[..., 0]
    far, near = (make_holes([red(scene(box))], 0.1, 0.0)[0].full(green.shape) for box in TOUCHING)
    inner = near & (distance_to(~near) > 4)  # the rim of a figure is soft
    assert (far & inner).any() and green[inner].all()
    assert not green[far & (distance_to(near) > 4)].any()


def test_several_holes_are_people_who_touch():
    pixels = scene(*TOUCHING)
    painter = tiny_denoiser(channels=4, condition_channels=4).eval().requires_grad_(False)
    masks = [red(scene(box)) for box in TOUCHING]
    found = replace(pixels, segmenter=pair(*TOUCHING), denoiser=painter, seed=2)
    given = replace(pixels, hole=masks, denoiser=painter, seed=2)
    assert np.array_equal(found.pixels, given.pixels)
    with pytest.raises(ValueError, match="no hole at all"):
        replace(pixels, hole=[], denoiser=painter)
    with pytest.raises(ValueError, match="same size"):
        replace(pixels, hole=[masks[0], masks[1][1:]], denoiser=painter)


def test_whoever_was_there_is_never_read():
    painter = tiny_denoiser(channels=4, condition_channels=4).eval().requires_grad_(False)
    pixels = scene(*TWO)
    first = replace(pixels, denoiser=painter, segmenter=find_red, seed=3)
    other = pixels.copy()
    other[first.hole] = np.random.default_rng(0).integers(0, 256, (first.hole.sum(), 3))
    again = replace(other, hole=first.hole, denoiser=painter, seed=3, grow=0.0)
    assert np.array_equal(again.hole, first.hole)
    assert np.array_equal(again.pixels[again.hole], first.pixels[first.hole])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_candidate_is_what_its_seed_alone_makes(seed):
    painter = tiny_denoiser(channels=4, condition_channels=4).eval().requires_grad_(False)
    more = {"denoiser": painter, "segmenter": find_red}
    several = replace(scene(*TWO), seed=seed, candidates=3, **more)
    alone = replace(scene(*TWO), seed=several.seed, **more)
    assert np.array_equal(several.pixels, alone.pixels)
    assert {one.seed for one in several.candidates} == {seed, seed + 1, seed + 2}


def test_in_a_photo_without_colours_the_figure_has_none():
    grey = np.repeat(scene().mean(2, keepdims=True).astype(np.uint8), 3, 2)
    hole = np.zeros(grey.shape[:2], bool)
    hole[20:60, 40:70] = True
    done = replace(grey, hole=hole, denoiser=Painter(1.0))
    spread = done.pixels[hole].max(1).astype(int) - done.pixels[hole].min(1)
    assert spread.max() <= 2


def test_a_figure_is_better_than_none():
    """By its seam alone the place without anybody would be the best candidate."""
    drawn, empty = (replace(scene(*TWO), denoiser=Painter(c), **EXACT) for c in (1.0, -1.0))
    assert empty.badness == pytest.approx(1.0)
    assert drawn.badness == pytest.approx(1.0), "all of the edge is covered: it may be cut off"
    inner = replace(scene(*TWO), denoiser=Inside(), **EXACT)
    assert inner.badness < 0.6 < empty.badness


class Inside(Painter):
    """Covers what is two cells and more inside the hole."""

    def __init__(self):
        super().__init__(1.0)

    def forward(self, x, sigma, *, condition):
        outside = (condition[:, 3:] < 0).float()
        near = torch.nn.functional.max_pool2d(outside, 3, 1, 1) > 0
        full = super().forward(x, sigma, condition=condition)
        empty = torch.tensor([0.0, 0, 0, -1]).view(1, 4, 1, 1).expand_as(full)
        return torch.where(near, empty, full)


def test_grain_is_added_to_the_figure_alone():
    pixels = scene(*TWO)
    noise = np.random.default_rng(0).normal(0, 6, pixels.shape)
    pixels = np.where(red(pixels)[..., None], pixels, (pixels + noise).clip(0, 255))
    pixels = pixels.astype(np.uint8)
    done = replace(pixels, denoiser=Painter(-1.0), segmenter=find_red)
    assert np.array_equal(done.pixels[done.hole], fill_background(pixels, done.hole)[done.hole])
    figure = replace(pixels, denoiser=Painter(1.0), segmenter=find_red)
    assert figure.pixels[20:40, 15:25].std((0, 1)).min() > 1, "one colour, and the photo's grain"


def test_a_long_and_narrow_person_at_the_border_of_a_large_photo():
    """Nothing of 256 px a side is known of it: all that there is is measured."""
    pixels = scene(height=1300, width=400)
    hole = np.zeros(pixels.shape[:2], bool)
    hole[60:1240, :70] = True
    done = replace(pixels, hole=hole, denoiser=Painter(1.0), steps=1)
    assert done.changed[100, 10] and not done.changed[:, 300:].any()
