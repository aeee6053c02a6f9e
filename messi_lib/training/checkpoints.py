"""Weights on disk (safetensors), and the state from which a run goes on.

A file is written under a temporary name, flushed and renamed: a crash leaves the old file or
the new one. When the newest state is unreadable all the same, the one before it is taken.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_bytes
from safetensors.torch import save_file
from torch import Tensor, nn

from ..runs import atomic_path

CHECKSUM = "sha256"  # in the header of files written here


def save_weights(
    path: Path | str,
    state: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    half: bool = True,
) -> Path:
    """Write a state dict as safetensors.

    Args:
        metadata: strings stored in the file's header (by convention `kind` and `config`).
        half: floating-point tensors as float16 (for inference); False keeps their dtype.

    Raises:
        ValueError: non-finite weights, or weights beyond float16's range.
    """
    tensors = {}
    for name, value in state.items():
        value = value.detach().cpu()
        if value.is_floating_point() and half:
            value = value.half()
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{path}: weight {name!r} is not finite: not saved")
        tensors[name] = value.contiguous()
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, {**metadata, CHECKSUM: checksum(tensors)})
        except SafetensorError as error:  # its text is all that is left of the system's error
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    return Path(path)


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and contents, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def load_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(state dict, metadata) of a safetensors file.

    Raises:
        FileNotFoundError: no such file. ValueError: truncated or not a safetensors file, or one
            whose content is not what was written.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"weights {path} are missing: `git checkout -- data/weights` brings back those "
            "that ship, `messi train` and `messi export` make new ones"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no complete safetensors file ({error}): copy it again"
        ) from error
    expected = metadata.pop(CHECKSUM, None)
    if expected is not None and expected != checksum(tensors):
        raise ValueError(f"{path} was changed after it was written (checksum): copy it again")
    return tensors, metadata


def load_foreign(path: Path | str, what: str) -> dict[str, Tensor]:
    """Tensors of another program's checkpoint: .safetensors, or what `torch.save` wrote.

    Args:
        what: what the file should hold, for the messages: "encoder weights".

    Raises:
        FileNotFoundError: no such file. ValueError: it holds no plain tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{what}: {path} is missing: give a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            return load_bytes(path.read_bytes())
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each kind of damage raises a kind of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{what}: {path} cannot be read as weights ({reason}): use .safetensors or a plain "
            "state dict"
        ) from error
    for key in ("state_dict", "model_state", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise ValueError(f"{what}: {path} holds a {type(state).__name__}, not a state dict")
    return state


class StateFiles:
    """The rolling resume states `state-<step>.safetensors` in one folder; the newest are kept.

    Args:
        keep: how many; with two, one may be damaged and the run goes on from the other.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder = folder
        self.keep = keep
        self.ema_step = 0  # of the loaded state: the last step that its average has seen
        self._damaged: set[Path] = set()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("state-*.safetensors"), reverse=True)

    def newest(self) -> Path | None:
        """The newest state, None when there is none."""
        return next(iter(self._paths()), None)

    def save(
        self,
        step: int,
        model: nn.Module,
        ema: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        slow: Mapping[str, nn.Module] | None = None,
        ema_step: int | None = None,
    ) -> Path:
        """Write the state after `step` steps, then delete the oldest ones, and what is damaged.

        Args:
            ema_step: the last step that the average has seen; None: `step`.
            slow: further networks of the run, by name (letters only).

        Raises:
            ValueError: weights that are not finite; nothing is written or deleted.
        """
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in ema.items()}
        for network, module in (slow or {}).items():
            tensors |= {f"{network}.{name}": value for name, value in module.state_dict().items()}
        for index, entry in optimizer.state_dict()["state"].items():
            for name, value in entry.items():
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        path = self.folder / f"state-{step:08d}.safetensors"
        facts = {"kind": "state", "step": str(step), "ema_step": str(ema_step or step)}
        save_weights(path, tensors, facts, half=False)
        # Later than this one can only be what could not be read when the run went on.
        for other in self._damaged | {other for other in self._paths() if other > path}:
            if other != path:
                other.unlink(missing_ok=True)
        self._damaged = set()
        self.prune()
        return path

    def prune(self) -> None:
        """Delete all but the newest `keep` states."""
        for old in self._paths()[self.keep :]:
            old.unlink()

    def load(
        self,
        model: nn.Module,
        ema: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
        slow: Mapping[str, nn.Module] | None = None,
    ) -> int:
        """Restore the newest readable state in place; return its step, 0 when there is none.

        Raises:
            ValueError: the state belongs to another network, or there are states and none can be
                read: beginning anew would be a decision of the user's.
        """
        for path in self._paths():
            try:
                tensors, metadata = load_weights(path)
            except ValueError as error:
                print(f"{error}; trying the state before it", flush=True)
                self._damaged.add(path)
                continue
            if metadata.get("kind") != "state":
                raise ValueError(f"{path} is no state of a training: move it away")
            networks = {"model": model, **(slow or {})}
            parts: dict[str, dict[str, Tensor]] = {"ema": {}, "optimizer": {}}
            parts |= {name: {} for name in networks}
            for name, value in tensors.items():
                part, _, rest = name.partition(".")
                parts[part][rest] = value
            try:
                for name, network in networks.items():
                    network.load_state_dict(parts[name])
            except RuntimeError as error:
                first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
                if len(first) > 160:  # all the names of a large network
                    first = first[:160] + " ..."
                raise ValueError(f"{path} belongs to another network: {first}") from error
            for name, value in parts["ema"].items():
                ema[name].copy_(value)
            state = optimizer.state_dict()
            state["state"] = {}
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            for name, value in parts["optimizer"].items():
                index, _, field = name.partition(".")
                if value.shape == weights[int(index)].shape:  # a moment: laid out as its weight,
                    # because fused kernels walk through both as they lie in memory
                    value = torch.empty_like(weights[int(index)], dtype=value.dtype).copy_(value)
                state["state"].setdefault(int(index), {})[field] = value
            optimizer.load_state_dict(state)
            self.ema_step = int(metadata.get("ema_step", metadata["step"]))
            return int(metadata["step"])
        if self._damaged:
            raise ValueError(
                f"no state in {self.folder} can be read: move them away to begin anew, or copy "
                "them back from where they are whole"
            )
        return 0


def newest_average(folder: Path) -> tuple[dict[str, Tensor], int]:
    """Averaged weights of the newest readable state of a run's folder, and its step.

    Raises:
        FileNotFoundError: no state there. ValueError: none that can be read.
    """
    states = sorted((folder / "checkpoints").glob("state-*.safetensors"), reverse=True)
    for path in states:
        try:
            tensors, metadata = load_weights(path)
        except ValueError as error:
            if path == states[-1]:
                raise
            print(f"{error}; taking the state before it", file=sys.stderr)
            continue
        average = {key[4:]: value for key, value in tensors.items() if key.startswith("ema.")}
        return average, int(metadata["step"])
    raise FileNotFoundError(f"{folder} holds no state: is the run's name right?")


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(
        os.path.getsize(os.path.join(base, name))
        for base, _, names in os.walk(folder)
        for name in names
    )
