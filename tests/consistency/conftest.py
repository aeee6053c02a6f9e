"""A generator in a folder, as it is shared."""

from __future__ import annotations

import pytest

from messi_lib.consistency.hub import save_pretrained

from .toys import tiny_denoiser


@pytest.fixture
def folder(tmp_path):
    """A small generator as `save_pretrained` leaves it."""
    return save_pretrained(tiny_denoiser().eval(), tmp_path / "player")
