"""What every line of a benchmark says about where it comes from, and how such lines are kept.

A result is one JSON object on a line of a file in `results/`; `table.py` reads the newest ones.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def commit() -> str:
    """The short hash of the checkout, with "+changes" where files differ from it; or "unknown".

    Results and the table made from them are no changes: they cannot change what is measured.
    """
    looked = ["git", "status", "--porcelain", "--", ".", ":!benchmarks/results", ":!README.md"]
    try:
        answers = [
            subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
            for command in (["git", "rev-parse", "--short", "HEAD"], looked)
        ]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answers[0].strip() + ("+changes" if answers[1].strip() else "")


def device_text(kind: str) -> str:
    """The GPU's name, or the number of threads of the CPU.

    Args:
        kind: "cuda" or "cpu".
    """
    import torch

    if kind == "cuda":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    gpu = "no GPU used" if torch.cuda.is_available() else "no GPU"
    return f"{threads} CPU thread{'s' if threads > 1 else ''}, {gpu}"


def facts(kind: str = "cpu") -> dict[str, str]:
    """Date and time (UTC), device, version of PyTorch and commit."""
    import torch

    now = datetime.now(UTC)
    return {
        "date": f"{now:%Y-%m-%d}",
        "time": f"{now:%H:%M:%S}",
        "device": device_text(kind),
        "torch": torch.__version__,
        "commit": commit(),
    }


def tell(line: dict, path: Path | None = None) -> dict:
    """Print a line and append it to a file: at once, so that a process that is killed loses none.

    Returns:
        The line.
    """
    text = json.dumps(line)
    print(text, flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text + "\n")
    return line


def reason(error: BaseException) -> str:
    """An error as one line of text."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:300]


def read_lines(paths: list[Path]) -> list[dict]:
    """All lines of result files, oldest first, each with the `file` it stands in.

    A line without a time counts as the first of its day; a line that was cut off is left out.
    """
    found = []
    for path in sorted(paths):
        for text in path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append({**json.loads(text), "file": path.name})
    return sorted(found, key=lambda line: (line.get("date", ""), line.get("time", "")))
