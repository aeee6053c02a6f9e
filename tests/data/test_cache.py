"""Cached arrays: made once, whole or absent, remade when what they depend on changes."""

from __future__ import annotations

import ast
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from messi_lib.data import cache

DATA = Path(cache.__file__).parent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path))
    return tmp_path / "cache" / "kind"


def make(version="v1", value=7, shape=(3, 4)):
    calls = []

    def fill(target):
        calls.append(1)
        target[:] = value

    return cache.cached_array("kind", "name", version, shape, fill), len(calls)


def test_made_once_and_again_for_another_version_or_shape(folder):
    array, calls = make()
    assert calls == 1 and (array == 7).all() and array.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
    assert make(value=9)[1] == 0  # there already
    array, calls = make("v2", value=9)
    assert calls == 1 and (array == 9).all()
    assert [path.name for path in folder.glob("*.npy")] == ["name-v2.npy"]  # the old one is gone
    assert make("v2", shape=(5,))[1] == 1


def test_a_failed_or_torn_file_is_never_used(folder):
    def fail(target):
        target[:] = 1
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cache.cached_array("kind", "name", "v1", (3, 4), fail)
    assert not list(folder.glob("*.npy")) and not list(folder.glob(".*"))
    make()
    path = folder / "name-v1.npy"
    for torn in (path.read_bytes()[:-3], b""):
        path.write_bytes(torn)
        array, calls = make()
        assert calls == 1 and (array == 7).all()


def test_two_at_a_time_do_not_make_it_twice(folder):
    """One fills, the other waits for the lock (which is per open file, as between processes)."""
    calls = []

    def fill(target):
        calls.append(1)
        time.sleep(0.3)
        target[:] = 5

    def ask(_):
        return cache.cached_array("kind", "slow", "v1", (2,), fill)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, range(2))
    assert len(calls) == 1 and (first == 5).all() and (second == 5).all()


def test_pitch_hash_covers_every_source_pitch_imports():
    """A module that draws must change the hash, or changed code would meet old pictures."""
    found, queue = set(), ["pitch.py"]
    while queue:
        name = queue.pop()
        found.add(name)
        for node in ast.walk(ast.parse((DATA / name).read_text())):
            module = (
                (getattr(node, "module", None) or "").removeprefix("messi_lib.data").lstrip(".")
            )
            local = isinstance(node, ast.ImportFrom) and (DATA / f"{module}.py").exists()
            if local and f"{module}.py" not in found:
                queue.append(f"{module}.py")
    assert found == set(cache.PITCH_SOURCES)


def test_hashes_tell_contents_apart(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    assert cache.file_hash(tmp_path / "a") != cache.file_hash(tmp_path / "b")
    assert cache.key_of("x", 1) == cache.key_of("x", 1) != cache.key_of("x", 2)
