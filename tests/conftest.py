"""Every test works in folders of its own: nothing is written to `runs/` or `data/cache/`."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # no window, whatever the machine has


# A shell starts background jobs with Ctrl-C ignored, and their children inherit that; some tests
# send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory):
    """Runs and derived data of the whole session go to a temporary folder (see `runs.py`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MESSI_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setenv("MESSI_DATA", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture
def smoke(monkeypatch):
    """Commands take the smallest profile and tell errors in one line."""
    monkeypatch.setenv("MESSI_PROFILE", "smoke")
    monkeypatch.delenv("MESSI_DEBUG", raising=False)


@pytest.fixture(scope="module")
def scripts_find_each_other():
    """As when a benchmark is called: Python looks in its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
        yield
