"""Chapter 00, `notebooks/00_start_here.ipynb`: the whole journey of a photo.

Find people, choose, make holes, generate, put in, save. `replace` does it for one photo and returns
arrays; `replace_folder` does it for files and folders and writes photos, holes, pictures and a
report. Each hole's noise depends on the seed and on where the hole is, not on what else is in the
photo or the batch.
"""

from .candidates import Candidate, close_up
from .fill import BATCH, generate_patches
from .folder import replace_folder
from .people import choose, parse_people
from .photo import Finder, Replacement, finder_for, replace

__all__ = [
    "BATCH",
    "Candidate",
    "Finder",
    "Replacement",
    "choose",
    "close_up",
    "finder_for",
    "generate_patches",
    "parse_people",
    "replace",
    "replace_folder",
]
