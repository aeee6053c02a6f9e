"""The playground's widgets, pressed from Python, on exact models."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from messi_lib.consistency.denoiser import build_denoiser
from messi_lib.consistency.train import export_denoiser
from messi_lib.playground import playground as module
from messi_lib.playground.playground import OWN, Playground
from messi_lib.profiles import ConsistencyConfig, preset
from messi_lib.runs import Run
from messi_lib.segmentation.infer import Segmentation
from messi_lib.segmentation.people import people_from
from playground.pressed import pixels_of, playground, press, stroke, text
from playground.scenes import CONFIG, ONE, TWO, find_red, painted, scene

pytestmark = pytest.mark.usefixtures("samples")


def test_three_clicks_from_a_sample_to_a_result():
    play = playground()
    assert play.controls.picker.value == "a.png"
    press(play, play.controls.find)
    assert text(play) == "1 person found: click on them to leave or take them, or correct by brush"
    assert np.array_equal(play.painter.hole, painted(ONE))
    press(play, play.controls.generate)
    assert text(play).startswith("done in ")
    assert play.controls.progress.value == play.controls.progress.max == 3
    assert np.array_equal(pixels_of(play.viewer.before_bytes), scene(ONE))
    result = play.session.current
    assert np.array_equal(pixels_of(play.viewer.after_bytes), result.pixels)
    assert not find_red(pixels_of(play.viewer.after_bytes)).person.any()


def test_painted_strokes_are_generated():
    play = playground(scene(ONE, TWO))
    assert play.controls.picker.value == OWN
    stroke(play, painted(TWO))
    made = play.generate()
    assert np.array_equal(made.painted, painted(TWO))
    assert np.array_equal(find_red(made.pixels).person, painted(ONE))


def test_the_settings_on_the_page_are_used():
    play = playground()
    on = play.controls
    on.steps.value, on.seed.value, on.grow.value, on.feather.value = 5, 7, 0.2, 0.1
    play.find_people()
    made = play.generate()
    config = made.config
    assert (config.steps, config.seed, config.grow, config.feather) == (5, 7, 0.2, 0.1)
    assert len(play.session._denoiser.calls) == 5
    play.controls.grow.value = 0.0
    assert play.generate().hole.sum() < made.hole.sum()


def test_undo_brings_back_the_result_the_hole_and_the_settings():
    play = playground(scene(ONE, TWO))
    stroke(play, painted(ONE))
    play.controls.seed.value = 4
    first = play.generate()
    stroke(play, painted(TWO))
    play.controls.seed.value = 5
    play.generate()
    play.controls.undo.click()
    assert np.array_equal(pixels_of(play.viewer.after_bytes), first.pixels)
    assert np.array_equal(play.painter.hole, painted(ONE))
    assert play.controls.seed.value == 4 and text(play) == "1 result left"
    play.controls.undo.click()
    assert play.controls.result.layout.display == "none" and play.controls.undo.disabled
    assert play.session.rounds == []


def test_no_name_of_ipywidgets_is_taken():
    methods = {name for name, value in vars(Playground).items() if inspect.isfunction(value)}
    assert methods & set(dir(widgets.VBox)) == {"__init__"}
    play = playground()
    assert set(vars(play)) & set(dir(widgets.VBox)) <= set(vars(widgets.VBox()))
    assert "application/vnd.jupyter.widget-view+json" in play._repr_mimebundle_()


def sent_by(play: Playground, monkeypatch) -> list:
    """Custom messages from now on that the viewer sends to the browser."""
    sent = []
    monkeypatch.setattr(play.viewer, "send", lambda *message: sent.append(message))
    return sent


def test_the_viewer_hands_out_result_and_mask(monkeypatch):
    play = playground()
    play.find_people()
    made = play.generate()
    sent = sent_by(play, monkeypatch)
    for what in ("result", "mask", "secrets", None):
        play.viewer._handle_custom_msg({"save": what}, [])
    (result, (content,)), (mask, (white,)) = sent
    assert result == {"file": "a_replaced.png", "mime": "image/png"}
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), made.pixels)
    assert mask == {"file": "a_mask.png", "mime": "image/png"}
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(white))) == 255, made.changed)


def test_a_file_that_cannot_be_made_is_an_error_on_the_page(monkeypatch):
    play = playground()
    sent = sent_by(play, monkeypatch)
    play.viewer._handle_custom_msg({"save": "result"}, [])
    assert sent == [] and text(play) == "there is no result yet: press Generate"
    assert 'role="alert"' in play.controls.message.value


def test_candidates_are_thumbnails_to_choose_from(monkeypatch):
    play = playground()
    play.find_people()
    play.controls.candidates.value, play.controls.seed.value = 3, 5
    shown = play.generate()
    (made,) = play.session.rounds
    assert sorted(one.config.seed for one in made) == [5, 6, 7]
    assert len(play.viewer.thumbs) == 3 and play.viewer.chosen == 0
    assert play.session.current is shown is made[0]
    assert text(play).endswith("choose one below")
    play.viewer.set_state({"chosen": 2})  # a click on the third
    assert play.session.current is made[2]
    assert np.array_equal(pixels_of(play.viewer.after_bytes), made[2].pixels)
    assert play.viewer.caption == f"result 1, seed {made[2].config.seed}"
    sent = sent_by(play, monkeypatch)
    play.viewer._handle_custom_msg({"save": "result"}, [])
    content = sent[0][1][0]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), made[2].pixels)
    play.viewer.set_state({"chosen": 7})  # there is none
    assert play.session.current is made[2]


def test_undo_goes_back_to_all_candidates_of_the_round_before():
    play = playground()
    play.find_people()
    play.controls.candidates.value = 2
    play.generate()
    play.controls.candidates.value = 1
    play.generate()
    assert len(play.viewer.thumbs) == 1
    play.undo()
    assert len(play.viewer.thumbs) == 2 and play.controls.candidates.value == 2


def test_soft_strokes_are_generated_softly_and_come_back_with_undo():
    play = playground(scene(ONE, TWO))
    ink = painted(ONE) * np.uint8(128)
    play.painter.set_state({"ink": memoryview(ink.tobytes())})
    made = play.generate()
    assert made.painted.dtype == np.uint8
    stroke(play, painted(TWO))
    play.generate()
    play.undo()
    assert np.array_equal(np.rint(play.painter.strength * 255), ink)


def test_a_person_who_was_clicked_is_left_alone():
    play = playground(scene(ONE, TWO))
    play.find_people()
    assert len(play.painter.people) == 2
    play.painter._handle_custom_msg({"toggle": 2}, [])
    made = play.generate()
    assert np.array_equal(find_red(made.pixels).person, painted(TWO))


def test_the_solver_on_the_page_is_used_and_one_that_does_not_fit_is_an_error():
    play = playground()
    play.find_people()
    play.controls.solver.value = "cm4ir"
    assert play.generate().config.solver == "cm4ir"
    play.controls.solver.value = "conditional"
    press(play, play.controls.generate)
    assert "conditional" in text(play) and 'role="alert"' in play.controls.message.value
    assert len(play.session.rounds) == 1


def test_the_segmenter_can_be_swapped():
    play = playground()
    everywhere = np.ones((90, 120), bool)
    play.session.segmenter = lambda pixels: Segmentation(
        everywhere, everywhere.astype(np.float32), people_from(everywhere)
    )
    assert play.find_people().all()


def test_a_run_in_place_of_a_photo(tmp_path, monkeypatch):
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path))
    run = Run("mine")
    config = preset(ConsistencyConfig, "smoke")
    run.keep_config(config)
    own = build_denoiser(config)
    export_denoiser(run.folder / "generator.safetensors", config, own.state_dict(), {})
    for source in (run, run.folder, str(run.folder), "mine"):
        play = Playground(source, find_red, config=CONFIG)
        assert play.controls.picker.value == "a.png"
        play.find_people()
        play.generate()
        assert play.session._model("").config.image_size == config.image_size
    play = Playground(scene(TWO), find_red, config=CONFIG, run="mine")
    assert play.controls.picker.value == OWN
    assert play.session._denoiser == run.folder / "generator.safetensors"
    with pytest.raises(FileNotFoundError, match="no run yours"):
        Playground(run="yours")


def test_a_configuration_beyond_the_sliders_is_kept():
    config = dataclasses.replace(CONFIG, steps=60, grow=0.5, feather=0.4)
    controls = playground(config=config).controls
    assert (controls.steps.value, controls.grow.value, controls.feather.value) == (60, 0.5, 0.4)


def test_picking_another_sample():
    play = playground()
    play.find_people()
    play.generate()
    play.controls.picker.value = "b.png"
    assert np.array_equal(pixels_of(play.viewer.before_bytes), scene(TWO))
    assert not play.painter.hole.any() and play.session.rounds == []
    assert play.controls.result.layout.display == "none"


def upload(play: Playground, name: str, content: bytes) -> None:
    """What the upload button does, as the browser's message sets it."""
    file = {"name": name, "type": "", "size": len(content), "content": memoryview(content)}
    play.controls.upload.value = ({**file, "last_modified": datetime.now(UTC)},)


def test_uploading_a_photo_and_coming_back_to_it():
    play = playground()
    stream = io.BytesIO()
    Image.fromarray(scene(ONE, TWO)).save(stream, "PNG")
    upload(play, "mine.png", stream.getvalue())
    assert play.controls.picker.value == OWN and play.painter.label == "Photo mine.png"
    assert np.array_equal(pixels_of(play.viewer.before_bytes), scene(ONE, TWO))
    assert play.controls.upload.value == ()
    play.controls.picker.value = "b.png"
    play.controls.picker.value = OWN
    assert np.array_equal(pixels_of(play.viewer.before_bytes), scene(ONE, TWO))


def test_a_bad_upload_leaves_the_photo():
    play = playground()
    upload(play, "notes.txt", b"hello")
    assert "notes.txt" in text(play) and 'role="alert"' in play.controls.message.value
    assert np.array_equal(pixels_of(play.viewer.before_bytes), scene(ONE))
    play.find_people()
    assert play.generate().photo.path.name == "a.png"


def test_without_samples_it_asks_for_a_photo(samples):
    for file in samples.iterdir():
        file.unlink()
    (samples / "README.md").write_text("no photos here")
    play = playground()
    assert text(play) == "upload a photo to begin"
    press(play, play.controls.find)
    assert text(play) == "no photo yet: upload one or pick a sample"
    press(play, play.controls.generate)
    assert text(play) == "no photo yet: upload one or pick a sample"


def test_the_picture_for_the_notebook():
    play = playground()
    assert play.picture().size == (240, 90)
    play.find_people()
    play.generate()
    shown = np.asarray(play.picture())
    assert shown.shape == (90, 360, 3)
    assert np.array_equal(shown[:, :120], scene(ONE))
    assert np.array_equal(shown[:, 240:], play.session.current.pixels)


def test_no_pyplot_in_the_playground():
    files = sorted(Path(module.__file__).parent.glob("*.py"))
    assert len(files) >= 4
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])]
            assert not any("matplotlib" in n for n in [*names, getattr(node, "module", None) or ""])
