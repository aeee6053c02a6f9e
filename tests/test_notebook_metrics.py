"""The numbers that the committed outputs show, and the comparison that judges them."""

from __future__ import annotations

import ast
import re

import pytest
from notebook_files import CHAPTERS, SOLUTIONS, code, each_and_solutions, read, texts
from notebook_metrics import RANGES, complaints


def committed_metrics(path) -> dict:
    """The last dictionary that the notebook shows: its metrics, of the run that was committed."""
    for cell in reversed(code(read(path))):
        if "run.metrics(" in cell.source:
            for text in reversed(texts(cell)):
                found = re.search(r"^\{.*\}$", text.strip(), flags=re.DOTALL)
                if found:
                    return ast.literal_eval(found[0])
    pytest.fail(f"{path.name}: show what `run.metrics(...)` returns, readers want to see it")


@each_and_solutions
def test_the_committed_numbers_are_in_their_ranges(path):
    assert not complaints(committed_metrics(path), path.stem, "laptop")


def test_every_notebook_has_its_ranges():
    assert list(RANGES) == [*CHAPTERS, SOLUTIONS.stem]
    for name, lines in RANGES.items():
        for metric, spans in lines.items():
            numbers = [s for s in spans if isinstance(s, tuple)]
            assert all(low <= high for low, high in numbers), f"{name}: {metric}"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"photos": 6}, "photos is 6, expected 7 in smoke"),
        ({"share_untouched": 0.5}, "share_untouched is 0.5, expected 0.87 to 0.93 in smoke"),
        ({"seconds_per_photo": float("nan")}, "seconds_per_photo is nan, expected 0 to 3600"),
        ({"photos": "7"}, "photos is '7', expected 7"),
        ({"new": 1}, "new is not in notebook_metrics.py"),
    ],
)
def test_a_wrong_number_is_named(change, complaint):
    right = {"photos": 7, "people_found": 8, "people_replaced": 8, "share_untouched": 0.9,
             "seconds_per_photo": 1.0}  # fmt: skip
    assert complaints(right, "00_start_here", "smoke") == []
    (found,) = complaints(right | change, "00_start_here", "smoke")
    assert found.startswith(complaint)
    del right["photos"]
    assert complaints(right, "00_start_here", "smoke") == ["photos is missing"]


def test_a_number_of_one_profile_belongs_to_no_other():
    inception = {"extractor": "inception", "fid_inception_40_steps": 120.0}
    found = complaints(inception, "04_fid", "smoke")
    assert "extractor is 'inception', expected 'random-conv' in smoke" in found
    assert "fid_inception_40_steps is not in notebook_metrics.py" in found
