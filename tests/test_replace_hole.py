"""A hole of one's own, several candidates, numbers on people, and the ways to blend."""

import numpy as np
import pytest
from PIL import Image
from red_people import TWO, find_red, save, scene, tools_of_16

from messi_lib.inpainting.detail import grain_levels, grey_of
from messi_lib.inpainting.holes import grow
from messi_lib.replace import replace, replace_folder
from messi_lib.replace.people import CHOSEN, numbered


@pytest.fixture
def tools():
    return tools_of_16()


def never(pixels):
    raise AssertionError("with a hole of one's own nobody is looked for")


def hole_of(*boxes, shape=(90, 120)):
    hole = np.zeros(shape, bool)
    for top, left, height, width in boxes:
        hole[top : top + height, left : left + width] = True
    return hole


class TestOwnHole:
    def test_it_equals_the_people_of_that_shape(self, tools):
        pixels = scene(*TWO)
        own = replace(pixels, hole=hole_of(*TWO), segmenter=never, denoiser=tools["denoiser"])
        found = replace(pixels, **tools)
        assert np.array_equal(own.pixels, found.pixels)
        assert own.people == [] and own.chosen == () and len(own.windows) == 2

    def test_white_is_replaced_and_grow_0_takes_it_as_it_is(self, tools, tmp_path):
        pixels, hole = scene(), hole_of((10, 10, 30, 20))
        grey = np.where(hole, 200, 40).astype(np.uint8)
        path = save(tmp_path / "hole.jpg", grey, quality=95)
        done = replace(pixels, hole=path, grow=0.0, feather=0.0, denoiser=tools["denoiser"])
        assert np.array_equal(done.hole, hole) and np.array_equal(done.changed, hole)

    def test_no_segmenter_is_needed(self, tmp_path, monkeypatch, tools):
        monkeypatch.setattr("messi_lib.runs.weights_dir", lambda: tmp_path / "none")
        done = replace(scene(), hole=hole_of((9, 9, 9, 9)), denoiser=tools["denoiser"])
        assert done.hole.any()

    def test_all_white_replaces_everything_and_says_so(self, tools):
        done = replace(scene(), hole=np.ones((90, 120), bool), denoiser=tools["denoiser"])
        assert done.changed.all() and any("whole photo" in note for note in done.warnings)

    @pytest.mark.parametrize(
        ("hole", "match"),
        [
            (np.zeros((90, 120), bool), "all black"),
            (np.ones((120, 90), bool), "has 90x120 pixels, the photo 120x90"),
            (np.ones((90, 120), np.uint8), "bool"),
            (np.ones((90, 120, 3), bool), "bool"),
        ],
    )
    def test_bad_holes(self, hole, match, tools):
        with pytest.raises(ValueError, match=match):
            replace(scene(), hole=hole, denoiser=tools["denoiser"])

    def test_files_that_are_none(self, tools, tmp_path):
        with pytest.raises(FileNotFoundError, match="none.png"):
            replace(scene(), hole=tmp_path / "none.png", denoiser=tools["denoiser"])
        path = save(tmp_path / "black.png", np.zeros((90, 120), np.uint8))
        with pytest.raises(ValueError, match=r"black\.png is empty"):
            replace(scene(), hole=path, denoiser=tools["denoiser"])

    def test_in_a_batch_only_for_one_photo(self, tools, tmp_path):
        for name in "ab":
            save(tmp_path / "in" / f"{name}.png", scene())
        hole = save(tmp_path / "hole.png", hole_of((9, 9, 20, 20)))
        with pytest.raises(ValueError, match="one hole for 2 photos"):
            replace_folder([tmp_path / "in"], tmp_path / "out", hole=hole, **tools)
        assert not (tmp_path / "out").exists()
        (entry,) = replace_folder([tmp_path / "in" / "a.png"], tmp_path / "out", hole=hole, **tools)
        assert entry["people"] == 0 and len(entry["seams"]) == 1 and entry["overlay"] is None

    def test_the_hole_file_is_not_overwritten_by_the_hole_written(self, tools, tmp_path):
        photo = save(tmp_path / "a.png", scene())
        hole = save(tmp_path / "out" / "holes" / "a.png", hole_of((9, 9, 20, 20)))
        before = hole.read_bytes()
        (entry,) = replace_folder([photo], tmp_path / "out", hole=hole, **tools)
        assert hole.read_bytes() == before and entry["hole"].endswith("a_2.png")


class TestCandidates:
    def test_each_is_what_its_seed_alone_makes(self, tools):
        pixels = scene(*TWO)
        done = replace(pixels, candidates=4, seed=7, **tools)
        assert sorted(c.seed for c in done.candidates) == [7, 8, 9, 10]
        badness = [c.badness for c in done.candidates]
        assert badness == sorted(badness) and done.seed == done.candidates[0].seed
        assert done.seams == done.candidates[0].seams
        alone = replace(pixels, seed=done.seed, **tools)
        assert np.array_equal(alone.pixels, done.pixels) and alone.candidates == ()
        # Equal pixels, measured twice: sums of floats may differ in their last digit.
        for ours, theirs in zip(alone.seams, done.seams, strict=True):
            numbers = (theirs.lab, theirs.gradient)
            assert (ours.lab, ours.gradient) == pytest.approx(numbers, rel=1e-5)

    def test_the_sheet_and_the_report(self, tools, tmp_path):
        photo = save(tmp_path / "a.png", scene(*TWO))
        (entry,) = replace_folder([photo], tmp_path / "out", candidates=3, **tools)
        assert [set(c) for c in entry["candidates"]] == [{"seed", "seams"}] * 3
        assert entry["seed"] == entry["candidates"][0]["seed"]
        sheet = np.asarray(Image.open(entry["sheet"]))
        assert sheet.shape[0] > 100 and len(np.unique(sheet)) > 50

    def test_nobody_there_no_candidates(self, tools):
        done = replace(scene(), candidates=3, **tools)
        assert done.candidates == () and not done.changed.any()


def test_progress_counts_every_network_call_and_can_cancel(tools):
    calls = []
    pixels = scene(*TWO)
    replace(
        pixels, steps=3, candidates=2, progress=lambda step, total: calls.append((step, total)),
        **tools,
    )  # fmt: skip
    assert calls == [(step, 6) for step in range(6)]

    class Stop(Exception):
        pass

    def stop(step, total):
        raise Stop

    with pytest.raises(Stop):
        replace(pixels, progress=stop, **tools)


def test_detail_and_blend_change_the_inside_only(tools):
    rng = np.random.default_rng(0)
    pixels = scene((40, 60, 80, 40), height=180, width=240)
    noisy = pixels.astype(int) + np.rint(rng.normal(0, 3, (180, 240, 1))).astype(int)
    pixels = np.where(find_red(pixels).person[..., None], pixels, noisy.clip(0, 250))
    pixels = pixels.astype(np.uint8)
    ways = [{"detail": False}, {"detail": True}, {"detail": True, "blend": "poisson"}]
    plain, fine, poisson = (replace(pixels, **way, **tools) for way in ways)
    for done in (plain, fine, poisson):
        assert np.array_equal(done.pixels[~done.changed], pixels[~done.changed])
        assert np.array_equal(done.changed, plain.changed)
    region = np.zeros((180, 240), bool)
    region[44:116, 62:98] = True

    def finest(picture, where):
        return grain_levels(grey_of(picture.astype(np.float32) / 255), where)[0]

    there = finest(pixels, ~grow(plain.changed, 8))
    assert finest(plain.pixels, region) < 0.5 * there < 0.8 * finest(fine.pixels, region)
    assert not np.array_equal(fine.pixels, poisson.pixels)
    with pytest.raises(ValueError, match="blend='glue'"):
        replace(pixels, blend="glue", **tools)


def test_a_black_and_white_photo_stays_so(tools):
    grey = np.repeat(scene().mean(2).astype(np.uint8)[..., None], 3, 2)
    done = replace(grey, hole=hole_of((20, 30, 40, 20)), denoiser=tools["denoiser"])
    spread = done.pixels.max(2).astype(int) - done.pixels.min(2)
    assert spread.max() <= 2 and (done.pixels != grey).any()
    colour = replace(scene(), hole=hole_of((20, 30, 40, 20)), denoiser=tools["denoiser"])
    assert (colour.pixels.max(2).astype(int) - colour.pixels.min(2))[colour.hole].max() > 10


def test_a_solver_that_does_not_fit_or_exist(tools):
    for solver, match in (("conditional", "conditional"), ("magic", "magic")):
        with pytest.raises(ValueError, match=match):
            replace(scene(*TWO), solver=solver, **tools)


class TestNumbers:
    def test_chosen_ones_are_pink_and_all_have_a_number(self):
        pixels = scene(*TWO)
        people = find_red(pixels).people
        shown = numbered(pixels, people, (1,))
        assert shown.shape == pixels.shape
        y0, x0, _, _ = people[0].box
        expected = np.rint((np.array((255, 0, 0)) + CHOSEN) / 2)
        assert np.abs(shown[y0 + 1, x0 + 1] - expected).max() <= 1
        assert (shown[people[0].region] == 255).all(1).any(), "a white digit"
        outside = ~find_red(pixels).person
        assert (shown != pixels).any(2)[outside].mean() < 0.1

    def test_large_photos_are_made_smaller_and_specks_are_no_trouble(self):
        pixels = scene((0, 0, 1, 1), (80, 110, 10, 10), (0, 119, 1, 1))
        people = find_red(pixels).people
        assert numbered(pixels, people, (1,), side=40).shape == (30, 40, 3)
        assert numbered(np.zeros((1, 1, 3), np.uint8), [], ()).shape == (1, 1, 3)
