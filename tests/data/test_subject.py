"""Subject photos: cropped once, copies and corrupt files told, a stale cache never used."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from messi_lib.data import crops, pitch, subject
from messi_lib.data.crops import centre_crop
from messi_lib.data.subject import load_subject, pitch_subject

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "messi_photos"


def noise(seed: int, shape=(40, 60)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Four photos (one in a subfolder, one upper case), a copy and two corrupt files."""
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "messi"))
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    Image.fromarray(noise(1)).save(folder / "a.png")
    Image.fromarray(noise(2, (80, 50))).save(folder / "b.PNG")
    Image.fromarray(noise(3)).convert("CMYK").save(folder / "c.jpg")
    Image.fromarray(noise(4)).save(folder / "more" / "d.png")
    (folder / "e.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "f.jpg").write_bytes(b"no photo")
    (folder / "g.png").write_bytes((folder / "b.PNG").read_bytes()[:700])
    (folder / "notes.txt").write_text("not a photo at all")
    return folder


def names(paths) -> list[str]:
    return [Path(path).name for path in paths]


def test_everything_readable_is_loaded_and_the_rest_is_told(photos):
    images = load_subject(photos, 24)
    assert images.shape == (4, 24, 24, 3) and images.dtype == np.uint8
    assert names(images.files) == ["a.png", "b.PNG", "c.jpg", "d.png"]
    assert np.array_equal(images[0], centre_crop(noise(1), 24))
    assert np.array_equal(images[3], centre_crop(noise(4), 24))
    assert images.crops == ("centre",) * 4
    assert names(path for path, _ in images.failed) == ["f.jpg", "g.png"]
    assert all(str(photos) in reason for _, reason in images.failed)
    assert [names(pair) for pair in images.duplicates] == [["e.png", "a.png"]]
    assert images[:2].files == ()  # a slice is no longer the folder
    assert torch.from_numpy(images[[1, 3]]).shape == (2, 24, 24, 3)


def test_the_cache_is_used_until_something_changes(photos, monkeypatch):
    first = np.array(load_subject(photos, 24))
    calls = []
    real = subject.load_photo
    monkeypatch.setattr(subject, "load_photo", lambda path: calls.append(path) or real(path))
    again = load_subject(photos, 24)
    assert not calls and np.array_equal(first, again) and len(again.failed) == 2
    assert isinstance(again.base, np.memmap) or isinstance(again.base.base, np.memmap)
    load_subject(photos, 16)  # another option
    assert len(calls) == 6
    calls.clear()
    Image.fromarray(noise(5)).save(photos / "a.png")  # another content under the same name
    changed = load_subject(photos, 24)
    assert len(calls) == 7 and not changed.duplicates  # e.png is no copy any more
    assert np.array_equal(changed[0], centre_crop(noise(5), 24))
    calls.clear()
    (photos / "more" / "d.png").unlink()
    assert len(load_subject(photos, 24)) == 4 and len(calls) == 6


def test_a_half_written_cache_is_never_used(photos, monkeypatch, tmp_path):
    real = subject.load_photo

    def interrupted(path):
        if path.name == "c.jpg":
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(subject, "load_photo", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_subject(photos, 24)
    folder = tmp_path / "messi" / "cache" / "subject"
    assert not list(folder.glob("*.npy")) and not list(folder.glob(".*"))
    monkeypatch.setattr(subject, "load_photo", real)
    whole = np.array(load_subject(photos, 24))
    assert whole.shape[0] == 4 and whole[2].any()
    (record,) = folder.glob("*.json")
    record.write_text("{")  # a torn story: which photos are these?
    assert load_subject(photos, 24).files[0].endswith("a.png")
    (array,) = folder.glob("*.npy")
    array.write_bytes(array.read_bytes()[:1000])
    assert np.array_equal(load_subject(photos, 24), whole)


def test_a_finder_moves_the_crop_and_is_part_of_the_key(photos):
    def finder(pixels):
        region = np.zeros(pixels.shape[:2], bool)
        region[:20, -20:] = pixels.shape[1] == 60  # finds nobody in b.PNG
        return region

    images = load_subject(photos, 24, finder, finder_key="weights 1")
    assert images.crops == ("person", "centre", "person", "person")
    assert np.array_equal(images[0], centre_crop(noise(1)[:26, -26:], 24))
    assert not np.array_equal(images[0], load_subject(photos, 24)[0])

    def blind(pixels):
        return np.zeros(pixels.shape[:2], bool)

    other = load_subject(photos, 24, blind, finder_key="weights 2")
    assert other.crops == ("centre",) * 4
    assert load_subject(photos, 24, blind, finder_key="weights 1").crops[0] == "person"  # cached


class FaceOnTheRight:
    """Finds one face in wide photos; `key` names it as FaceFinder's does."""

    def __init__(self, key: str = "one", width: float = 8):
        self.key, self.width, self.calls = key, width, 0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.calls += 1
        right = pixels.shape[1]
        box = [right - 2 - self.width, 4, right - 2, 4 + self.width, 0.9]
        return np.array([box] if right == 60 else np.zeros((0, 5)), np.float32)


def everybody(pixels: np.ndarray) -> np.ndarray:
    return np.ones(pixels.shape[:2], bool)


def test_faces_come_first_then_people_then_the_middle(photos):
    finder = FaceOnTheRight()
    images = load_subject(photos, 24, everybody, face_finder=finder)
    assert images.crops == ("face", "person", "face", "face") and finder.calls == 4
    assert images.windows[0] == crops.face_window((50, 4, 58, 12), (40, 60), smallest=24)
    assert np.array_equal(images[0], crops.crop(noise(1), images.windows[0], 24))
    for crop, wanted in {
        "face": ("face", "centre", "face", "face"),
        "person": ("person",) * 4,
        "centre": ("centre",) * 4,
    }.items():
        chosen = load_subject(photos, 24, everybody, face_finder=finder, crop=crop)
        assert chosen.crops == wanted


def test_several_crops_of_each_photo_hold_the_face(photos):
    finder = FaceOnTheRight()
    images = load_subject(photos, 24, face_finder=finder, crops_per_photo=3)
    assert len(images) == len(images.files) == len(images.windows) == len(images.crops)
    assert names(images.files[:3]) == ["a.png"] * 3 and len(set(images.windows[:3])) == 3
    for name, image, (top, left, side) in zip(images.files, images, images.windows):
        if Path(name).name == "a.png":
            assert top <= 4 and left <= 50 and top + side >= 12 and left + side >= 58
            assert np.array_equal(image, crops.crop(noise(1), (top, left, side), 24))
    first = [images[images.files.index(file)] for file in dict.fromkeys(images.files)]
    assert np.array_equal(first, load_subject(photos, 24, face_finder=finder))
    with pytest.raises(ValueError, match="crops_per_photo=0"):
        load_subject(photos, 24, crops_per_photo=0)


def test_every_option_makes_another_cache(photos, tmp_path):
    """Faces are looked for again for each, and never for one that was there before."""
    options = [
        {},
        {"face_finder": FaceOnTheRight("other weights", 20)},
        {"crops_per_photo": 2},
        {"crops_per_photo": 2, "seed": 1},
        {"framing": crops.Framing(face_context=2)},
        {"crop": "face", "finder": everybody},
        {"finder": everybody},
        {"finder": everybody, "finder_key": "other weights"},
    ]
    for number, option in enumerate(options, 1):
        arguments = {"face_finder": FaceOnTheRight()} | option
        first = np.array(load_subject(photos, 24, **arguments))
        assert arguments["face_finder"].calls == 4
        assert np.array_equal(first, load_subject(photos, 24, **arguments))
        assert arguments["face_finder"].calls == 4
        assert len(list((tmp_path / "messi" / "cache" / "subject").glob("*.npy"))) == number
    load_subject(photos, 24, face_finder=FaceOnTheRight())
    record = json.loads(next((tmp_path / "messi").rglob("*.json")).read_text())
    assert len(record["hashes"]) == len(record["files"]) == len(record["windows"])
    assert record["options"]["size"] == 24


def test_changed_code_makes_new_crops(photos, monkeypatch):
    finder = FaceOnTheRight()
    load_subject(photos, 24, face_finder=finder)
    real = subject.file_hash

    def edited(path):
        return "edited" if Path(path).name == "crops.py" else real(path)

    monkeypatch.setattr(subject, "file_hash", edited)
    load_subject(photos, 24, face_finder=finder)
    assert finder.calls == 8
    package = Path(subject.__file__).parents[1]
    assert all((package / name).is_file() for name in subject.CROP_SOURCES)


def test_crops_without_their_finder_and_unknown_ones_are_refused(photos):
    with pytest.raises(ValueError, match="crop='face' needs a finder"):
        load_subject(photos, 24, crop="face")
    with pytest.raises(ValueError, match="crop='person' needs a finder"):
        load_subject(photos, 24, crop="person", face_finder=FaceOnTheRight())
    with pytest.raises(ValueError, match="crop='middle': use one of auto, face, person, centre"):
        load_subject(photos, 24, crop="middle")


def test_a_person_finder_is_asked_by_one_thread_at_a_time(photos):
    busy, clashes = threading.Lock(), []

    def finder(pixels):
        clashes.append(not busy.acquire(blocking=False))
        time.sleep(0.02)
        busy.release()
        return np.zeros(pixels.shape[:2], bool)

    load_subject(photos, 24, finder)
    assert clashes == [False] * 4


def test_empty_missing_and_hopeless_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "messi"))
    with pytest.raises(FileNotFoundError, match="absent"):
        load_subject(tmp_path / "absent", 16)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no photos"):
        load_subject(tmp_path / "empty", 16)
    (tmp_path / "empty" / "x.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="none of 1 photos.*can be read"):
        load_subject(tmp_path / "empty", 16)
    assert not list((tmp_path / "messi").rglob("*.npy"))


def test_a_curated_folder_gives_its_photos_to_train_on(photos, tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    (made / "splits.json").write_text(
        json.dumps({"train": [str(photos / "c.jpg")], "val": [], "test": [str(photos / "a.png")]})
    )
    with pytest.raises(ValueError, match="holds no photos"):
        subject.photos_of(made)  # a splits.json of something else
    (made / "groups.json").write_text("{}")
    assert subject.photos_of(made) == [photos / "c.jpg"]
    assert subject.photos_of(made, "test") == [photos / "a.png"]
    assert names(load_subject(made, 24).files) == ["c.jpg"]
    assert names(load_subject([made, photos / "more"], 24).files) == ["c.jpg", "d.png"]
    assert len(subject.photos_of(photos)) == 7  # any other folder: all of it
    with pytest.raises(ValueError, match="no photos in its split 'val'"):
        subject.photos_of(made, "val")
    (photos / "c.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="1 photos of .*made are gone.*c.jpg"):
        load_subject(made, 24)


def test_pitch_subject_is_drawn_once_per_kit(tmp_path, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path))
    images = pitch_subject(3, 32, seed=5)
    assert images.shape == (3, 32, 32, 3) and images.dtype == np.uint8
    assert np.array_equal(images[1], pitch.subject_scene(5, 1, 32).image)
    pink = pitch_subject(3, 32, seed=5, kit="pink")
    assert np.array_equal(pink[2], pitch.subject_scene(5, 2, 32, kit="pink").image)
    assert not np.array_equal(images, pink)
    monkeypatch.setattr(pitch, "subject_scene", None)
    assert np.array_equal(pitch_subject(3, 32, seed=5), images)
    with pytest.raises(ValueError, match="unknown kit 'green'.*pink"):
        pitch_subject(3, 32, kit="green")
    with pytest.raises(ValueError, match="n=0"):
        pitch_subject(0, 32)


@pytest.mark.skipif(not REAL.exists(), reason="shared/data/messi_photos is absent")
def test_real_photos_of_many_sizes(tmp_path, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path))
    images = load_subject(sorted(REAL.glob("*.jpg"))[:24], 32)
    assert len(images) + len(images.failed) + len(images.duplicates) == 24
    assert len(images) > 20 and images.reshape(len(images), -1).std(1).min() > 3
