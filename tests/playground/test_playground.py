"""The playground's widgets, pressed from Python, on exact models."""

from __future__ import annotations

import ast
import base64
import inspect
import io
import re
import threading
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from consistency.toys import GaussianDenoiser
from PIL import Image

from messi_lib.playground import playground as module
from messi_lib.playground.painter import pack_region
from messi_lib.playground.playground import OWN, Playground, explain
from messi_lib.playground.session import Cancelled
from playground.scenes import CONFIG, ONE, TWO, find_red, painted, scene


class Slow(GaussianDenoiser):
    """Each network call waits until the test lets it go on."""

    def __init__(self):
        super().__init__(image_size=16)
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def forward(self, *arguments, **options):
        self.entered.release()
        assert self.go.acquire(timeout=20), "the test forgot this call"
        return super().forward(*arguments, **options)


@pytest.fixture(autouse=True)
def samples(tmp_path, monkeypatch):
    """Two sample photos, a and b."""
    folder = tmp_path / "samples"
    folder.mkdir()
    Image.fromarray(scene(ONE)).save(folder / "a.png")
    Image.fromarray(scene(TWO)).save(folder / "b.png")
    monkeypatch.setattr(module, "samples_dir", lambda: folder)
    return folder


def playground(photo=None, denoiser=None) -> Playground:
    return Playground(photo, find_red, denoiser or GaussianDenoiser(image_size=16), CONFIG)


def text(play: Playground) -> str:
    return re.sub("<[^>]*>", "", play.message.value)


def pixels_of(picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.value)))


def stroke(play: Playground, hole: np.ndarray) -> None:
    """What a finished stroke in the browser does."""
    play.painter.set_state({"hole_bits": memoryview(pack_region(hole))})


def press(play: Playground, button) -> None:
    button.click()
    assert play.wait(20)


def test_three_clicks_from_a_sample_to_a_result():
    play = playground()
    assert play.picker.value == "a.png"
    press(play, play.find_button)
    assert text(play) == "1 person found: correct with brush and eraser"
    assert np.array_equal(play.painter.hole, painted(ONE))
    press(play, play.generate_button)
    assert text(play).startswith("done in ")
    assert play.progress.value == play.progress.max == 3
    assert np.array_equal(pixels_of(play.before), scene(ONE))
    result = play.session.generations[-1].result
    assert np.array_equal(pixels_of(play.after), result.pixels)
    assert not find_red(pixels_of(play.after)).person.any()


def test_painted_strokes_are_generated():
    play = playground(scene(ONE, TWO))
    assert play.picker.value == OWN
    stroke(play, painted(TWO))
    made = play.generate()
    assert np.array_equal(made.painted, painted(TWO))
    assert np.array_equal(find_red(made.result.pixels).person, painted(ONE))


def test_the_settings_on_the_page_are_used():
    play = playground()
    play.steps.value, play.seed.value, play.grow.value, play.feather.value = 5, 7, 0.2, 0.1
    play.find_people()
    made = play.generate()
    config = made.config
    assert (config.steps, config.seed, config.grow, config.feather) == (5, 7, 0.2, 0.1)
    assert len(play.session._denoiser.calls) == 5
    play.grow.value = 0.0
    assert play.generate().result.hole.sum() < made.result.hole.sum()


def test_undo_brings_back_the_result_the_hole_and_the_settings():
    play = playground(scene(ONE, TWO))
    stroke(play, painted(ONE))
    play.seed.value = 4
    first = play.generate()
    stroke(play, painted(TWO))
    play.seed.value = 5
    play.generate()
    play.undo_button.click()
    assert np.array_equal(pixels_of(play.after), first.result.pixels)
    assert np.array_equal(play.painter.hole, painted(ONE))
    assert play.seed.value == 4 and text(play) == "1 result left"
    play.undo_button.click()
    assert play._result.layout.display == "none" and play.undo_button.disabled
    assert "href" not in play.download.value


def test_no_name_of_ipywidgets_is_taken():
    methods = {name for name, value in vars(Playground).items() if inspect.isfunction(value)}
    assert methods & set(dir(widgets.VBox)) == {"__init__"}
    play = playground()
    assert set(vars(play)) & set(dir(widgets.VBox)) <= set(vars(widgets.VBox()))
    assert "application/vnd.jupyter.widget-view+json" in play._repr_mimebundle_()


def test_compare_shows_one_picture():
    play = playground()
    play.find_people()
    assert play._result.layout.display == "none"
    play.generate()
    assert (play.after.layout.display, play.before.layout.display) == ("", "none")
    play.compare.value = "before"
    assert (play.after.layout.display, play.before.layout.display) == ("none", "")
    play.generate()
    assert play.compare.value == "after"


def test_the_download_is_the_result():
    play = playground()
    play.find_people()
    made = play.generate()
    name, mime, data = re.search(
        r'download="([^"]+)" href="data:([^;]+);base64,([^"]+)"', play.download.value
    ).groups()
    assert (name, mime) == ("a_replaced.png", "image/png")
    saved = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert np.array_equal(saved, made.result.pixels)


def test_cancel_stops_within_one_network_call():
    slow = Slow()
    play = playground(denoiser=slow)
    play.steps.value = 30
    play.find_people()
    play.generate_button.click()
    assert slow.entered.acquire(timeout=20)
    assert not play.cancel_button.disabled and play.generate_button.disabled
    play.cancel_button.click()
    assert text(play) == "cancelling ..."
    slow.go.release()  # the call under way comes to its end, and no other begins
    assert play.wait(20)
    assert len(slow.calls) == 1
    assert text(play) == "cancelled: nothing was changed"
    assert play.session.generations == [] and play.progress.value == 0
    assert play.cancel_button.disabled and not play.generate_button.disabled


def test_the_caller_is_free_while_it_generates_and_a_second_click_does_nothing():
    slow = Slow()
    play = playground(denoiser=slow)
    play.find_people()
    play.generate_button.click()  # returns at once
    assert slow.entered.acquire(timeout=20)
    assert not play.wait(0)
    play.generate_button.click()
    play.find_button.click()
    stroke(play, painted(TWO))  # belongs to the next result
    assert text(play) == "generating: step 1 of 3"
    for _ in range(3):
        slow.go.release()
    assert play.wait(20)
    (made,) = play.session.generations
    assert np.array_equal(made.painted, painted(ONE))
    assert np.array_equal(play.painter.hole, painted(TWO))


def test_a_cell_may_cancel_a_generation_of_its_own():
    play = playground()
    play.find_people()
    play._advance = lambda done, total: play.cancel()
    with pytest.raises(Cancelled):
        play.generate()
    assert text(play) == "cancelled: nothing was changed"


def test_errors_are_one_line_on_the_page_with_their_remedy():
    play = playground()
    press(play, play.generate_button)
    assert text(play) == "the hole is empty: paint over what is to go, or press Find people"
    assert 'role="alert"' in play.message.value
    assert not play.generate_button.disabled
    with pytest.raises(ValueError, match="hole is empty"):  # in a cell it is raised as well
        play.generate()


def test_missing_weights_are_an_error_on_the_page(tmp_path):
    play = Playground(None, tmp_path / "gone.safetensors", tmp_path / "gone.safetensors", CONFIG)
    press(play, play.find_button)
    assert "gone.safetensors" in text(play) and "\n" not in text(play)
    assert 'role="alert"' in play.message.value


def test_a_surprise_is_shown_and_logged(caplog):
    def broken(pixels):
        raise KeyError("<b>level</b>")

    play = Playground(None, broken, GaussianDenoiser(image_size=16), CONFIG)
    press(play, play.find_button)
    assert "KeyError" in play.message.value and "restart the kernel" in play.message.value
    assert "<b>" not in play.message.value  # errors are text, not markup
    assert "Traceback" in caplog.text


def test_explain_is_one_line():
    assert explain(ValueError("a\n  b")) == "a b"
    assert "MESSI_DEVICE=cpu" in explain(torch.OutOfMemoryError("CUDA out of memory"))
    assert explain(RuntimeError()).startswith("RuntimeError: no details")


def test_no_person_is_no_error():
    play = playground(scene())
    press(play, play.find_button)
    assert text(play) == "0 people found: paint the hole yourself"


def test_picking_another_sample():
    play = playground()
    play.find_people()
    play.generate()
    play.picker.value = "b.png"
    assert np.array_equal(pixels_of(play.before), scene(TWO))
    assert not play.painter.hole.any() and play.session.generations == []
    assert play._result.layout.display == "none"


def upload(play: Playground, name: str, content: bytes) -> None:
    """What the upload button does, as the browser's message sets it."""
    file = {"name": name, "type": "", "size": len(content), "content": memoryview(content)}
    play.upload.value = ({**file, "last_modified": datetime.now(UTC)},)


def test_uploading_a_photo_and_coming_back_to_it():
    play = playground()
    stream = io.BytesIO()
    Image.fromarray(scene(ONE, TWO)).save(stream, "PNG")
    upload(play, "mine.png", stream.getvalue())
    assert play.picker.value == OWN and play.painter.label == "Photo mine.png"
    assert np.array_equal(pixels_of(play.before), scene(ONE, TWO))
    assert play.upload.value == ()
    play.picker.value = "b.png"
    play.picker.value = OWN
    assert np.array_equal(pixels_of(play.before), scene(ONE, TWO))


def test_a_bad_upload_leaves_the_photo():
    play = playground()
    upload(play, "notes.txt", b"hello")
    assert "notes.txt" in text(play) and 'role="alert"' in play.message.value
    assert np.array_equal(pixels_of(play.before), scene(ONE))
    play.find_people()
    assert play.generate().result.photo.path.name == "a.png"


def test_without_samples_it_asks_for_a_photo(samples):
    for file in samples.iterdir():
        file.unlink()
    (samples / "README.md").write_text("no photos here")
    play = playground()
    assert text(play) == "upload a photo to begin"
    press(play, play.find_button)
    assert text(play) == "no photo yet: upload one or pick a sample"
    press(play, play.generate_button)
    assert text(play) == "no photo yet: upload one or pick a sample"


def test_the_picture_for_the_notebook():
    play = playground()
    assert play.picture().size == (240, 90)
    play.find_people()
    play.generate()
    shown = np.asarray(play.picture())
    assert shown.shape == (90, 360, 3)
    assert np.array_equal(shown[:, :120], scene(ONE))
    assert np.array_equal(shown[:, 240:], play.session.generations[-1].result.pixels)


def test_no_pyplot_in_the_playground():
    files = sorted(Path(module.__file__).parent.glob("*.py"))
    assert len(files) >= 4
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])]
            assert not any("matplotlib" in n for n in [*names, getattr(node, "module", None) or ""])
