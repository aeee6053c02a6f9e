"""A playground whose buttons are pressed from Python, on exact models."""

from __future__ import annotations

import io
import re
import threading

import numpy as np
from consistency.toys import GaussianDenoiser
from PIL import Image

from messi_lib.playground.painter import pack_region
from messi_lib.playground.playground import Playground
from playground.scenes import CONFIG, find_red


class Slow(GaussianDenoiser):
    """Each network call waits until the test lets it go on."""

    def __init__(self):
        super().__init__(image_size=16)
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def forward(self, *arguments, **options):
        self.entered.release()
        assert self.go.acquire(timeout=20), "the test forgot this call"
        return super().forward(*arguments, **options)


def playground(photo=None, denoiser=None, segmenter=find_red, config=CONFIG) -> Playground:
    return Playground(photo, segmenter, denoiser or GaussianDenoiser(image_size=16), config)


def text(play: Playground) -> str:
    return re.sub("<[^>]*>", "", play.controls.message.value)


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def stroke(play: Playground, hole: np.ndarray) -> None:
    """What a finished stroke in the browser does."""
    play.painter.set_state({"ink": memoryview(pack_region(hole))})


def press(play: Playground, button) -> None:
    button.click()
    assert play.wait(20)
