"""Large photos, crowds, strange inputs, real photos: memory, time, and exactness."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from consistency.toys import GaussianDenoiser
from PIL import Image
from red_people import find_red, save, scene, tools_of_16

from messi_lib.images import load_photo, save_photo
from messi_lib.inpainting.holes import fill
from messi_lib.replace import replace, replace_folder
from messi_lib.segmentation.infer import Segmentation
from messi_lib.segmentation.people import people_from

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "coco_open_full" / "images"

BIG = r"""
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from consistency.toys import GaussianDenoiser
from messi_lib.replace import replace_folder
from messi_lib.segmentation.infer import Segmentation, Segmenter
from messi_lib.segmentation.people import people_from

segmenter = Segmenter(mirror=True)

def finder(pixels):
    segmenter(pixels)  # takes its memory, whatever it finds
    person = np.zeros(pixels.shape[:2], bool)
    height, width = person.shape
    person[height // 4 : 3 * height // 4, width // 3 : width // 2] = True
    return Segmentation(person, person.astype(np.float32), people_from(person, 0.0))

denoiser = GaussianDenoiser(image_size=64)
folder = sys.argv[2]
replace_folder([folder + "/big.jpg"], folder + "/out", segmenter=finder, denoiser=denoiser)
# Not ru_maxrss: that one starts with the memory of the process that forked.
status = open("/proc/self/status").read().split("VmHWM:")[1]
print(json.dumps({"peak": int(status.split()[0]) / 2**20}))
"""


@pytest.mark.slow
def test_24_megapixels_stay_within_memory(tmp_path):
    """The whole process, models included."""
    small = Image.fromarray(scene(height=400, width=600))
    big = small.resize((6000, 4000), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(0).normal(0, 3, (4000, 6000, 1)).astype(np.int16)
    pixels = (np.asarray(big) + grain).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "big.jpg", quality=92)
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", BIG, here, str(tmp_path)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["peak"] < 2.5, found


def test_300_people(tmp_path):
    boxes = [(8 + 48 * i, 8 + 48 * j, 24, 12) for i in range(15) for j in range(20)]
    pixels = scene(*boxes, height=740, width=980)
    (entry,) = replace_folder(
        [save(tmp_path / "crowd.png", pixels)], tmp_path / "out", min_area=0.0, steps=1,
        **tools_of_16(),
    )  # fmt: skip
    assert entry["people"] == len(entry["chosen"]) == len(entry["seams"]) == 300
    result = load_photo(entry["output"]).pixels
    keep = np.asarray(Image.open(entry["hole"])) == 0
    assert np.array_equal(result[keep], pixels[keep]) and not find_red(result).person.any()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2)])
def test_tiny_photos_that_are_all_person(size, tmp_path):
    photo = save(tmp_path / "a.png", np.full((*size, 3), (255, 0, 0), np.uint8))
    (entry,) = replace_folder([photo], tmp_path / "out", page=True, candidates=2, **tools_of_16())
    assert entry["chosen"] == [1] and Image.open(entry["output"]).size == size[::-1]
    assert any("whole photo" in note for note in entry["warnings"])


@pytest.mark.parametrize("box", [(0, 0, 40, 20), (50, 100, 40, 20), (0, 50, 90, 20)])
def test_a_person_at_the_border(box):
    pixels = scene(box)
    for blend in ("feather", "poisson"):
        done = replace(pixels, blend=blend, **tools_of_16())
        assert not find_red(done.pixels).person.any()
        assert np.array_equal(done.pixels[~done.changed], pixels[~done.changed])


def test_what_cannot_be_a_photo(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "nothing.jpg").write_bytes(b"")
    save(tmp_path / "in" / "bomb.png", np.zeros((200, 200), np.uint8))
    save(tmp_path / "in" / "good.png", scene((10, 10, 20, 10), height=40, width=40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    report = replace_folder([tmp_path / "in"], tmp_path / "out", **tools_of_16())
    errors = {Path(e["photo"]).name: e["error"] for e in report}
    assert "too many pixels" in errors["bomb.png"] and "0 bytes" in errors["nothing.jpg"]
    assert errors["good.png"] is None


def test_filling_equals_scipy():
    from scipy import ndimage

    rng = np.random.default_rng(0)
    for share in (0.4, 0.55, 0.7):
        region = rng.random((60, 70)) < share
        assert np.array_equal(fill(region), ndimage.binary_fill_holes(region))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL.parent.name} absent")
@pytest.mark.parametrize(
    ("blend", "every"),
    [("feather", 8), ("poisson", 8), pytest.param("feather", 1, marks=pytest.mark.slow)],
)
def test_real_photos_are_bit_identical_outside(tmp_path, blend, every):
    """In their own mode, as PNG."""
    denoiser = GaussianDenoiser(image_size=32)
    for path in sorted(REAL.iterdir())[::every]:
        photo = load_photo(path)
        height, width = photo.pixels.shape[:2]
        person = np.zeros((height, width), bool)
        person[height // 5 : -1, width // 3 : width // 2] = True
        found = Segmentation(person, person.astype(np.float32), people_from(person))
        done = replace(
            photo, segmenter=lambda _, f=found: f, denoiser=denoiser, steps=1, blend=blend
        )
        save_photo(photo, done.pixels, done.changed, tmp_path / "o.png", format="png")
        with Image.open(tmp_path / "o.png") as result:
            assert result.mode == photo.mode
            before, after = np.asarray(photo.native), np.asarray(result)
        assert np.array_equal(before[~done.changed], after[~done.changed]), path.name
        assert (before != after).reshape(height, width, -1).any(2)[done.hole].mean() > 0.5
