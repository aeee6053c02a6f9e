"""Splits: complete, disjoint, of the size asked for, and as stable as sizes allow."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messi_lib.data.splits import SPLITS, ordered, read_split, split

IDS = st.sets(st.integers(0, 10**6), min_size=2, max_size=120)


@settings(max_examples=60, deadline=None)
@given(IDS, st.integers(0, 3), st.integers(0, 100), st.floats(0, 0.9))
def test_parts_are_complete_disjoint_sorted_and_of_their_size(ids, seed, test, val):
    test = min(test, len(ids) - 2)
    try:
        parts = split(ids, seed, test, val)
    except ValueError as error:
        assert "none of" in str(error) and round(val * (len(ids) - test)) == len(ids) - test
        return
    assert tuple(parts) == SPLITS
    assert sorted(sum(parts.values(), [])) == sorted(ids)
    assert all(part == sorted(part) for part in parts.values())
    assert len(parts["test"]) == test and len(parts["val"]) == round(val * (len(ids) - test))
    assert parts["train"], "something to train on"


@settings(max_examples=60, deadline=None)
@given(IDS, st.integers(10**6 + 1, 2 * 10**6), st.integers(0, 20))
def test_one_name_more_moves_at_most_one_across_each_border(ids, new, test):
    test = min(test, len(ids) - 2)
    before, after = split(ids, 0, test, 0.2), split(ids | {new}, 0, test, 0.2)
    moved = {name: (a, b) for a in SPLITS for b in SPLITS if a != b
             for name in set(before[a]) & set(after[b])}  # fmt: skip
    moves = list(moved.values())
    assert moves.count(("test", "val")) + moves.count(("test", "train")) <= 1
    assert moves.count(("val", "train")) + moves.count(("train", "val")) <= 1
    assert ("train", "test") not in moves and ("val", "test") not in moves


def test_order_of_the_names_does_not_matter_and_the_seed_does():
    names = list(range(500))
    assert split(names) == split(names[::-1])
    tests = [set(split(names, seed)["test"]) for seed in (0, 1)]
    assert 5 < len(tests[0] & tests[1]) < 45, "two draws of 100 from 500 share about 20"


def test_the_split_stays_what_it_is():
    """Data sets that exist refer to it: another hash would move test photos into training."""
    assert ordered(range(8)) == [7, 4, 3, 2, 6, 0, 5, 1]
    assert split(range(8), test=2, val=0.34) == {"train": [0, 1, 5, 6], "val": [2, 3],
                                                 "test": [4, 7]}  # fmt: skip
    assert split(["b", "a", "c"], seed=1, test=1, val=0.0)["val"] == []


def test_fewer_names_in_the_same_order_have_the_same_test_names():
    """Why `messi data people --limit` takes photos in this order."""
    names = range(1000)
    some = ordered(names)[:300]
    assert split(some)["test"] == split(names)["test"]


@pytest.mark.parametrize(
    "names, options, error",
    [
        ([1, 1], {"test": 0}, "twice"),
        ([1, 2], {"val": 1.0}, "val=1.0"),
        ([1, 2], {"val": float("nan")}, "val=nan"),
        ([1, 2], {"test": 2}, "test=2: 2 examples"),
        ([1, 2], {"test": -1}, "test=-1"),
        ([1], {"test": 0, "val": 0.9}, "none of 1 is left to train on"),
        ([], {"test": 0}, "none of 0"),
    ],
)
def test_impossible_splits(names, options, error):
    with pytest.raises(ValueError, match=error):
        split(names, **options)


def test_a_split_is_read_back_and_other_files_are_named(tmp_path):
    path = tmp_path / "splits.json"
    with pytest.raises(FileNotFoundError, match="messi data people"):
        read_split(path, "train")
    path.write_text(json.dumps(split(range(10), test=2)))
    assert sorted(sum((read_split(path, part) for part in SPLITS), [])) == list(range(10))
    with pytest.raises(ValueError, match="no list 'trane'"):
        read_split(path, "trane")
    for text in ("no json", "[]", '{"train": 3}', "\xff"):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match=str(path)):
            read_split(path, "train")
