"""The subject with its outline: coverage, collages that change nothing around the figure."""

import numpy as np
import pytest

from messi_lib.data import pitch
from messi_lib.data.cutouts import photo_cutouts, pitch_collages, pitch_cutouts
from messi_lib.images import write_png


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "data"))


def test_cutouts_show_the_scene_and_cover_the_number_ten():
    made = pitch_cutouts(6, 32, seed=3)
    assert made.shape == (6, 32, 32, 4) and made.dtype == np.uint8
    for index, cutout in enumerate(made):
        scene = pitch.subject_scene(3, index, 128)
        blocks = scene.persons[scene.number10].reshape(32, 4, 32, 4).mean((1, 3))
        assert np.abs(cutout[..., 3] / 255 - blocks).max() < 0.01
        colours = scene.image.reshape(32, 4, 32, 4, 3).mean((1, 3))
        assert np.abs(cutout[..., :3] - colours).max() <= 1
    assert np.array_equal(pitch_cutouts(6, 32, seed=3), made)
    assert not np.array_equal(pitch_cutouts(6, 32, seed=4), made)


def test_collages_are_the_photo_around_the_figure(tmp_path):
    """On photos of one colour each: nothing else may be outside the figure."""
    photos = []
    for index, colour in enumerate([(200, 40, 40), (30, 160, 220)]):
        path = tmp_path / f"{index}.png"
        write_png(np.full((60, 80, 3), colour, np.uint8), path)
        photos.append(path)
    made = pitch_collages(photos, 130, 32, seed=1)
    assert made.shape == (130, 32, 32, 4)
    counts = {(200, 40, 40): 0, (30, 160, 220): 0}
    for collage in made:
        around = collage[collage[..., 3] == 0][:, :3]
        assert (around == around[0]).all()
        counts[tuple(int(v) for v in around[0])] += 1
        figure = collage[collage[..., 3] == 255][:, :3].astype(float)
        assert len(figure) > 20 and np.abs(figure - around[0]).mean() > 10
    assert sorted(counts.values()) == [64, 66]
    first = [tuple(c[c[..., 3] == 0][0, :3].tolist()) for c in made[:12]]
    assert len(set(first)) == 2  # shuffled: neighbours do not share their photo
    assert np.array_equal(pitch_collages(photos, 130, 32, seed=1), made)


def test_photos_of_a_folder_are_covered_by_what_the_finder_finds():
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    images[2] = 0

    def finder(pixels):
        person = np.zeros((64, 64), bool)
        person[16:32, 8:24] = pixels.any()
        return person

    made = photo_cutouts(images, finder, 16)
    assert made.shape == (4, 16, 16, 4)  # nobody in the black one
    assert (made[:, 4:8, 2:6, 3] == 255).all() and made[..., 3].sum() == 4 * 16 * 255
    expected = images[0].reshape(16, 4, 16, 4, 3).mean((1, 3))
    assert np.abs(made[0, ..., :3] - expected).max() <= 1
    with pytest.raises(ValueError, match="nobody was found in 5 photos"):
        photo_cutouts(images, lambda pixels: np.zeros((64, 64), bool), 16)


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="n=0"):
        pitch_cutouts(0, 32)
    with pytest.raises(ValueError, match="unknown kit 'green': use one of"):
        pitch_cutouts(4, 32, kit="green")
    with pytest.raises(ValueError, match="no photos to set the subject into"):
        pitch_collages([], 4, 32)


def test_close_ups_show_head_and_chest_and_cut_the_rest_off_below():
    whole, near = (pitch_cutouts(12, 32, seed=3, close_ups=share) for share in (0.0, 1.0))
    for far, close in zip(whole[..., 3] > 127, near[..., 3] > 127):
        assert not far[-1].any() and close[-1].any(), "the figure goes on below"
        assert not close[0].any(), "there is room above the head"
        assert close.mean() > far.mean(), "it is larger"
    some = pitch_cutouts(40, 32, seed=3, close_ups=0.4)[:, -1, :, 3].max(1) > 127
    assert 8 <= some.sum() <= 24
    with pytest.raises(ValueError, match="close_ups=1.5: give a share from 0 to 1"):
        pitch_cutouts(4, 32, close_ups=1.5)


def test_crops_with_hardly_anybody_are_left_out():
    images = np.full((3, 64, 64, 3), 90, np.uint8)
    sizes = iter((1, 8, 40))

    def finder(pixels):
        person = np.zeros((64, 64), bool)
        side = next(sizes)
        person[:side, :side] = True
        return person

    assert len(photo_cutouts(images, finder, 16)) == 1
