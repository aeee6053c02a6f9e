"""One evaluation of a generator: fixed images, cached features, named numbers, copies found."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from messi_lib.evaluation import bench as bench_module
from messi_lib.evaluation import page, store
from messi_lib.evaluation.bench import Clock, shrunk
from messi_lib.evaluation.features import Extractor, extract, load_extractor
from messi_lib.evaluation.frechet import frechet_distance
from messi_lib.evaluation.generator import evaluate_generator, key_of
from messi_lib.evaluation.kernel import kid
from messi_lib.evaluation.store import FeatureStore, MemoryStore
from messi_lib.images import to_tensor

SIZE = 16


def smooth(seed: int, n: int, size: int = SIZE) -> np.ndarray:
    """Smooth random images, uint8 (n, size, size, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    return np.stack([np.array(Image.fromarray(c).resize((size, size))) for c in coarse])


def drawing(images: np.ndarray):
    """A generator that has these images, whatever the number of steps."""

    def draw(start: int, count: int, steps: int) -> torch.Tensor:
        return to_tensor(images[start : start + count])

    return draw


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MESSI_DEVICE", "cpu")


@pytest.fixture
def calls(monkeypatch):
    """Numbers of images that went through an extractor."""
    counted = []
    real = Extractor.__call__

    def call(self, images, *rest):
        counted.append(len(images))
        return real(self, images, *rest)

    monkeypatch.setattr(Extractor, "__call__", call)
    return counted


def evaluate(images, real, holdout=None, **options):
    options = {"n": len(images), "steps": (1,), "extractor": "random-conv"} | options
    return evaluate_generator(drawing(images), real, holdout, **options)


# --- numbers ------------------------------------------------------------------------------------


def test_every_number_says_what_it_depends_on():
    real, holdout, made = smooth(1, 40), smooth(2, 20), smooth(3, 30)
    result = evaluate(made, real, holdout, steps=(1, 2))
    features = {name: extract(each) for name, each in zip("rhg", (real, holdout, made))}
    numbers = result["numbers"]
    value, error = kid(features["r"], features["g"])
    assert numbers["kid_random-conv_train_40x30_16px_1step"] == pytest.approx(value, rel=1e-9)
    assert numbers["kid_random-conv_train_40x30_16px_1step_se"] == pytest.approx(error, rel=1e-9)
    fid = frechet_distance(features["h"], features["g"])
    assert numbers["fid_random-conv_holdout_20x30_16px_2steps"] == pytest.approx(fid, rel=1e-6)
    assert numbers["fid_random-conv_holdout_20x30_16px_2steps_se"] > 0
    floor = kid(features["r"], features["h"])[0]
    assert numbers["kid_random-conv_floor_40x20_16px"] == pytest.approx(floor, rel=1e-9)
    gap = kid(features["h"], features["g"])[0] - value
    assert numbers["kid_random-conv_holdout-train_20-40x30_16px_1step"] == pytest.approx(gap)
    assert 0 <= numbers["precision_random-conv_train_30x30_16px_1step"] <= 1
    for metric in ("recall", "density", "coverage"):
        assert f"{metric}_random-conv_holdout_20x20_16px_2steps" in numbers
    assert len(numbers) == len({row["key"] for row in result["rows"]}) + sum(
        row["se"] is not None for row in result["rows"]
    )
    assert (result["n_real"], result["n_holdout"], result["resolution"]) == (40, 20, 16)
    assert result["n_generated"] == {1: 30, 2: 30} and result["extractor"] == "random-conv"
    assert any("FID of 40 and 30 images is biased" in note for note in result["warnings"])
    assert key_of("kid", "x", "floor", "3x4", 8, 0) == "kid_x_floor_3x4_8px"


def test_photos_as_good_as_others_are_told_from_bad_images():
    real, holdout, good = smooth(1, 120), smooth(2, 60), smooth(3, 100)
    bad = (smooth(4, 100) // 3).astype(np.uint8)
    found = [evaluate(made, real, holdout) for made in (good, bad)]
    for against in ("train", "holdout"):
        values = [
            [(row["value"], row["se"]) for row in each["rows"] if row["metric"] == "kid"
             and row["against"] == against][0] for each in found
        ]  # fmt: skip
        assert abs(values[0][0]) < 4 * values[0][1] and values[1][0] > 20 * values[0][1]
    assert not found[0]["flagged"]


# --- copies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mirrored", [False, True])
def test_planted_copies_are_flagged_and_shown(mirrored):
    real, holdout, made = smooth(1, 120), smooth(2, 60), smooth(3, 100)
    planted = made.copy()
    for i in range(8):
        photo = real[10 + i, :, ::-1] if mirrored else real[10 + i]
        planted[5 * i] = np.clip(photo.astype(int) + 1, 0, 255)
    clean, result = evaluate(made, real, holdout), evaluate(planted, real, holdout)
    assert not clean["flagged"] and result["flagged"]
    assert [entry["space"] for entry in result["memorisation"]] == ["pixels", "random-conv"]
    for entry in result["memorisation"]:
        assert entry["flagged"] and entry["mirrored"] and entry["share_close"] >= 0.08
        found = {(pair[0], pair[1]) for pair in entry["closest"][:8]}
        assert found == {(5 * i, 10 + i) for i in range(8)}
        assert len(entry["closest"]) == 20
    assert result["memorisation"][0]["key"] == "copies_pixels_train_120x100_16px_1step"
    text = page.as_text(result)
    assert "YES" in text and "YES" not in page.as_text(clean)
    made_page = page.as_html(result)
    assert "The generator copies training photos" in made_page
    assert "The generator copies" not in page.as_html(clean)


def test_without_a_holdout_close_copies_are_still_found():
    real, made = smooth(1, 80), smooth(3, 64)
    clean = evaluate(made, real)
    assert clean["flagged"] is False and clean["n_holdout"] == 0
    assert any("no holdout" in note for note in clean["warnings"])
    assert {row["against"] for row in clean["rows"]} == {"train"}
    made[:6] = real[:6, :, ::-1]
    result = evaluate(made, real)
    assert result["flagged"] and all(entry["flagged"] for entry in result["memorisation"])
    assert result["memorisation"][0]["z_u"] is None
    assert evaluate(made, real, audits=False)["flagged"] is None
    assert "Does it copy?" in page.tables(result)


# --- the cache and the budget -------------------------------------------------------------------


def test_the_second_call_extracts_nothing(calls):
    real, holdout, made = smooth(1, 70), smooth(2, 20), smooth(3, 30)
    first = evaluate(made, real, holdout)
    assert sum(calls) == first["extracted"] == 70 + 70 + 20 + 30  # the mirrored photos too
    again = evaluate(made, real, holdout)
    assert sum(calls) == first["extracted"] and again["extracted"] == 0
    assert again["numbers"] == first["numbers"]
    more = np.concatenate([real, smooth(9, 5)])  # only the last portion is another one
    grown = evaluate(made, more, holdout, flips=False)
    assert grown["extracted"] == 75 - store.PORTION
    other = evaluate(smooth(4, 30), real, holdout, cache_generated=False)
    assert other["extracted"] == 30
    assert evaluate(smooth(4, 30), real, holdout)["extracted"] == 30, "they were not kept"


def test_the_store_survives_damage_and_keeps_its_limit(tmp_path, calls):
    extractor, images = load_extractor("random-conv"), smooth(1, 130)
    kept = FeatureStore(tmp_path / "f")
    first, fresh = kept.features(images, extractor)
    assert fresh == 130 and len(list(kept.folder.iterdir())) == 3
    for number, path in enumerate(sorted(kept.folder.iterdir())):
        if number == 0:
            path.write_bytes(path.read_bytes()[:200])
    second, fresh = kept.features(images, extractor)
    assert fresh in (2, 64) and np.array_equal(first, second)
    sizes = [path.stat().st_size for path in kept.folder.iterdir()]
    small = FeatureStore(kept.folder, limit=sum(sizes) - 1)
    small.features(smooth(2, 3), extractor)
    assert sum(path.stat().st_size for path in kept.folder.iterdir()) <= small.limit
    memory = MemoryStore()
    assert memory.features(images, extractor)[1] == 130
    assert memory.features(images, extractor)[1] == 0


class Ticking:
    """A clock that only moves when the network or the sampler works."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


def test_a_budget_draws_fewer_images_and_says_so(monkeypatch):
    real, made = smooth(1, 70), smooth(3, 300)
    ticking = Ticking()
    monkeypatch.setattr(bench_module, "time", ticking)

    def slow(start, count, steps):
        ticking.now += 10 * steps
        return to_tensor(made[start : start + count])

    settings = {"n": 300, "steps": (1, 2, 4), "extractor": "random-conv"}
    result = evaluate_generator(slow, real, seconds=60, **settings)
    # 10 s a portion of 64 and 6 s kept for the end: five portions; then there is no time for more
    assert result["n_generated"] == {1: 300} and result["seconds"]["sampling"] == 50
    assert sum("left out, the time was over" in note for note in result["warnings"]) == 2
    short = evaluate_generator(slow, real, seconds=35, **settings)
    assert short["n_generated"] == {1: 192} and short["seconds"]["sampling"] == 30
    assert "steps=1: the time was over after 192 of 300 images" in short["warnings"]
    assert "kid_random-conv_train_70x192_16px_1step" in short["numbers"]
    least = evaluate_generator(slow, real, seconds=0.001, **settings)
    assert least["n_generated"] == {1: 64}, "a first portion is always drawn"
    assert Clock().left() == float("inf")


# --- refusals -----------------------------------------------------------------------------------


def test_what_cannot_be_evaluated_is_refused_before_anything_is_drawn(calls):
    real, made = smooth(1, 40), smooth(3, 30)

    def refuse(match, real=real, holdout=None, **options):
        with pytest.raises(ValueError, match=match):
            evaluate(made, real, holdout, **options)

    copied = real.copy()
    copied[7] = copied[3]
    refuse("1 of 40 images are copies.*real photo 4 and real photo 8", copied)
    refuse("real photo 1 and holdout photo 2", holdout=np.stack([*smooth(5, 20)[:1], *real[:19]]))
    refuse("real holds 3 photos", real[:3])
    refuse("holdout: expected square uint8 images of one size", holdout=smooth(2, 20, 8))
    refuse("real: expected square uint8", real.astype(float))
    refuse("real: expected square uint8", real[:, :8])
    refuse("n=3", n=3)
    refuse("steps=\\(0,\\)", steps=(0,))
    refuse("steps=\\(2, 2\\)", steps=(2, 2))
    refuse("steps=\\(\\)", steps=())
    refuse("unknown extractor 'vgg'", extractor="vgg")
    assert not calls
    with pytest.raises(ValueError, match="draws 8 px, not 16 px"):
        evaluate(smooth(3, 30, 8), real)
    broken = lambda start, count, steps: torch.full((count, 3, SIZE, SIZE), torch.nan)  # noqa: E731
    with pytest.raises(ValueError, match="no numbers"):
        evaluate_generator(broken, real, n=30, steps=(1,), extractor="random-conv")


def test_a_generator_that_repeats_itself_is_a_finding():
    made = np.repeat(smooth(3, 10), 3, axis=0)
    result = evaluate(made, smooth(1, 40), smooth(2, 20))
    assert "steps=1: 20 of 30 images equal others" in result["warnings"]
    assert all(np.isfinite(value) for value in result["numbers"].values())


def test_large_images_are_shrunk_with_antialiasing():
    board = np.zeros((2, 400, 400, 3), np.uint8)
    board[:, ::2] = 255
    small = shrunk(board)
    assert small.shape == (2, 299, 299, 3) and np.abs(small.astype(int) - 127).max() < 60
    assert shrunk(small) is small


# --- the report ---------------------------------------------------------------------------------


def test_the_page_holds_tables_and_pictures_in_itself(tmp_path):
    real, holdout, made = smooth(1, 60), smooth(2, 20), smooth(3, 30)
    result = evaluate(made, real, holdout, steps=(1, 4)) | {"title": "<run> & more"}
    data, html = page.save_report(result, tmp_path / "new" / "report")
    stored = json.loads(data.read_text())
    assert "pictures" not in stored and stored["numbers"] == pytest.approx(result["numbers"])
    assert stored["n_generated"] == {"1": 30, "4": 30}
    assert page.tables(stored) == page.tables(result), "a table of what was stored"
    text = html.read_text()
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    assert "&lt;run&gt; &amp; more" in text and "<run>" not in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text), "it needs no other file"
    for title in page.tables(result):
        assert f"<h2>{page.html.escape(title)}</h2><table>" in text
    pictures = re.findall(r'alt="([^"]*)" src="data:image/png;base64,([^"]*)"', text)
    captions = [caption for caption, _ in pictures]
    assert captions == [
        "training photos", "samples, 1 step", "closest pairs in pixels, 1 step",
        "closest pairs in random-conv, 1 step", "samples, 4 steps",
        "closest pairs in pixels, 4 steps", "closest pairs in random-conv, 4 steps",
    ]  # fmt: skip
    for caption, content in pictures:
        shown = np.array(Image.open(io.BytesIO(base64.b64decode(content))))
        assert np.array_equal(shown, result["pictures"][caption]), caption
    for note in result["warnings"]:
        assert page.html.escape(note) in text


def test_the_tables_show_where_the_time_went():
    result = evaluate(smooth(3, 30), smooth(1, 60), smooth(2, 20))
    stages = [row[0] for row in page.tables(result)["Where the time went"]]
    assert stages[0] == "stage" and stages[-1] == "all"
    assert {"sampling", "features of training photos", "features of generated images", "KID",
            "FID", "memorisation audit"} <= set(stages)  # fmt: skip
    parts = [value for stage, value in result["seconds"].items() if stage != "all"]
    assert sum(parts) <= result["seconds"]["all"] + 0.1
    distance = page.tables(result)["Distance"]
    assert distance[1][:2] == ["1", "30"] and "+-" in distance[1][2]
    assert distance[1][3].startswith("[60x30] ") and distance[-1][0] == "holdout against train"
