"""Quality measures: each reacts to its flaw and to nothing else, and works on any photo."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from messi_lib.data import quality
from messi_lib.data.pitch import subject_scene
from messi_lib.data.quality import Limits, Measures, measure, odd_ones_out, reasons_of
from messi_lib.data.text_lines import text_lines, text_share


@pytest.fixture(scope="module")
def scene():
    return subject_scene(5, 1, 384).image


def enlarged(pixels: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def captioned(pixels: np.ndarray, text: str, at: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(pixels)
    font = ImageFont.load_default(28)
    ImageDraw.Draw(image).text(at, text, font=font, fill=(255, 255, 255))
    return np.asarray(image)


def drawing() -> np.ndarray:
    """A flag, a sun and a face: 5 colours with sharp borders."""
    image = Image.new("RGB", (300, 240), (90, 160, 230))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 150, 300, 240), fill=(60, 140, 60))
    draw.ellipse((90, 50, 210, 190), fill=(240, 200, 160), outline=(0, 0, 0), width=5)
    draw.ellipse((230, 10, 290, 70), fill=(250, 220, 60))
    return np.asarray(image)


def test_sharpness_falls_with_blur_and_hardly_changes_with_size(scene):
    sharp = quality.sharpness(scene)
    blurs = [quality.sharpness(cv2.GaussianBlur(scene, (0, 0), sigma)) for sigma in (1, 2, 4)]
    assert sharp > 3 * blurs[0] and blurs[0] > 2 * blurs[1] > 4 * blurs[2]
    assert 0.5 < quality.sharpness(enlarged(scene, 2)) / sharp < 2
    assert blurs[2] < Limits.sharpness < sharp
    portrait = cv2.GaussianBlur(scene, (0, 0), 8)
    portrait[100:300, 100:300] = scene[100:300, 100:300]
    assert quality.sharpness(portrait) > 0.4 * sharp  # the background may be out of focus


def test_detail_is_the_number_of_pixels_unless_they_were_made_up(scene):
    assert quality.detail(scene) == scene.shape[0] * scene.shape[1]
    tiny = cv2.resize(scene, (96, 96), interpolation=cv2.INTER_AREA)
    assert quality.detail(enlarged(tiny, 6)) < 0.7 * 576**2
    soft = cv2.GaussianBlur(scene, (0, 0), 6)
    assert quality.detail(soft) < 0.3 * soft.shape[0] * soft.shape[1]


def test_a_drawing_has_few_colours(scene):
    assert quality.drawn_share(drawing()) > 0.99
    noisy = np.asarray(Image.fromarray(drawing()).resize((150, 120)))
    assert quality.drawn_share(noisy) > Limits.drawn_share
    assert quality.drawn_share(np.zeros((50, 50, 3), np.uint8)) == 1
    random = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    assert quality.drawn_share(random) < 0.05
    backdrop = np.full((200, 300, 3), 240, np.uint8)
    backdrop[50:140, 100:190] = random
    assert quality.drawn_share(backdrop) < 0.1  # the plain ground is not counted


def test_text_is_found_where_it_is(scene):
    scene = (scene * 0.5).astype(np.uint8)  # white letters need a darker ground
    before = text_share(scene)
    photo = captioned(scene, "BREAKING NEWS", (60, 30))
    boxes = text_lines(photo)
    y0, x0, y1, x1 = max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    assert 25 <= y0 < y1 <= 70 and 50 <= x0 < 80 and 240 < x1 < 340
    assert text_share(photo) > max(Limits.text_share, before)
    assert text_share(captioned(scene, "NO", (60, 30))) == before  # two letters are no line
    dark = 255 - captioned(np.zeros((200, 400, 3), np.uint8), "dark on white", (20, 80))
    assert 0.02 < text_share(dark) < 0.3
    assert text_share(enlarged(dark, 2)) == pytest.approx(text_share(dark), rel=0.3)


def test_text_is_looked_for_in_any_photo():
    blades = np.zeros((512, 512, 3), np.uint8)
    blades[::12, ::3] = 255
    blades = cv2.dilate(blades, np.ones((9, 1), np.uint8))
    assert 0 <= text_share(blades) <= 1
    for shape in ((1, 1), (1, 700), (700, 1)):
        assert text_share(np.full((*shape, 3), 99, np.uint8)) == 0


def test_faces_are_counted_and_compared():
    photo = np.zeros((200, 400, 3), np.uint8)
    boxes = np.array([[10, 10, 30, 40, 0.9], [100, 20, 160, 100, 0.7]], np.float32)
    found = measure(photo, boxes)
    assert (found.faces, found.face_height, found.second_face) == (2, 0.4, 30 / 80)
    none = measure(photo, np.zeros((0, 5)))
    assert (none.faces, none.face_height, none.second_face) == (0, 0.0, 0.0)
    assert measure(photo).faces is None and measure(photo).second_face is None
    crop = quality.face_crop(np.arange(200 * 400 * 3).reshape(200, 400, 3).astype(np.uint8), boxes)
    assert crop.shape == (120, 120, 3)
    assert quality.face_crop(photo, np.array([[390.0, -20, 430, 30, 0.9]])).shape[1] < 40
    assert quality.face_crop(photo, np.array([[500.0, 0, 530, 30, 0.9]])) is None
    assert quality.face_crop(photo, np.zeros((0, 5))) is None


def numbers(**changes) -> Measures:
    return Measures(**dict(
        width=640, height=480, sharpness=900.0, detail=1e5, drawn_share=0.1, text_share=0.0,
        faces=1, face_height=0.3, second_face=0.0,
    ) | changes)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, []),
        ({"height": 127}, ["too_small"]),
        ({"height": 128}, []),
        ({"sharpness": 100.0}, ["blurred"]),
        ({"faces": 0, "face_height": 0.0}, ["no_face"]),
        ({"faces": None, "face_height": None, "second_face": None}, []),
        ({"faces": 2, "second_face": 0.8}, ["several_faces"]),
        ({"face_height": 0.04}, ["small_face"]),
        ({"text_share": 0.05}, ["text"]),
        ({"drawn_share": 0.95}, ["drawn"]),
        ({"width": 60, "sharpness": 1.0}, ["too_small", "blurred"]),
    ],
)
def test_reasons_follow_from_the_limits(changes, reasons):
    found = reasons_of(numbers(**changes))
    assert found == reasons and set(found) <= quality.REASONS.keys()


def test_other_limits_give_other_reasons():
    assert reasons_of(numbers(), Limits(smallest_side=500)) == ["too_small"]
    assert reasons_of(numbers(faces=2, second_face=0.5), Limits(second_face=0.4)) == [
        "several_faces"
    ]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 255), st.booleans())
def test_every_photo_can_be_measured(height, width, level, noisy):
    photo = np.full((height, width, 3), level, np.uint8)
    if noisy:
        photo = np.random.default_rng(level).integers(0, 256, photo.shape, np.uint8)
    found = quality.measures_to_dict(measure(photo, np.zeros((0, 5))))
    assert all(np.isfinite(value) and value >= 0 for value in found.values())
    assert found["drawn_share"] <= 1 and found["text_share"] <= 1
    assert found["detail"] <= height * width


def test_what_is_no_photo_is_refused():
    with pytest.raises(ValueError, match="uint8"):
        measure(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="uint8"):
        measure(np.zeros((4, 4), np.uint8))


def test_the_odd_ones_are_far_from_all_others():
    random = np.random.default_rng(2)
    vectors = 5 + random.normal(size=(60, 16)) * 0.3
    vectors[:, 0] += np.where(np.arange(60) % 2, 4, -4)  # two kinds of photos, both common
    vectors[7, 9] += 12
    vectors[30, 11] -= 12
    oddness, odd = odd_ones_out(vectors, range(60), limit=5)
    assert np.flatnonzero(odd).tolist() == [7, 30]
    assert abs(np.median(oddness)) < 1e-9
    scaled, _ = odd_ones_out(vectors * 3, range(60))
    assert np.allclose(scaled, oddness)


def test_a_group_of_copies_of_an_odd_photo_is_odd():
    vectors = np.random.default_rng(3).normal(size=(60, 16)) * 0.1
    vectors[:, 0] += 2 * np.sign(np.arange(60) % 2 - 0.5)
    vectors[:6] = 0
    vectors[:6, 5] = 9  # six copies: each would have five near neighbours
    groups = [0] * 6 + list(range(6, 60))
    assert odd_ones_out(vectors, groups)[1][:6].all()
    assert not odd_ones_out(vectors, range(60))[1][:6].any()


def test_few_photos_have_no_odd_ones():
    vectors = np.eye(19)
    oddness, odd = odd_ones_out(vectors, range(19))
    assert np.isnan(oddness).all() and not odd.any()
    same, odd = odd_ones_out(np.ones((40, 8)), range(40))
    assert np.allclose(same, 0) and not odd.any()
