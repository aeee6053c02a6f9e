"""Where things live: the repository, data, caches, and one folder per run.

A run folder holds `config.json`, `stats.jsonl`, TensorBoard events, `samples/`, `checkpoints/` and
`metrics.json`. Nothing outside `data/cache` (or `$MESSI_DATA`) and `runs` (or `$MESSI_RUNS`) is
written by the library.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch


def root() -> Path:
    """Folder of the repository: the parent of `messi_lib/`."""
    return Path(__file__).resolve().parents[1]


def data_dir() -> Path:
    """`$MESSI_DATA`, or `data/` in the repository."""
    return Path(os.environ.get("MESSI_DATA") or root() / "data")


def cache_dir() -> Path:
    """Folder for derived files that may be deleted at any time (not created here)."""
    return data_dir() / "cache"


def weights_dir() -> Path:
    """Folder of the weights that ship with the repository."""
    return root() / "data" / "weights"


def samples_dir() -> Path:
    """Folder of the photos that ship with the repository."""
    return root() / "data" / "samples"


def runs_dir() -> Path:
    """`$MESSI_RUNS`, or `runs/` in the repository."""
    return Path(os.environ.get("MESSI_RUNS") or root() / "runs")


def device() -> torch.device:
    """`$MESSI_DEVICE` if set, else CUDA when there is a GPU, else the CPU.

    The first time that it is a GPU, float32 products there may use TF32 from then on.

    Raises:
        ValueError: `$MESSI_DEVICE` is no device.
    """
    name = os.environ.get("MESSI_DEVICE")
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"MESSI_DEVICE={name!r} is no device: use cpu, cuda or cuda:N") from error
    if place.type == "cuda":
        _allow_tf32()
    return place


@functools.cache
def _allow_tf32() -> None:
    """Let matrix products in float32 round their inputs to 10 bits, for a GPU's tensor cores.

    PyTorch lets convolutions do so unasked. Once a process: who sets another precision afterwards,
    as the benchmarks do, keeps it. Never called for the CPU, whose results stay the same bit for
    bit. What it gains has not been measured on a GPU yet.
    """
    torch.set_float32_matmul_precision("high")


def seed_generator(seed: int, *stream: int | str) -> torch.Generator:
    """CPU generator derived from `(seed, *stream)`.

    Equal arguments give equal numbers, different ones independent numbers, so that a step's
    randomness depends on nothing that happened before it: resuming needs no saved RNG state.
    """
    digest = hashlib.sha256(repr((int(seed), *stream)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary name in the same folder; what is written there gets `path`'s name at the end.

    It is flushed to disk first. A reader (or a crash) sees the old file or the new one, never half
    of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def atomic_write(path: Path | str, content: bytes | str) -> Path:
    """Write `content` as `atomic_path` does: all of it or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)


def to_json(value: Any) -> Any:
    """Dataclasses, paths, tuples, tensors and NumPy scalars as plain JSON values; NaN as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, tensors
        return to_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# Settings that say how far, how often and by what means, but not what a run is.
MAY_CHANGE = (
    "steps", "log_every", "save_every", "workers", "snapshots", "disk_budget", "microbatch",
    "checkpoint_rates", "ema_device", "compile", "sample_every", "fid_every", "fid_images",
)  # fmt: skip


class Run:
    """One experiment's folder. Of several processes of a job only the first (`RANK` 0) writes.

    Args:
        name: letters, digits, `-`, `_`, `.`; the folder is `runs_dir()/name` unless given.
        config: dataclass or dict, stored as `config.json`. Re-opening a run that has a state with
            another configuration is an error: a resumed run must be the same run.
        folder: the run's folder itself, instead of `runs_dir()/name`.
        may_change: names of configuration fields that may differ on resume (`steps`, for instance).

    Raises:
        ValueError: an impossible name, or a stored configuration that differs.
    """

    def __init__(
        self,
        name: str,
        config: Any = None,
        *,
        folder: Path | str | None = None,
        may_change: tuple[str, ...] = MAY_CHANGE,
    ):
        if not name or not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
            raise ValueError(f"run name {name!r}: use letters, digits, '-', '_' and '.' only")
        self.name = name
        alone = int(os.environ.get("WORLD_SIZE") or 1) == 1
        self.writes = alone or int(os.environ.get("RANK") or 0) == 0
        self.folder = Path(folder) if folder is not None else runs_dir() / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.samples = self.folder / "samples"
        self.checkpoints = self.folder / "checkpoints"
        self._board = None
        if config is not None:
            fields = dataclasses.fields(config) if dataclasses.is_dataclass(config) else ()
            known = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
            self._check_config(to_json(config), to_json(known), may_change)

    def _check_config(self, config: dict, defaults: dict, may_change: tuple[str, ...]) -> None:
        path = self.folder / "config.json"
        if not path.exists():
            self.keep_config(config)
        elif any(self.checkpoints.glob("state-*.safetensors")):
            # A run of an older version lacks settings that came later: it ran as by their defaults.
            stored = _with_plan(defaults | json.loads(path.read_text()), config)
            changed = sorted(
                key
                for key in stored.keys() | config.keys()
                if stored.get(key) != config.get(key) and key not in may_change
            )
            if changed:
                detail = ", ".join(f"{k}: {stored.get(k)} -> {config.get(k)}" for k in changed)
                raise ValueError(
                    f"run {self.name!r} in {self.folder} was made with another configuration "
                    f"({detail}): choose another run name or delete the folder"
                )

    def keep_config(self, config: Any) -> None:
        """Write `config.json`: at the start of a training, when it holds the folder alone."""
        if self.writes:
            atomic_write(self.folder / "config.json", json.dumps(to_json(config), indent=2) + "\n")

    def log(self, step: int, **stats: float) -> dict:
        """Append one line to `stats.jsonl` (and TensorBoard) and return it."""
        line = to_json({"step": step, "time": round(time.time(), 3), **stats})
        if not self.writes:
            return line
        with open(self.folder / "stats.jsonl", "a+b") as file:
            if file.tell():  # a line that a killed process left half written gets an end
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
                file.write(b"\n" if torn else b"")
            file.write(json.dumps(line).encode() + b"\n")
        board = self._writer()
        for key, value in line.items():
            if key not in ("step", "time") and isinstance(value, (int, float)):
                board.add_scalar(key, value, step)
        return line

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Show uint8 (H, W, 3) in TensorBoard."""
        if self.writes:
            self._writer().add_image(name, pixels, step, dataformats="HWC")

    def _writer(self):
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter  # imports slowly: only when logging

            self._board = SummaryWriter(str(self.folder / "tensorboard"))
        return self._board

    def metrics(self, **values: Any) -> dict:
        """Merge `values` into `metrics.json` and return all metrics."""
        if not self.writes:
            return to_json(values)
        path = self.folder / "metrics.json"
        merged = json.loads(path.read_text()) if path.exists() else {}
        merged.update(to_json(values))
        atomic_write(path, json.dumps(merged, indent=2) + "\n")
        return merged


def _with_plan(stored: dict, config: dict) -> dict:
    """A stored configuration without a plan of its own had its steps for one."""
    if config.get("horizon") and not stored.get("horizon") and "steps" in stored:
        return stored | {"horizon": stored["steps"]}
    return stored


def read_stats(folder: Path | str) -> list[dict]:
    """Lines of a run's `stats.jsonl`; a torn last line (killed while writing) is left out.

    When a run was resumed, steps that were done twice appear once, as done last.
    """
    path = Path(folder) / "stats.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: has this run been started?")
    by_step: dict[int, dict] = {}
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        by_step[entry["step"]] = entry
    return [by_step[step] for step in sorted(by_step)]
