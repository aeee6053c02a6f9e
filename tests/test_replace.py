"""The journey of a photo, and of a folder of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from consistency.toys import GaussianDenoiser
from PIL import Image
from red_people import TWO, find_red, save, scene, tools_of_16

from messi_lib import replace as module
from messi_lib.images import load_photo
from messi_lib.inpainting.holes import grow
from messi_lib.profiles import ReplaceConfig
from messi_lib.replace import choose, parse_people, replace, replace_folder
from messi_lib.segmentation.infer import Segmentation
from messi_lib.segmentation.people import people_from

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "coco_open_full" / "images"
KEYS = ["photo", "output", "hole", "people", "chosen", "seconds", "stages", "warnings", "error"]
KEYS += ["size", "boxes", "seams", "seed", "overlay", "sheet", "candidates"]


@pytest.fixture
def tools():
    return tools_of_16()


class TestOnePhoto:
    def test_people_are_gone_and_the_rest_is_identical(self, tools):
        pixels = scene(*TWO)
        done = replace(pixels, steps=2, **tools)
        assert done.chosen == (1, 2) and len(done.people) == 2
        assert (done.hole >= find_red(pixels).person).all()
        assert (done.changed >= done.hole).all() and not done.changed.all()
        assert np.array_equal(done.pixels[~done.changed], pixels[~done.changed])
        assert not find_red(done.pixels).person.any()
        assert (done.pixels != pixels).any(2)[done.hole].mean() > 0.9
        stages = ["load", "segment", "holes", "cut", "generate", "composite", "seam", "total"]
        assert list(done.seconds) == stages
        assert done.seconds["total"] >= sum(list(done.seconds.values())[:-1]) - 1e-3

    def test_only_the_chosen_ones_change(self, tools):
        pixels = scene(*TWO)
        everyone = replace(pixels, **tools)
        largest = replace(pixels, people="largest", **tools)
        second = replace(pixels, people=[2], **tools)
        assert largest.chosen == (1,) and second.chosen == (2,)
        assert np.array_equal(largest.changed | second.changed, everyone.changed)
        assert not (largest.changed & second.changed).any()
        assert np.array_equal(largest.pixels[30:60, 80:95], pixels[30:60, 80:95])
        # noise depends on the place: who else goes does not matter to the first
        first = largest.changed
        assert np.array_equal(largest.pixels[first], everyone.pixels[first])

    def test_the_person_is_never_read(self, tools):
        """Another person of the same shape in the photo gives the same result, bit for bit."""
        pixels = scene(*TWO)
        person = find_red(pixels).person
        found = find_red(pixels)
        other = pixels.copy()
        other[person] = np.random.default_rng(0).integers(0, 256, (person.sum(), 3))
        one, two = (
            replace(picture, segmenter=lambda _: found, denoiser=tools["denoiser"], steps=3)
            for picture in (pixels, other)
        )
        assert np.array_equal(one.pixels, two.pixels)

    def test_found_twice_equals_found_once(self, tools):
        pixels = scene(*TWO)
        once = find_red(pixels)
        twice = Segmentation(once.person, once.score, [p for p in once.people for _ in range(2)])
        results = [
            replace(pixels, segmenter=lambda _, f=f: f, denoiser=tools["denoiser"])
            for f in (once, twice)
        ]
        assert np.array_equal(results[0].pixels, results[1].pixels)
        assert len(results[1].windows) == 2

    def test_touching_people_get_one_window(self, tools):
        done = replace(scene((10, 10, 40, 15), (10, 26, 40, 15)), **tools)
        assert done.chosen == (1, 2) and len(done.windows) == 1

    def test_the_seed_decides_inside_and_only_there(self, tools):
        pixels = scene(*TWO)
        one, again, two = (replace(pixels, seed=seed, **tools) for seed in (1, 1, 2))
        assert np.array_equal(one.pixels, again.pixels)
        assert (one.pixels != two.pixels).any(2)[one.hole].mean() > 0.5
        assert np.array_equal(one.pixels[~one.changed], two.pixels[~two.changed])

    def test_more_windows_than_a_batch(self, tools):
        boxes = [(10 + 60 * i, 10 + 50 * j, 20, 10) for i in range(3) for j in range(4)]
        pixels = scene(*boxes, height=200, width=220)
        done = replace(pixels, **tools)
        assert len(done.windows) == 12 > module.BATCH
        alone = replace(pixels, people=[5], **tools)
        assert np.array_equal(done.pixels[alone.changed], alone.pixels[alone.changed])

    @pytest.mark.parametrize(
        "pixels",
        [
            scene(),
            scene((0, 0, 90, 120)),
            scene((0, 0, 30, 20), (60, 100, 30, 20)),
            np.full((1, 1, 3), (255, 0, 0), np.uint8),
            scene((0, 1, 1, 1), height=2, width=200),
        ],
        ids=["nobody", "everywhere", "in the corners", "one pixel", "a strip"],
    )
    def test_edges(self, pixels, tools):
        done = replace(pixels, min_area=0.0, **tools)
        assert done.pixels.shape == pixels.shape and done.pixels.dtype == np.uint8
        assert np.array_equal(done.pixels[~done.changed], pixels[~done.changed])
        assert not find_red(done.pixels).person.any()
        if not find_red(pixels).person.any():
            assert np.array_equal(done.pixels, pixels) and "no person" in done.warnings[0]

    def test_grow_and_feather_are_what_changes(self, tools):
        pixels = scene((20, 30, 40, 20))
        bare = replace(pixels, grow=0.0, feather=0.0, **tools)
        person = find_red(pixels).person
        assert np.array_equal(bare.hole, person) and np.array_equal(bare.changed, person)
        wide = replace(pixels, grow=0.1, feather=0.05, **tools)
        assert np.array_equal(wide.hole, grow(person, 4))
        assert np.array_equal(wide.changed, grow(grow(person, 4), 2))

    def test_configuration(self, tools):
        pixels = scene(*TWO)
        config = ReplaceConfig(steps=3, min_area=0.09 * 0.8)
        done = replace(pixels, config=config, seed=5, **tools)
        assert done.chosen == (1,) and len(tools["denoiser"].calls) == 3
        with pytest.raises(ValueError, match="sead"):
            replace(pixels, config=config, sead=5, **tools)
        for wrong in ({"steps": 0}, {"context": 0.5}, {"grow": -1.0}, {"people": "some"}):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                replace(pixels, **wrong, **tools)


def test_who_is_chosen():
    person = find_red(scene(*TWO, (80, 5, 4, 4))).people
    assert choose(person, "all") == ((1, 2, 3), [])
    assert choose(person, "all", 0.01) == ((1, 2), [])
    assert choose(person, "largest") == ((1,), [])
    assert choose(person, "3,1") == ((1, 3), [])
    chosen, notes = choose(person, "2,7")
    assert chosen == (2,) and "no person 7" in notes[0]
    chosen, notes = choose(person, "9")
    assert chosen == () and "unchanged" in notes[-1]
    assert choose(person, "all", 0.9)[0] == () and choose([], "all")[0] == ()
    for wrong in ("", "0", "1,x", "most", [], [0], None):
        with pytest.raises(ValueError, match="people="):
            parse_people(wrong)


class TestFolder:
    def run(self, inputs, out, tools, **options):
        return replace_folder(inputs, out, **tools, **options)

    def test_outputs_holes_and_report(self, tmp_path, tools):
        save(tmp_path / "in" / "a.png", scene(*TWO))
        save(tmp_path / "in" / "sub" / "b.JPG", scene(*TWO, seed=1), quality=98, subsampling=0)
        save(tmp_path / "in" / "nobody.jpg", scene(seed=2))
        out = tmp_path / "out"
        report = self.run([tmp_path / "in"], out, tools)
        assert json.loads((out / "report.json").read_text()) == report
        assert [list(entry) for entry in report] == [KEYS] * 3
        a, nobody, b = report
        assert a["output"] == str(out / "a.png") and a["hole"] == str(out / "holes" / "a.png")
        assert (a["people"], a["chosen"], a["error"], a["warnings"]) == (2, [1, 2], None, [])
        assert 0 < a["stages"]["total"] <= a["seconds"]
        assert Path(b["output"]).name == "b.JPG" and Image.open(b["output"]).format == "JPEG"
        before, after = load_photo(a["photo"]).pixels, load_photo(a["output"]).pixels
        white = np.asarray(Image.open(a["hole"]))
        assert set(np.unique(white)) == {0, 255} and white.shape == before.shape[:2]
        assert np.array_equal(after[white == 0], before[white == 0])
        assert (after != before).any(2)[white == 255].mean() > 0.8
        assert nobody["chosen"] == [] and "no person" in nobody["warnings"][0]
        assert Path(nobody["output"]).read_bytes() == Path(nobody["photo"]).read_bytes()
        assert not np.asarray(Image.open(nobody["hole"])).any()

    def test_format_png(self, tmp_path, tools):
        save(tmp_path / "in" / "a.jpg", scene(*TWO), quality=98)
        save(tmp_path / "in" / "a.jpeg", scene(), quality=98)
        one, two = self.run([tmp_path / "in"], tmp_path / "out", tools, format="png")
        assert {Path(e["output"]).name for e in (one, two)} == {"a.png", "a_2.png"}
        assert {Path(e["hole"]).name for e in (one, two)} == {"a.png", "a_2.png"}
        for entry in (one, two):
            before, after = load_photo(entry["photo"]).pixels, load_photo(entry["output"]).pixels
            keep = np.asarray(Image.open(entry["hole"])) == 0
            assert np.array_equal(after[keep], before[keep])

    def test_equal_names_overwrite_nothing(self, tmp_path, tools):
        for i, folder in enumerate("xyz"):
            save(tmp_path / folder / "a.png", scene(*TWO, seed=i))
        save(tmp_path / "x" / "a.bmp", scene(*TWO, seed=9))
        inputs = [tmp_path / folder for folder in "xyz"]
        report = self.run(inputs, tmp_path / "out", tools)
        for key in ("output", "hole"):
            assert len({entry[key] for entry in report}) == 4
        for entry in report:
            before, after = load_photo(entry["photo"]).pixels, load_photo(entry["output"]).pixels
            keep = np.asarray(Image.open(entry["hole"])) == 0
            assert np.array_equal(after[keep], before[keep])
        assert sum("is taken" in note for entry in report for note in entry["warnings"]) == 3

    def test_an_input_is_never_overwritten(self, tmp_path, tools):
        path = save(tmp_path / "a.png", scene(*TWO))
        before = path.read_bytes()
        (entry,) = self.run(path, tmp_path, tools)
        assert path.read_bytes() == before and Path(entry["output"]).name == "a_2.png"
        with pytest.raises(ValueError, match="is an input folder"):
            self.run(tmp_path, tmp_path, tools)

    def test_results_inside_the_input_folder_are_not_taken_again(self, tmp_path, tools):
        save(tmp_path / "a.png", scene(*TWO))
        first = self.run([tmp_path], tmp_path / "out", tools)
        second = self.run([tmp_path], tmp_path / "out", tools)
        assert [e["photo"] for e in first] == [e["photo"] for e in second]

    def test_a_bad_file_does_not_stop_the_batch(self, tmp_path, tools, capsys):
        save(tmp_path / "in" / "good.png", scene(*TWO))
        (tmp_path / "in" / "bad.jpg").write_bytes(b"no photo")
        bad, good = self.run([tmp_path / "in"], tmp_path / "out", tools)
        assert list(bad) == KEYS and bad["output"] is None and "bad.jpg" in bad["error"]
        assert "\n" not in bad["error"] and bad["chosen"] == []
        assert good["error"] is None and Path(good["output"]).exists()
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2 and lines[0].startswith("[1/2] bad.jpg: FAILED")
        assert lines[1].startswith("[2/2] good.png: 2 of 2 people replaced")
        names = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*")}
        assert names == {
            "good.png", "holes", "holes/good.png", "people", "people/good.jpg", "report.json"
        }  # fmt: skip

    def test_a_single_bad_file_raises_and_leaves_nothing(self, tmp_path, tools):
        (tmp_path / "bad.jpg").write_bytes(b"no photo")
        with pytest.raises(ValueError, match="bad.jpg"):
            self.run([tmp_path / "bad.jpg"], tmp_path / "out", tools)
        assert [p.name for p in tmp_path.iterdir()] == ["bad.jpg"]

    def test_nothing_half_written_when_saving_fails(self, tmp_path, tools, monkeypatch):
        save(tmp_path / "a.png", scene(*TWO))

        def fail(*args, **options):
            raise ValueError("disk on fire")

        monkeypatch.setattr("messi_lib.replace.folder.save_photo", fail)
        with pytest.raises(ValueError, match="disk on fire"):
            self.run([tmp_path / "a.png"], tmp_path / "out", tools)
        assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]

    def test_an_interrupted_batch_keeps_its_report(self, tmp_path, tools):
        for name in "abc":
            save(tmp_path / "in" / f"{name}.png", scene(*TWO))
        calls = []

        def stopped(pixels):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return find_red(pixels)

        with pytest.raises(KeyboardInterrupt):
            replace_folder(
                [tmp_path / "in"], tmp_path / "out", segmenter=stopped, denoiser=tools["denoiser"]
            )
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        assert [Path(entry["photo"]).name for entry in report] == ["a.png", "b.png"]

    def test_bad_arguments_before_anything_is_written(self, tmp_path, tools):
        save(tmp_path / "in" / "a.png", scene(*TWO))
        (tmp_path / "file").write_text("x")
        for options, match in (
            ({"people": "few"}, "people"),
            ({"format": "psd"}, "psd"),
            ({"steps": 0}, "steps"),
            ({"stepz": 2}, "stepz"),
        ):
            with pytest.raises(ValueError, match=match):
                self.run([tmp_path / "in"], tmp_path / "out", tools, **options)
        with pytest.raises(FileNotFoundError, match="gone"):
            self.run([tmp_path / "gone"], tmp_path / "out", tools)
        with pytest.raises(PermissionError, match="file"):
            self.run([tmp_path / "in"], tmp_path / "file" / "out", tools)
        assert not (tmp_path / "out").exists()

    def test_missing_weights_name_the_file(self, tmp_path, monkeypatch):
        save(tmp_path / "in" / "a.png", scene(*TWO))
        monkeypatch.setattr("messi_lib.runs.weights_dir", lambda: tmp_path / "weights")
        with pytest.raises(FileNotFoundError, match=r"weights.*layer\.safetensors"):
            replace_folder([tmp_path / "in"], tmp_path / "out", segmenter=find_red)
        assert not (tmp_path / "out").exists()

    def test_modes_and_orientation_survive(self, tmp_path, tools):
        pixels = scene(*TWO)
        exif = Image.Exif()
        exif[0x0112] = 6
        save(tmp_path / "in" / "turned.jpg", pixels, exif=exif, quality=98, subsampling=0)
        rgba = Image.fromarray(pixels).convert("RGBA")
        rgba.putalpha(Image.linear_gradient("L").resize(rgba.size))
        rgba.save(tmp_path / "in" / "alpha.png")
        alpha, turned = self.run([tmp_path / "in"], tmp_path / "out", tools)
        assert alpha["chosen"] and turned["chosen"]
        with Image.open(alpha["output"]) as result:
            assert result.mode == "RGBA"
            assert np.array_equal(np.asarray(result)[..., 3], np.asarray(rgba)[..., 3])
        with Image.open(turned["output"]) as result:
            assert result.size == (90, 120) and result.getexif()[0x0112] == 1
        assert np.asarray(Image.open(turned["hole"])).shape == (120, 90)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL.parent.name} absent")
def test_real_photos_are_identical_outside(tmp_path):
    """Real sizes, modes and profiles; the finder is blind on purpose: it always finds a box."""

    def find_box(pixels):
        height, width = pixels.shape[:2]
        person = np.zeros((height, width), bool)
        person[height // 5 : -1, width // 3 : width // 2] = True
        return Segmentation(person, person.astype(np.float32), people_from(person))

    photos = sorted(REAL.iterdir())[::16]
    grey = [p for p in sorted(REAL.iterdir()) if Image.open(p).mode == "L"][:1]
    denoiser = GaussianDenoiser(image_size=32)
    report = replace_folder(
        [*photos, *grey], tmp_path, segmenter=find_box, denoiser=denoiser, format="png", steps=2
    )
    assert len(report) >= 4
    for entry in report:
        with Image.open(entry["photo"]) as before, Image.open(entry["output"]) as after:
            assert before.mode == after.mode and before.size == after.size
            assert before.info.get("icc_profile") == after.info.get("icc_profile")
            before, after = np.asarray(before), np.asarray(after)
        keep = np.asarray(Image.open(entry["hole"])) == 0
        assert np.array_equal(before[keep], after[keep])
        assert (before != after).reshape(*keep.shape, -1).any(2)[~keep].mean() > 0.8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.gpu
def test_a_generator_on_the_gpu(tools):
    denoiser = GaussianDenoiser(image_size=16).cuda()
    on_gpu = replace(scene(*TWO), segmenter=find_red, denoiser=denoiser)
    on_cpu = replace(scene(*TWO), **tools)
    assert np.abs(on_gpu.pixels.astype(int) - on_cpu.pixels).max() <= 2
