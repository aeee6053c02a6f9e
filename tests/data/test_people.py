"""People: items depend on (seed, epoch, index) alone, crops keep people and proportions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from messi_lib.data import people
from messi_lib.data.people import PeopleDataset, PitchPeople, WithScenes

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "coco_people_320"

LEFT = [[2, 2, 14, 2, 14, 20, 2, 20]]  # two rectangles that overlap in x 10..14
RIGHT = [[10, 4, 30, 4, 30, 22, 10, 22]]


def store(folder: Path, sizes, outlines) -> Path:
    """Photos of noise with `sizes` (height, width) and outlines `(image id, polygons)` as COCO."""
    images = []
    for i, (height, width) in enumerate(sizes, start=1):
        noise = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
    entries = [
        {"id": n, "image_id": i, "category_id": 1, "iscrowd": 0, "segmentation": outline}
        for n, (i, outline) in enumerate(outlines)
    ]
    path = folder / "instances.json"
    categories = [{"id": 1, "name": "person"}]
    path.write_text(
        json.dumps({"images": images, "categories": categories, "annotations": entries})
    )
    return path


@pytest.fixture
def dataset(tmp_path):
    path = store(tmp_path, ((24, 40), (48, 32)), [(1, LEFT), (1, RIGHT), (2, LEFT)])
    return PeopleDataset(path, tmp_path, size=32, seed=3)


def test_items_depend_on_seed_epoch_and_index_alone(dataset):
    first = dataset.item(0, 1)
    torch.manual_seed(99)  # whatever happened before
    dataset.item(5, 0)
    before = torch.get_rng_state()
    again = dataset.item(0, 1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not torch.equal(first[0], dataset.item(1, 1)[0])
    dataset.seed = 4
    assert not torch.equal(first[0], dataset.item(0, 1)[0])


def test_item_shapes_ranges_and_ends(dataset):
    for train in (True, False):
        dataset.train = train
        image, person, ignore = dataset.item(2, 0)
        assert image.shape == (3, 32, 32) and image.dtype == torch.float32
        assert -1 <= image.min() < -0.3 and 0.3 < image.max() <= 1
        assert person.shape == ignore.shape == (1, 32, 32)
        assert person.dtype == ignore.dtype == torch.bool
    assert len(dataset) == 2
    with pytest.raises(IndexError, match="index 2.*2 items"):
        dataset.item(0, 2)


def test_letterbox_keeps_proportions_and_ignores_its_bars(tmp_path):
    """A 20 x 20 person in a 40 x 80 photo is a square again (the old code made it 10 x 20)."""
    square = [[30, 10, 50, 10, 50, 30, 30, 30]]
    path = store(tmp_path, [(40, 80)], [(1, square)])
    image, person, ignore = PeopleDataset(path, tmp_path, 40, train=False).item(0, 0)
    rows, columns = person[0].any(1).sum().item(), person[0].any(0).sum().item()
    assert rows == columns == 10
    assert ignore[0, :10].all() and ignore[0, 30:].all() and not ignore[0, 10:30].any()
    assert image[:, :7].abs().max() < 0.01  # grey
    assert torch.equal(image, PeopleDataset(path, tmp_path, 40, train=False).item(9, 0)[0])


def test_image_and_regions_move_together(tmp_path):
    """A white person on black: the region is True where the image is bright, nowhere else."""
    outline = [[20, 6, 50, 6, 50, 36, 20, 36]]
    path = store(tmp_path, [(40, 70)], [(1, outline)])
    pixels = np.zeros((40, 70, 3), np.uint8)
    pixels[6:36, 20:50] = 255
    Image.fromarray(pixels).save(tmp_path / "1.png")
    data = PeopleDataset(path, tmp_path, 48)
    for epoch in range(12):
        image, person, ignore = data.item(epoch, 0)
        bright = (image.mean(0) > 0.3) & ~ignore[0]
        differ = (bright ^ person[0]) & ~ignore[0]
        assert differ.float().mean() < 0.08  # a one-pixel seam of the resizing at most
        assert (bright & person[0]).sum() > 0.8 * bright.sum()


def test_training_window_keeps_a_person_that_fits():
    person = np.zeros((90, 200), bool)
    person[60:85, 180:198] = True  # near the corner: a centre crop loses it (post-mortem 9)
    kept, tops = 0, set()
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        top, left, side = people.training_window(generator, person)
        assert 54 <= side <= 200
        kept += top <= 60 and top + side >= 85 and left <= 180 and left + side >= 198
        tops.add(top)
        if side <= 90:
            assert 0 <= top <= 90 - side and 0 <= left <= 200 - side
    assert kept >= 180  # all but the free crops, a tenth
    assert len(tops) > 20
    centre = (200 - 90) // 2
    assert centre + 90 < 180


def test_training_window_of_a_photo_without_people_or_full_of_them():
    for region in (np.zeros((30, 50), bool), np.ones((30, 50), bool)):
        lefts = set()
        for seed in range(40):
            top, left, side = people.training_window(torch.Generator().manual_seed(seed), region)
            lefts.add(left)
            assert min(0, 50 - side) <= left <= max(0, 50 - side)
            assert min(0, 30 - side) <= top <= max(0, 30 - side)
        assert len(lefts) > 5


def test_pitch_people_are_drawn_once(tmp_path, monkeypatch):
    from messi_lib.data import pitch

    monkeypatch.setenv("MESSI_DATA", str(tmp_path))
    data = PitchPeople(3, 48, seed=1, train=False)
    scene = pitch.people_scene(1, 2, 48)
    image, person, ignore = data.item(0, 2)
    assert np.array_equal(person[0].numpy(), scene.person) and not ignore.any()
    drawn = ((image.permute(1, 2, 0) + 1) * 127.5).round().numpy().astype(np.uint8)
    assert np.array_equal(drawn, scene.image)

    monkeypatch.setattr(pitch, "people_scene", None)  # a second set must not draw
    again = PitchPeople(3, 48, seed=1)
    assert np.array_equal(again.scenes, data.scenes)
    assert torch.equal(again.item(1, 0)[0], again.item(1, 0)[0])
    with pytest.raises(TypeError):
        PitchPeople(3, 48, seed=2)  # another seed is another cache
    with pytest.raises(ValueError, match="n=0"):
        PitchPeople(0, 48)


def test_an_interrupted_or_torn_cache_is_made_again(tmp_path, monkeypatch):
    from messi_lib.data import pitch

    monkeypatch.setenv("MESSI_DATA", str(tmp_path))
    draw = pitch.people_scene

    def interrupted(seed, index, size):
        if index == 1:
            raise KeyboardInterrupt
        return draw(seed, index, size)

    monkeypatch.setattr(pitch, "people_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        PitchPeople(2, 32)
    folder = tmp_path / "cache" / "pitch_people"
    assert not list(folder.glob("*.npy")) and not list(folder.glob(".*.tmp"))
    monkeypatch.setattr(pitch, "people_scene", draw)
    whole = np.array(PitchPeople(2, 32).scenes)
    (path,) = folder.glob("*.npy")
    path.write_bytes(path.read_bytes()[:-100])
    assert np.array_equal(PitchPeople(2, 32).scenes, whole)


@pytest.mark.skipif(not REAL.exists(), reason="shared/data/coco_people_320 is absent")
def test_real_photos_make_items():
    data = PeopleDataset(REAL / "instances_person.json", REAL / "images", 64, max_people=3)
    assert 200 < len(data) < 1118
    for index in range(0, len(data), len(data) // 8):
        image, person, ignore = data.item(0, index)
        assert image.shape == (3, 64, 64) and image.std() > 0.02
        assert (person & ~ignore).float().mean() < 0.95


def test_a_pasted_person_stands_in_front(tmp_path):
    black = people.tv_tensors.Image(torch.zeros(3, 9, 9, dtype=torch.uint8))
    white = people.tv_tensors.Image(torch.full((3, 9, 9), 255, dtype=torch.uint8))
    regions = people.tv_tensors.Mask(torch.zeros(2, 9, 9, dtype=torch.bool))
    regions[1, :, :5] = True  # a crowd on the left, that the person half covers
    person = torch.zeros(9, 9, dtype=torch.bool)
    person[2:7, 2:7] = True
    image, (where, ignore) = people.paste(black, regions, white, person)
    assert torch.equal(where, person)
    assert not (ignore & person).any() and ignore[0, 0] and not ignore[0, 8]
    assert (image[:, 3:6, 3:6] == 255).all() and (image[:, 0] == 0).all()
    assert 0 < image[0, 2, 4] < 255, "the outline is soft"


def test_pasting_adds_people_and_stays_deterministic(tmp_path):
    path = store(tmp_path, ((40, 40), (48, 32)), [(2, LEFT), (2, RIGHT)])
    plain = PeopleDataset(path, tmp_path, size=32, seed=3)
    pasting = PeopleDataset(path, tmp_path, size=32, seed=3, paste=1.0)
    added = 0
    for epoch in range(12):
        assert not plain.item(epoch, 0)[1].any(), "photo 1 is empty"
        first, again = pasting.item(epoch, 0), pasting.item(epoch, 0)
        assert all(torch.equal(a, b) for a, b in zip(first, again))
        added += bool(first[1].any())
    assert added >= 3, "half of the donors are photo 2"


def test_ids_choose_the_photos(tmp_path):
    path = store(tmp_path, ((24, 40), (48, 32)), [(1, LEFT)])
    assert [p.image_id for p in PeopleDataset(path, tmp_path, 32, ids=[2]).photos] == [2]
    with pytest.raises(ValueError, match="among the 1 ids"):
        PeopleDataset(path, tmp_path, 32, ids=[7])


def test_scenes_take_their_share_of_the_items(tmp_path):
    path = store(tmp_path, ((24, 40), (48, 32)), [(1, LEFT)])
    photos = PeopleDataset(path, tmp_path, size=32, seed=3)
    scenes = PitchPeople(4, 32, seed=1)
    mixed = WithScenes(photos, scenes, 0.25)
    assert len(mixed) == 2
    drawn = [not torch.equal(mixed.item(e, 0)[0], photos.item(e, 0)[0]) for e in range(200)]
    assert 30 <= sum(drawn) <= 70  # 50 expected, 3 sigma = 18
    assert all(torch.equal(a, b) for a, b in zip(mixed.item(5, 1), mixed.item(5, 1)))
    with pytest.raises(ValueError, match="32 and 16 px"):
        WithScenes(photos, PitchPeople(4, 16, seed=1), 0.5)
    with pytest.raises(ValueError, match="share=2"):
        WithScenes(photos, scenes, 2)
