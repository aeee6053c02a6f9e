"""`messi doctor`: does this machine have what the project needs, and if not, what to do.

Two halves: `collect` looks at the machine and guesses nothing; `judge` turns the facts into
findings and touches nothing, so that tests can show it any machine.

torch and torchvision are imported in a process of their own: a pair from different indexes (a CPU
torch beside a CUDA torchvision) dies at import with "operator torchvision::nms does not exist", and
the doctor must live to say so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from . import runs

OK, WARNING, ERROR = "ok", "warning", "error"
PYTHONS = ((3, 11), (3, 14))
SHOWN = ("torch", "torchvision", "timm", "numpy", "scipy", "pillow", "opencv-python-headless",
         "pycocotools", "safetensors", "papermill", "jupyterlab", "anywidget", "tyro")  # fmt: skip
WEIGHTS = {
    "segmenter.safetensors": "messi train segmentation --profile overnight --run segmenter",
    "generator.safetensors": "messi train consistency --profile overnight --run generator",
}
MIN_FREE_GB = 2.0

# Runs in a fresh interpreter; prints one JSON object as its last line.
_PROBE = """
import importlib.util, json, runpy
found = {}
try:
    for name in ("torch", "torchvision"):  # read, not imported: the import may fail
        folder = importlib.util.find_spec(name).submodule_search_locations[0]
        found[name] = str(runpy.run_path(folder + "/version.py")["__version__"])
    import torch
    found["threads"] = torch.get_num_threads()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found["gpus"] = [torch.cuda.get_device_name(i) for i in range(gpus)]
    import torchvision
    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
except Exception as error:
    found["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


@dataclass
class Facts:
    """What there is on this machine."""

    python: tuple[int, int]
    versions: dict[str, str | None]  # installed version of each package in SHOWN; None: absent
    pins: dict[str, str]  # version that requirements.txt asks for
    torch: dict  # what the probe found: torch, torchvision (versions), gpus, threads, error
    device: str  # what `runs.device()` chooses, or why it cannot
    attention: tuple[str, str]  # backend and why
    free_gb: dict[str, float]  # folder -> free space of its disk
    caches: dict[str, float] = field(default_factory=dict)  # folder -> size in MB
    weights: dict[str, float | None] = field(default_factory=dict)  # file -> MB; None: missing


@dataclass(frozen=True)
class Finding:
    """One line of the report; `remedy` says what to do when the level is not ok."""

    level: str
    what: str
    remedy: str = ""


# --- looking ------------------------------------------------------------------------------------


def collect() -> Facts:
    """Look at this machine: seconds, nothing written, nothing downloaded."""
    torch = probe_torch()
    usable = "error" not in torch
    return Facts(
        python=sys.version_info[:2],
        versions={name: _version(name) for name in SHOWN},
        pins=read_pins(runs.root() / "requirements.txt"),
        torch=torch,
        device=_device() if usable else "unknown: torch cannot be used",
        attention=_attention() if usable else ("none", "torch cannot be used"),
        free_gb={str(path): _free_gb(path) for path in (runs.runs_dir(), runs.cache_dir())},
        caches={str(path): folder_mb(path) for path in cache_folders()},
        weights={name: _file_mb(runs.weights_dir() / name) for name in WEIGHTS},
    )


def probe_torch(code: str = _PROBE) -> dict:
    """What a fresh interpreter says about torch and torchvision; `error` if it cannot use them."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"error": lines[-1]}


def read_pins(path: Path) -> dict[str, str]:
    """`name -> version` of the pins in a requirements file; empty when the file is missing."""
    if not path.is_file():
        return {}
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", path.read_text(), flags=re.MULTILINE)
    return dict(found)


def cache_folders() -> list[Path]:
    """Folders that hold downloads and derived files, whoever makes them."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    torch_home = Path(os.environ.get("TORCH_HOME") or home / "torch")
    return [runs.cache_dir(), runs.runs_dir(), torch_home / "hub", home / "huggingface"]


def folder_mb(folder: Path) -> float:
    """Size of the files below `folder` in MB; 0 when it is missing."""
    total = 0
    for base, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(base, name)
            if not os.path.islink(path):
                total += os.path.getsize(path)
    return total / 1e6


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device() -> str:
    try:
        return str(runs.device())
    except ValueError as error:
        return f"unknown: {error}"


def _attention() -> tuple[str, str]:
    from .consistency.attention import backend_report

    return backend_report()


def _free_gb(folder: Path) -> float:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e9


def _file_mb(path: Path) -> float | None:
    return path.stat().st_size / 1e6 if path.is_file() else None


# --- judging ------------------------------------------------------------------------------------


def local_tag(version: str | None) -> str:
    """Build of a version: `cu130` in 2.13.0+cu130, empty in 2.13.0."""
    return (version or "").partition("+")[2]


def judge_torch(found: dict) -> list[Finding]:
    """Do torch and torchvision belong together? They must come from the same index."""
    reinstall = (
        "install both from one index: `uv pip install --reinstall torch torchvision`, or for a "
        "machine without a GPU `TORCH=cpu make env`"
    )
    tags = local_tag(found.get("torch")), local_tag(found.get("torchvision"))
    names = f"torch {found.get('torch')}, torchvision {found.get('torchvision')}"
    if "error" in found:
        error = found["error"]
        if "torchvision::nms" in error or (all(tags) and tags[0] != tags[1]):
            return [Finding(ERROR, f"{names}: builds from different indexes ({error})", reinstall)]
        what = f"torch and torchvision cannot be used: {error}"
        return [Finding(ERROR, what, "make the environment: `make env`")]
    if tags[0] != tags[1]:
        builds = " and ".join(tag or "no tag" for tag in tags)
        return [Finding(ERROR, f"{names}: builds from different indexes ({builds})", reinstall)]
    major, minor = (int(part) for part in found["torch"].split(".")[:2])
    if major == 2 and not found["torchvision"].startswith(f"0.{minor + 15}."):
        return [Finding(ERROR, f"{names}: torchvision 0.{minor + 15} belongs to it", reinstall)]
    return [Finding(OK, f"{names}: same build ({tags[0] or 'untagged'})")]


def judge(facts: Facts) -> list[Finding]:
    """The report's lines. An ERROR means that something needed does not work."""
    found = []
    version_text = ".".join(map(str, facts.python))
    if PYTHONS[0] <= facts.python <= PYTHONS[1]:
        found.append(Finding(OK, f"Python {version_text}"))
    else:
        low, high = (".".join(map(str, pair)) for pair in PYTHONS)
        remedy = f"use Python {low} to {high}: make env PYTHON=python{low}"
        found.append(Finding(ERROR, f"Python {version_text} is not supported", remedy))
    found += judge_torch(facts.torch)
    found += _judge_packages(facts)
    gpus = facts.torch.get("gpus") or []
    if facts.device.startswith("unknown"):
        found.append(Finding(ERROR, f"device {facts.device}", "set MESSI_DEVICE=cpu or unset it"))
    elif gpus or facts.device != "cpu":
        found.append(Finding(OK, f"device {facts.device} ({', '.join(gpus) or 'no GPU seen'})"))
    else:
        threads = facts.torch.get("threads", "?")
        found.append(Finding(OK, f"device cpu, {threads} threads: profiles smoke and laptop"))
    backend, reason = facts.attention
    slow = backend == "none" or (bool(gpus) and backend == "math")
    remedy = "update the GPU driver, or train in half precision" if slow else ""
    found.append(Finding(WARNING if slow else OK, f"attention: {backend} ({reason})", remedy))
    for name, size in facts.weights.items():
        if size is None:
            remedy = f"`git checkout -- data/weights`, or make it: `{WEIGHTS[name]}`"
            found.append(Finding(ERROR, f"weights {name} are missing", remedy))
        else:
            found.append(Finding(OK, f"weights {name}, {size:.1f} MB"))
    for folder, free in facts.free_gb.items():
        little = free < MIN_FREE_GB
        remedy = "delete old runs, or point MESSI_RUNS and MESSI_DATA to a larger disk"
        level = WARNING if little else OK
        found.append(Finding(level, f"{free:.0f} GB free for {folder}", remedy if little else ""))
    for folder, size in facts.caches.items():
        found.append(Finding(OK, f"{size:.0f} MB in {folder}"))
    return found


def _judge_packages(facts: Facts) -> list[Finding]:
    missing = [name for name, installed in facts.versions.items() if installed is None]
    found = []
    if missing:
        what = f"not installed: {', '.join(missing)}"
        found.append(Finding(ERROR, what, "make the environment: `make env`"))
    installed = {name: v for name, v in facts.versions.items() if v is not None}
    other = [
        f"{name} {v} (pinned {facts.pins[name]})"
        for name, v in installed.items()
        if name in facts.pins and v.partition("+")[0] != facts.pins[name]
    ]
    if other:
        what = f"other versions than pinned: {', '.join(other)}"
        found.append(Finding(WARNING, what, "make the environment again: `make env`"))
    rest = ", ".join(f"{name} {v}" for name, v in installed.items() if not name.startswith("torch"))
    return [*found, Finding(OK, rest)]


def status(findings: list[Finding]) -> int:
    """Exit status: 0 when everything needed works (warnings included), else 2."""
    return 2 if any(f.level == ERROR for f in findings) else 0


def render(findings: list[Finding]) -> str:
    """One line per finding, the remedy behind an arrow below it, and a closing line."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8} {finding.what}")
        if finding.remedy:
            lines.append(f"{'':<8} -> {finding.remedy}")
    counts = {level: sum(f.level == level for f in findings) for level in (ERROR, WARNING)}
    if counts[ERROR]:
        lines.append(f"{counts[ERROR]} thing(s) must be repaired before all commands work.")
    else:
        lines.append(f"Everything needed works ({counts[WARNING]} warning(s)).")
    return "\n".join(lines)


def doctor() -> int:
    """Print the report and return the exit status."""
    findings = judge(collect())
    print(render(findings))
    return status(findings)
