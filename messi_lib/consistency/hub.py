"""The generator in the layout of the Hugging Face Hub: a folder of three files, or a repository.

`config.json` says how to build the network, `model.safetensors` holds its weights, and `README.md`
is the model card: what the configuration and the caller say, and nothing else.

Downloads go to the Hub's own cache. `HF_HOME`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` work as
everywhere: `huggingface_hub` reads them when it is imported, so set them before the first call.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .. import runs
from ..profiles import ConsistencyConfig
from ..training.checkpoints import load_weights, save_weights
from .card import model_card
from .denoiser import Denoiser, build_denoiser, config_from_json

KIND = "messi-anything/consistency"
VERSION = 1  # of the layout; higher ones are refused
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
REPO_ID = re.compile(r"[a-z0-9_][\w.-]*/[a-z0-9_][\w.-]*", re.ASCII | re.IGNORECASE)


def save_pretrained(
    denoiser: Denoiser,
    folder: Path | str,
    *,
    half: bool = False,
    repo_id: str | None = None,
    sections: Mapping[str, str] | None = None,
) -> Path:
    """Write the three files; return the folder.

    Args:
        folder: new, empty, or one that this function wrote (its files are replaced).
        half: weights as float16, half the size; else float32, which comes back bit for bit.
        repo_id, sections: of the card, see `model_card`.

    Raises:
        ValueError: a denoiser without configuration or boundary condition, weights that are not
            finite, or a folder that holds something else.
    """
    folder = Path(folder)
    if denoiser.config is None or not denoiser.boundary:
        raise ValueError("no configuration, or boundary=False: build it by build_denoiser(config)")
    if folder.exists():
        found = {path.name for path in folder.iterdir()} if folder.is_dir() else {"a file"}
        if found - {CONFIG, WEIGHTS, CARD}:
            others = ", ".join(sorted(found - {CONFIG, WEIGHTS, CARD})[:3])
            raise ValueError(f"{folder} holds other things ({others}): choose a new folder")
        if CONFIG in found:
            _read_config(folder / CONFIG, str(folder))  # never over another model
    name = repo_id.rpartition("/")[2] if repo_id else folder.resolve().name
    card = model_card(denoiser, name, half=half, repo_id=repo_id, sections=sections)
    fields = runs.to_json(denoiser.config)
    fields["teacher"] = Path(fields["teacher"]).name  # not the folders of this machine
    stored = {"kind": KIND, "format_version": VERSION, **fields}
    # "format" tells other programs whose tensors these are; the rest is what load_denoiser reads
    config = json.dumps(fields, sort_keys=True)
    metadata = {"format": "pt", "kind": "generator", "config": config}
    state = {key: value.float() for key, value in denoiser.state_dict().items()}
    save_weights(folder / WEIGHTS, state, metadata, half=half)
    runs.atomic_write(folder / CARD, card)
    runs.atomic_write(folder / CONFIG, json.dumps(stored, indent=2) + "\n")
    return folder


def _reason(error: BaseException) -> str:
    """The first line of an error that has many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0]


def _fits(value: Any, default: Any) -> bool:
    """Whether a value from JSON has the type of a field's default."""
    if default is None or isinstance(default, tuple):
        numbers = isinstance(value, list) and all(type(item) in (int, float) for item in value)
        return numbers or value is default
    return type(value) is type(default) or (type(default) is float and type(value) is int)


def _read_config(path: Path, where: str) -> dict[str, Any]:
    """The fields of `config.json`. ValueError: no JSON, another kind, or a newer format."""
    try:
        stored = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{where}: {CONFIG} is no JSON ({error}): copy it again") from error
    stored = stored if isinstance(stored, dict) else {}
    kind = stored.pop("kind", None)
    if kind != KIND:
        found = kind or stored.get("model_type") or stored.get("_class_name") or "unknown"
        raise ValueError(f"{where} holds a model of kind {found!r}, not {KIND!r}: choose another")
    version = stored.pop("format_version", None)
    if type(version) is not int or version > VERSION:
        raise ValueError(f"{where} has format version {version}, not {VERSION}: update messi_lib")
    return stored


def _load(folder: Path, where: str) -> Denoiser:
    """The denoiser of a folder; `where` names it in messages (a repository's is in the cache)."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{where} has no {name}: choose what save_pretrained wrote")
    fields = _read_config(folder / CONFIG, where)
    known = {field.name: field.default for field in dataclasses.fields(ConsistencyConfig)}
    wrong = [key for key, value in fields.items() if key in known and not _fits(value, known[key])]
    if wrong:
        raise ValueError(f"{where}: {CONFIG} has values of another type for {wrong[:3]}")
    try:
        config = config_from_json(json.dumps(fields))
        with torch.device("meta"):  # no memory and no random numbers: the file has all weights
            denoiser = build_denoiser(config)
    except Exception as error:  # sizes that make no sense fail in many places
        raise ValueError(f"{where}: {CONFIG} describes no network ({_reason(error)})") from error
    state, metadata = load_weights(folder / WEIGHTS)
    wanted = denoiser.state_dict()
    both = [key for key in wanted if key in state]
    problems = {
        "lacks": wanted.keys() - state.keys(),
        "has unknown": state.keys() - wanted.keys(),
        "has other shapes of": [key for key in both if wanted[key].shape != state[key].shape],
        "has integers in": [key for key in both if not state[key].is_floating_point()],
    }
    said = [f"{what} {', '.join(sorted(keys)[:3])}" for what, keys in problems.items() if keys]
    if said:
        raise ValueError(f"{where}: {WEIGHTS} does not fit {CONFIG}: it {'; '.join(said)}")
    written = json.dumps(fields, sort_keys=True)
    if metadata.get("config", written) != written:  # an interrupted save, or half of a copy
        raise ValueError(f"{where}: {CONFIG} and {WEIGHTS} are of two models: get both again")
    denoiser.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return denoiser.eval().requires_grad_(False)


def _download(repo_id: str, revision: str | None, cache_dir: Path | str | None) -> Path:
    """The folder of the Hub's cache with the configuration and the weights of one commit."""
    from huggingface_hub import constants, errors, snapshot_download

    hub, wanted = constants.ENDPOINT, [CONFIG, WEIGHTS]
    choice = dict(revision=revision, cache_dir=cache_dir)
    try:
        return Path(snapshot_download(repo_id, allow_patterns=wanted, **choice))
    except errors.RepositoryNotFoundError as error:  # missing, private or gated
        raise FileNotFoundError(
            f"{repo_id} is no folder here and no repository on {hub} that you may read: check the "
            "name; for one with restricted access, `hf auth login` or HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(
            f"{repo_id} has no revision {revision!r}: choose another"
        ) from error
    except (OSError, errors.EntryNotFoundError, errors.HTTPError) as error:
        raise FileNotFoundError(
            f"{repo_id} is no folder here, not in the cache, and {hub} does not give it "
            f"({_reason(error.__cause__ or error)}): go online, or give a folder"
        ) from error


def from_pretrained(
    source: Path | str,
    *,
    revision: str | None = None,
    cache_dir: Path | str | None = None,
    device: torch.device | str | None = None,
) -> Denoiser:
    """A generator in eval mode, without gradients, float32.

    Args:
        source: a folder; where there is none of that name, a repository `owner/name` of the Hub.
        revision: branch, tag or commit of a repository; None for the newest of `main`.
        cache_dir: where downloads go; None for the Hub's own cache.
        device: None as `runs.device`.

    Raises:
        FileNotFoundError: no such folder or repository, a file of it is missing, or no network.
        ValueError: another kind of model, a newer format, or weights that do not fit.
    """
    folder = Path(source)
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"{source} is a folder: leave out revision={revision!r}")
    elif folder.exists():
        raise ValueError(f"{source} is a file: give its folder, or read it with load_denoiser")
    elif isinstance(source, str) and REPO_ID.fullmatch(source):
        folder = _download(source, revision, cache_dir)
    else:
        raise FileNotFoundError(f"{source} is no folder here, and no repository id (owner/name)")
    return _load(folder, str(source)).to(device or runs.device())


def push_to_hub(
    denoiser: Denoiser,
    repo_id: str,
    *,
    private: bool = True,
    token: str | None = None,
    message: str = "Upload the generator",
    half: bool = False,
    sections: Mapping[str, str] | None = None,
) -> str:
    """Upload the three files as one commit of `owner/name`, made if need be; return its address.

    Args:
        private: of a new repository. Where a public one is there already, True is an error.
        token: with write access; None for that of `hf auth login` or `HF_TOKEN`.
        message: of the commit. `half` and `sections` are those of `save_pretrained`.

    Raises:
        ValueError: no token, no network, a repository that may not be written, or as there.
    """
    from huggingface_hub import HfApi, constants, errors, get_token

    if not REPO_ID.fullmatch(repo_id):
        raise ValueError(f"repo_id={repo_id!r} is no repository id: give owner/name")
    token = token or get_token()
    if not token:
        raise ValueError("no Hugging Face token: run `hf auth login`, or set HF_TOKEN")
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(denoiser, folder, half=half, repo_id=repo_id, sections=sections)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            # `exist_ok` leaves an existing repository as public as it was
            if private and not api.repo_info(repo_id).private:
                raise ValueError(f"{repo_id} is public: pass private=False, or another name")
            commit = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
        except (OSError, errors.HTTPError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            denied = status in (401, 403, 404)
            advice = "use a token that may write there" if denied else "check the network"
            raise ValueError(
                f"{repo_id} was not written to {constants.ENDPOINT} ({_reason(error)}): {advice}"
            ) from error
    return str(commit.commit_url)
