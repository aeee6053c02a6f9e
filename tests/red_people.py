"""Pictures with red people, a finder that sees them exactly, and an exact generator."""

import numpy as np
from consistency.toys import GaussianDenoiser
from PIL import Image

from messi_lib.segmentation.infer import Segmentation
from messi_lib.segmentation.people import people_from


def find_red(pixels):
    """An exact person finder for test pictures: people are what is purely red."""
    person = (pixels[..., 0] > 200) & (pixels[..., 1:] < 60).all(-1)
    return Segmentation(person, person.astype(np.float32), people_from(person, 0.0))


def scene(*boxes, height=90, width=120, seed=0):
    """A smooth background with red boxes (top, left, height, width)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 190, (4, 5, 3), dtype=np.uint8)
    pixels = np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    for top, left, h, w in boxes:
        pixels[top : top + h, left : left + w] = (255, 0, 0)
    return pixels


TWO = ((10, 10, 40, 20), (30, 80, 30, 15))


def tools_of_16():
    return {"segmenter": find_red, "denoiser": GaussianDenoiser(image_size=16)}


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path
