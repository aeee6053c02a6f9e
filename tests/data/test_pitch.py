"""The procedural world: deterministic, the same scene at every size, with exact masks."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from messi_lib.data import pitch


@pytest.fixture(scope="module")
def crowd() -> list[pitch.Scene]:
    return [pitch.people_scene(3, i, 96) for i in range(60)]


@pytest.mark.parametrize("make", [pitch.people_scene, pitch.subject_scene])
def test_same_seed_and_index_give_the_same_scene_in_any_order(make):
    first = [make(7, i, 64) for i in (0, 1, 2)]
    again = [make(7, i, 64) for i in (2, 0, 1)]
    for i, scene in zip((2, 0, 1), again):
        assert np.array_equal(scene.image, first[i].image)
        assert len(scene.persons) == len(first[i].persons)
        assert all(np.array_equal(a, b) for a, b in zip(scene.persons, first[i].persons))
        assert scene.number10 == first[i].number10
    assert not np.array_equal(first[0].image, first[1].image)
    assert not np.array_equal(first[0].image, make(8, 0, 64).image)


@pytest.mark.parametrize("make", [pitch.people_scene, pitch.subject_scene])
def test_the_scene_does_not_depend_on_the_resolution(make):
    gaps, both, either = [], 0, 0
    for i in range(12):
        small, large = make(1, i, 128), make(1, i, 256)
        shrunk = cv2.resize(large.image, (128, 128), interpolation=cv2.INTER_AREA)
        gaps.append(np.abs(shrunk.astype(float) - small.image).mean())
        half = cv2.resize(large.person.astype(np.float32), (128, 128),
                          interpolation=cv2.INTER_AREA) > 0.49
        both += (half & small.person).sum()
        either += (half | small.person).sum()
        assert len(large.persons) == len(small.persons)
        assert large.number10 == small.number10
    assert np.mean(gaps) < 4.5 and max(gaps) < 8
    assert both / either > 0.93


def test_masks_are_disjoint_nonempty_bool_frames(crowd):
    for scene in crowd:
        assert scene.image.dtype == np.uint8 and scene.image.shape == (96, 96, 3)
        total = np.zeros((96, 96), int)
        for mask in scene.persons:
            assert mask.dtype == bool and mask.shape == (96, 96) and mask.any()
            total += mask
        assert total.max(initial=0) <= 1
        assert np.array_equal(total > 0, scene.person)


def test_crowds_vary_in_number_and_some_scenes_are_empty(crowd):
    counts = {len(scene.persons) for scene in crowd}
    assert 0 in counts and max(counts) <= 6 and len(counts) >= 4
    assert all(len(pitch.people_scene(3, i, 32, max_people=2).persons) <= 2 for i in range(12))
    assert not pitch.people_scene(3, 1, 32, max_people=0).persons


def test_the_number_ten_is_indexed(crowd):
    tens = [scene.number10 for scene in crowd]
    assert any(ten is not None for ten in tens) and None in tens
    assert all(ten is None or 0 <= ten < len(s.persons) for ten, s in zip(tens, crowd))


def test_the_subject_is_whole_centred_and_tall():
    heights = []
    for i in range(40):
        scene = pitch.subject_scene(5, i, 64)
        rows, cols = np.nonzero(scene.persons[scene.number10])
        assert rows.min() > 0 and rows.max() < 63 and cols.min() > 0 and cols.max() < 63
        assert abs((cols.min() + cols.max()) / 2 - 31.5) < 6
        heights.append((np.ptp(rows) + 1) / 64)
    assert np.mean([0.60 <= h <= 0.90 for h in heights]) > 0.85


def _torso(kit: str) -> np.ndarray:
    """Mean RGB of the middle of the subject's trunk over some photos."""
    found = []
    for i in range(8):
        scene = pitch.subject_scene(2, i, 64, kit=kit)
        mask = scene.persons[scene.number10]
        rows, cols = np.nonzero(mask)
        top, tall = rows.min(), np.ptp(rows)
        trunk = mask.copy()
        trunk[:top + int(0.22 * tall)] = False
        trunk[top + int(0.42 * tall):] = False
        found.append(scene.image[trunk].mean(0))
    return np.mean(found, 0)


def test_kits_differ_in_the_torso():
    colours = {kit: _torso(kit) for kit in pitch.KITS}
    for a in pitch.KITS:
        for b in pitch.KITS:
            assert a == b or np.abs(colours[a] - colours[b]).max() > 30
    red, green, blue = colours["pink"]
    assert red > blue > green
    assert colours["sky"][2] > colours["sky"][0]
    assert colours["blaugrana"].mean() < colours["sky"].mean() - 30


def test_every_pose_and_background_occurs(monkeypatch):
    poses, places = set(), set()

    def spy(stage, actors, *rest):
        places.add(stage.name)
        poses.update(actor.pose.name for actor in actors)

    monkeypatch.setattr(pitch, "_render", spy)
    for i in range(150):
        pitch.people_scene(0, i, 32)
        pitch.subject_scene(0, i, 32)
    assert poses == set(pitch.POSES)
    assert places == set(pitch.BACKGROUNDS)


def test_coco_file_holds_the_masks_bit_for_bit(tmp_path):
    from pycocotools.coco import COCO

    path = pitch.write_people(tmp_path / "set", 8, size=64, seed=4)
    coco = COCO(str(path))
    assert coco.loadCats(1)[0]["name"] == "person"
    assert "CC0" in json.loads(path.read_text())["licenses"][0]["name"]
    for i in range(8):
        scene = pitch.people_scene(4, i, 64)
        entry = coco.loadImgs(i + 1)[0]
        stored = cv2.imread(str(path.parent / "images" / entry["file_name"]))[..., ::-1]
        assert np.array_equal(stored, scene.image)
        notes = coco.loadAnns(coco.getAnnIds(imgIds=i + 1))
        assert len(notes) == len(scene.persons)
        for note, mask in zip(notes, scene.persons):
            assert np.array_equal(coco.annToMask(note).astype(bool), mask)
            rows, cols = np.nonzero(mask)
            assert note["area"] == mask.sum() and note["iscrowd"] == 0
            assert note["bbox"] == [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1]


def test_subject_folder(tmp_path):
    out = pitch.write_subject(tmp_path / "ten", 3, size=32, seed=1, kit="pink")
    assert sorted(p.name for p in out.iterdir()) == ["000001.png", "000002.png", "000003.png"]
    stored = cv2.imread(str(out / "000002.png"))[..., ::-1]
    assert np.array_equal(stored, pitch.subject_scene(1, 1, 32, kit="pink").image)


@pytest.mark.parametrize("call, word", [
    (lambda out: pitch.people_scene(0, 0, 15), "size"),
    (lambda out: pitch.subject_scene(0, 0, 1025), "size"),
    (lambda out: pitch.people_scene(-1, 0, 32), "seed"),
    (lambda out: pitch.people_scene(0, -1, 32), "index"),
    (lambda out: pitch.people_scene(0, 0, 32, max_people=-1), "max_people"),
    (lambda out: pitch.people_scene(0, 0, 32, max_people=201), "max_people"),
    (lambda out: pitch.subject_scene(0, 0, 32, kit="green"), "blaugrana"),
    (lambda out: pitch.write_people(out, 0), "at least 1"),
    (lambda out: pitch.write_people(out, 1, size=8), "size"),
    (lambda out: pitch.write_subject(out, 1, kit="green"), "green"),
])
def test_bad_arguments_say_what_is_wrong(tmp_path, call, word):
    with pytest.raises(ValueError, match=word):
        call(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("write", [pitch.write_people, pitch.write_subject])
def test_a_full_folder_is_refused_by_name(tmp_path, write):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("keep")
    with pytest.raises(ValueError, match="mine"):
        write(tmp_path / "mine", 1, size=32)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["note.txt"]
