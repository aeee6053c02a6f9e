"""Layers: what is to be drawn, what is drawn, and how it is laid over a photo."""

import dataclasses

import numpy as np
import pytest
import torch
from consistency.toys import tiny_denoiser

from messi_lib.images import to_tensor
from messi_lib.inpainting.composite import composite
from messi_lib.inpainting.conditional import condition_of, conditional_sigmas
from messi_lib.inpainting.holes import grow
from messi_lib.inpainting.layer import (
    behind,
    draw_layer,
    empty_layer,
    flatten,
    lay_over,
    layer_of,
    parts,
    steepened,
    without_scraps,
)
from messi_lib.inpainting.train import make_batches, told, train_inpainter
from messi_lib.inpainting.weights import load_for, shipped_path, solver_for
from messi_lib.inpainting.window import choose_window
from messi_lib.profiles import LayerConfig, preset
from messi_lib.runs import Run

CONFIG = preset(LayerConfig, "smoke")
FIGURE, PLACE = (220, 40, 90), (30, 160, 60)


def cutout(side=16):
    """A figure of one colour in a place of another, with a column that it covers by half."""
    made = np.zeros((1, side, side, 4), np.uint8)
    made[..., :3] = PLACE
    made[:, 4:12, 5:10, :3], made[:, 4:12, 5:10, 3] = FIGURE, 255
    made[:, 4:12, 10, :3] = np.rint((np.add(FIGURE, PLACE)) / 2)
    made[:, 4:12, 10, 3] = 128
    return made


def plain(colour):
    return torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1) / 127.5 - 1


class TestScraps:
    def layer(self, *pieces):
        """An empty layer of 16 px with opaque grey-blue pieces (top, left, height, width)."""
        made = empty_layer(torch.zeros(1, 4, 16, 16))
        for top, left, height, width in pieces:
            made[0, :, top : top + height, left : left + width] = torch.tensor(
                [0.1, 0.2, 0.6, 1.0]
            ).view(4, 1, 1)
        return made

    def test_a_small_piece_that_hangs_in_the_air_goes_with_its_fringe(self):
        figure, both = self.layer((2, 2, 8, 4)), self.layer((2, 2, 8, 4), (12, 12, 2, 2))
        both[0, 3, 12:14, 14] = -0.4  # its soft edge
        before = both.clone()
        assert torch.equal(without_scraps(both), figure) and torch.equal(both, before)

    @pytest.mark.parametrize(
        "pieces",
        [(), ((2, 2, 8, 4),), ((2, 2, 8, 4), (11, 2, 3, 3)), ((2, 2, 8, 4), (10, 6, 1, 1))],
    )
    def test_all_else_stays(self, pieces):
        """Nobody; somebody whole; a leg of its own; what is joined by a corner."""
        layer = self.layer(*pieces)
        layer[0, 3, 5, 8:10] = -0.7  # faint coverage beside it
        assert torch.equal(without_scraps(layer), layer)

    def test_each_layer_for_itself_and_twice_is_once(self):
        torch.manual_seed(0)
        noise = torch.rand(3, 4, 16, 16) * 2 - 1
        noise[:, 3] = (noise[:, 3] - 0.4).clamp(-1, 1)
        tidy = without_scraps(noise)
        assert torch.equal(tidy, torch.cat([without_scraps(one[None]) for one in noise]))
        assert torch.equal(without_scraps(tidy), tidy)
        assert (tidy[:, 3] <= noise[:, 3]).all() and not torch.equal(tidy, noise)


class TestWanted:
    def test_without_the_figure_there_is_no_colour(self):
        layer = layer_of(cutout())
        assert layer.shape == (1, 4, 16, 16) and layer.abs().max() <= 1
        assert torch.equal(layer[..., 0], empty_layer(layer)[..., 0])

    def test_where_it_covers_all_the_colour_is_its_own(self):
        layer = layer_of(cutout())[:, :, 6, 7]
        torch.testing.assert_close(layer[:, :3], plain(FIGURE)[..., 0, 0])
        assert (layer[:, 3] == 1).all()

    def test_where_it_covers_half_the_place_does_not_tint_it(self):
        layer = layer_of(cutout())[:, :, 6, 10]
        torch.testing.assert_close(layer[:, 3], torch.tensor([2 * 128 / 255 - 1]))
        wanted = plain(FIGURE)[..., 0, 0] * 128 / 255
        torch.testing.assert_close(layer[:, :3], wanted)

    def test_over_the_place_it_is_the_photo_again_and_over_another_that(self):
        image = cutout()
        there = plain(PLACE).expand(1, 3, 16, 16)
        again = flatten(layer_of(image), there)
        assert (again - to_tensor(image[..., :3])).abs().max() < 1.5 / 127.5
        other = -there
        moved = flatten(layer_of(image), other)
        assert torch.equal(moved[..., 0], other[..., 0])
        torch.testing.assert_close(moved[:, :, 6, 7], plain(FIGURE)[..., 0, 0])

    def test_a_figure_that_covers_no_pixel_wholly_has_a_colour_too(self):
        image = cutout()
        image[..., 3] //= 2
        assert torch.isfinite(layer_of(image)).all()


class TestDrawing:
    @pytest.fixture(scope="class")
    def denoiser(self):
        made = tiny_denoiser(condition_channels=4, channels=4)
        return made.eval().requires_grad_(False)

    def problem(self):
        image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
        hole = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
        hole[..., 3:12, 4:9] = True
        return image, hole

    def draw(self, denoiser, image, hole, steps=3):
        sigmas, generator = conditional_sigmas(steps, denoiser), torch.Generator().manual_seed(1)
        return draw_layer(denoiser, image, hole, sigmas, generator)

    def test_outside_the_hole_is_nothing_and_inside_it_something(self, denoiser):
        image, hole = self.problem()
        layer = self.draw(denoiser, image, hole)
        assert layer.shape == (2, 4, 16, 16) and layer.abs().max() <= 1
        keep = ~hole.expand_as(layer)
        assert torch.equal(layer[keep], empty_layer(layer)[keep])
        assert not torch.equal(layer[~keep], empty_layer(layer)[~keep])

    def test_the_hole_is_not_read_and_what_is_around_it_is(self, denoiser):
        image, hole = self.problem()
        layer = self.draw(denoiser, image, hole)
        dirty = torch.where(hole, float("nan"), image)
        assert torch.equal(self.draw(denoiser, dirty, hole), layer)
        assert not torch.equal(self.draw(denoiser, -image, hole), layer)

    def test_others_are_refused(self):
        image, hole = self.problem()
        with pytest.raises(ValueError, match="draws no layers: train one"):
            self.draw(tiny_denoiser(condition_channels=4), image, hole)

    def test_behind_the_hole_the_photo_goes_on(self):
        image = torch.linspace(-0.5, 0.5, 16).view(1, 1, 1, 16).expand(2, 3, 16, 16).clone()
        _, hole = self.problem()
        filled = behind(torch.where(hole, float("nan"), image), hole)
        keep = ~hole.expand_as(image)
        assert torch.equal(filled[keep], image[keep])
        assert (filled - image).abs().max() < 0.35, "grey would be 0.5 off"

    def test_weights_say_what_they_are(self, denoiser, tmp_path):
        from messi_lib.consistency.train import export_denoiser

        path = tmp_path / "layers.safetensors"
        export_denoiser(path, denoiser.config, denoiser.state_dict(), {})
        loaded = load_for("", path)
        assert (loaded.channels, solver_for(loaded)) == (4, "layer")
        with pytest.raises(ValueError, match="layers.safetensors: conditional needs"):
            load_for("conditional", path)

    def test_every_solver_has_weights_that_ship(self):
        names = {solver: shipped_path(solver).name for solver in ("", "conditional", "cm4ir")}
        assert names[""] == shipped_path("layer").name == "layer.safetensors"
        assert len(set(names.values())) == 3
        assert load_for().channels == load_for("layer").channels == 4


class TestOver:
    def test_colours_and_coverage_come_apart_again(self):
        colours, cover = parts(layer_of(cutout()))
        assert colours.shape == (1, 3, 16, 16) and cover.shape == (1, 1, 16, 16)
        wanted = plain(FIGURE).expand_as(colours)
        assert (colours - wanted).abs().max() < 2 / 127.5, "beyond the outline they go on"
        assert torch.equal(cover > 0, torch.from_numpy(cutout()[..., 3] >= 128)[:, None])

    def test_nothing_comes_apart_as_nothing(self):
        _, cover = parts(empty_layer(torch.ones(1, 4, 8, 8)))
        assert (cover == -1).all()

    def test_an_outline_is_steeper_where_it_was_enlarged_and_stays_where_it_is(self):
        ramp = np.linspace(-1, 1, 201, dtype=np.float32)
        before = steepened(ramp, 1)
        assert np.allclose(before, (ramp + 1) / 2)
        assert np.array_equal(steepened(ramp, 0.3), before), "reduced: it is as sharp as it can be"
        for scale in (2, 5, 100):
            after = steepened(ramp, scale)
            assert np.array_equal(after > 0.5, before > 0.5) and (np.diff(after) >= 0).all()
            soft = (after > 0) & (after < 1)
            assert soft.sum() == pytest.approx(200 / min(scale, 8), abs=2)

    def test_it_is_mixed_in_linear_light(self):
        black, white = np.zeros((1, 3, 3), np.float32), np.ones((1, 3, 3), np.float32)
        cover = np.array([[0.0, 0.5, 1.0]], np.float32)
        mixed = np.rint(255 * lay_over(white, cover, black))
        assert mixed[0, :, 0].tolist() == [0, 188, 255]

    def photo(self):
        pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
        hole = np.zeros((50, 60), bool)
        hole[10:40, 20:36] = True
        background = np.where(hole[..., None], np.uint8(77), pixels)
        return pixels, hole, background, choose_window(hole, 1.3, 2)

    def test_an_empty_layer_shows_the_background(self):
        pixels, hole, background, window = self.photo()
        empty = empty_layer(torch.ones(1, 4, 16, 16))
        result, changed = composite(pixels, empty, window, hole, 2, background=background)
        assert np.array_equal(result[hole], background[hole])
        assert np.array_equal(changed, grow(hole, 2))
        assert np.array_equal(result[~changed], pixels[~changed])
        assert (np.abs(result.astype(int) - pixels)[changed & ~hole] <= 1).all(), "no new border"

    def test_a_full_layer_hides_it(self):
        pixels, hole, background, window = self.photo()
        full = torch.cat([plain(FIGURE), torch.ones(1, 1, 1, 1)], 1).expand(1, 4, 16, 16)
        result, _ = composite(pixels, full, window, hole, 0, background=background)
        assert (np.abs(result[hole].astype(int) - FIGURE) <= 1).all()

    def test_without_a_background_it_is_refused(self):
        pixels, hole, _, window = self.photo()
        with pytest.raises(ValueError, match="a layer needs a background"):
            composite(pixels, torch.zeros(1, 4, 16, 16), window, hole, 2)


class TestTraining:
    def images(self, n):
        rng = np.random.default_rng(0)
        made = cutout().repeat(n, 0)
        place = made[..., 3] == 0
        made[..., :3] = np.where(
            place[..., None], rng.integers(30, 226, (n, 1, 1, 3)), made[..., :3]
        )
        return made

    def test_a_batch_is_layers_photos_and_holes_around_the_figure(self):
        images = self.images(16)
        for step in range(4):
            wanted, shown, hole = make_batches(CONFIG, images)(step)
            assert wanted.shape == (8, 4, 16, 16) and shown.shape == (8, 3, 16, 16)
            assert not ((wanted[:, 3:] > -1) & ~hole).any(), "all of the figure is in the hole"
            kept = (wanted[:, 3:] == -1).expand_as(shown)
            assert (flatten(wanted, shown) - shown)[kept].abs().max() == 0
            clean, condition = told((wanted, shown, hole))
            assert torch.equal(clean, wanted)
            assert torch.equal(condition["condition"], condition_of(shown, hole))

    def test_it_trains_and_shows_the_figure_in_its_hole(self, tmp_path):
        config = dataclasses.replace(CONFIG, sample_every=12)
        run = Run("l", config, folder=tmp_path)
        result = train_inpainter(run, config, self.images(16), quiet=True)
        assert result.step == 12 and (run.samples / "step-00000012.png").is_file()
        assert solver_for(load_for("", run.folder / "generator.safetensors")) == "layer"

    def test_other_numbers_of_channels_are_refused(self, tmp_path):
        config = dataclasses.replace(CONFIG, channels=2)
        with pytest.raises(ValueError, match="channels=2: messi train layer has 4"):
            train_inpainter(Run("l", config, folder=tmp_path), config, self.images(16))
