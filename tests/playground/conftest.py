"""One Chromium for all browser tests, and the folder where their screenshots are kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

PATIENCE = 120_000  # milliseconds: other work may be using the machine


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright absent: the playground was NOT tried in a browser"
    )
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("chromium absent: the playground was NOT tried in a browser")
    with api.sync_playwright() as playwright:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
        running = playwright.chromium.launch(
            executable_path=executable, args=arguments, timeout=PATIENCE
        )
        yield running
        running.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """`runs/playground` of the repository: here people look, so it is no temporary folder."""
    folder = Path(__file__).resolve().parents[2] / "runs" / "playground"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
