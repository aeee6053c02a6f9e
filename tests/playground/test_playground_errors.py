"""The playground when a generation is cancelled, goes on beside the caller, or cannot be."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from consistency.toys import GaussianDenoiser

from messi_lib.playground.playground import Playground, explain
from messi_lib.playground.session import Cancelled
from playground.pressed import Slow, playground, press, stroke, text
from playground.scenes import CONFIG, ONE, TWO, find_red, painted, scene

pytestmark = pytest.mark.usefixtures("samples")


def test_cancel_stops_within_one_network_call():
    slow = Slow()
    play = playground(denoiser=slow)
    play.controls.steps.value = 30
    play.find_people()
    play.controls.generate.click()
    assert slow.entered.acquire(timeout=20)
    assert not play.controls.cancel.disabled and play.controls.generate.disabled
    play.controls.cancel.click()
    assert text(play) == "cancelling ..."
    slow.go.release()  # the call under way comes to its end, and no other begins
    assert play.wait(20)
    assert len(slow.calls) == 1
    assert text(play) == "cancelled: nothing was changed"
    assert play.session.rounds == [] and play.controls.progress.value == 0
    assert play.controls.cancel.disabled and not play.controls.generate.disabled


def test_cancel_is_for_generations_only():
    entered, go = threading.Event(), threading.Event()

    def finder(pixels):
        entered.set()
        assert go.wait(20)
        return find_red(pixels)

    play = playground(segmenter=finder)
    play.controls.find.click()
    assert entered.wait(20) and play.controls.cancel.disabled
    play.cancel()  # from a cell: it says nothing, and does not meet the next generation
    go.set()
    assert play.wait(20) and text(play).startswith("1 person found")
    play.generate()
    assert len(play.session.rounds) == 1


def test_the_caller_is_free_while_it_generates_and_a_second_click_does_nothing():
    slow = Slow()
    play = playground(denoiser=slow)
    play.find_people()
    play.controls.generate.click()  # returns at once
    assert slow.entered.acquire(timeout=20)
    assert not play.wait(0)
    play.controls.generate.click()
    play.controls.find.click()
    stroke(play, painted(TWO))  # belongs to the next result
    assert text(play) == "generating: step 1 of 3"
    for _ in range(3):
        slow.go.release()
    assert play.wait(20)
    ((made,),) = play.session.rounds
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
    press(play, play.controls.generate)
    assert text(play) == "the hole is empty: paint over what is to go, or press Find people"
    assert 'role="alert"' in play.controls.message.value
    assert not play.controls.generate.disabled
    with pytest.raises(ValueError, match="hole is empty"):  # in a cell it is raised as well
        play.generate()


def test_missing_weights_are_an_error_on_the_page(tmp_path):
    play = Playground(None, tmp_path / "gone.safetensors", tmp_path / "gone.safetensors", CONFIG)
    press(play, play.controls.find)
    assert "gone.safetensors" in text(play) and "\n" not in text(play)
    assert 'role="alert"' in play.controls.message.value


def test_a_surprise_is_shown_and_logged(caplog):
    def broken(pixels):
        raise KeyError("<b>level</b>")

    play = Playground(None, broken, GaussianDenoiser(image_size=16), CONFIG)
    press(play, play.controls.find)
    said = play.controls.message.value
    assert "KeyError" in said and "restart the kernel" in said
    assert "<b>" not in said  # errors are text, not markup
    assert "Traceback" in caplog.text


def test_explain_is_one_line():
    assert explain(ValueError("a\n  b")) == "a b"
    assert "MESSI_DEVICE=cpu" in explain(torch.OutOfMemoryError("CUDA out of memory"))
    assert explain(RuntimeError()).startswith("RuntimeError: no details")


def test_no_person_is_no_error():
    play = playground(scene())
    press(play, play.controls.find)
    assert text(play) == "0 people found: paint the hole yourself"
