"""`messi` called from Python, and the one line that it complains with."""

from __future__ import annotations

from messi_lib.cli import main


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def complaint(capsys) -> str:
    """The one line on standard error."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("messi: ")
    return lines[0]
