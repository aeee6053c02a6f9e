"""The Hub is played by a server on this machine; `huggingface_hub` is the real one."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from messi_lib.consistency.denoiser import load_denoiser
from messi_lib.consistency.hub import (
    KIND,
    VERSION,
    from_pretrained,
    model_card,
    push_to_hub,
    save_pretrained,
)
from messi_lib.consistency.sampling import sample_multistep, step_sigmas
from messi_lib.training.checkpoints import load_weights

from .toys import tiny_denoiser

FILES = ["README.md", "config.json", "model.safetensors"]
TOKEN = "hf_of_the_tests"


class Hub(ThreadingHTTPServer):
    """What `huggingface_hub` needs of the Hub to download, create and commit.

    `repos`: id -> {"private": bool, "commits": [{path: content}, ...]}; all files are regular ones
    (the Hub itself takes weights by another protocol). `log` has every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict] = {}
        self.log: list[str] = []
        self.messages: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def add(self, repo_id: str, folder: Path) -> None:
        """Commit the files of a folder, unconditionally."""
        repo = self.repos.setdefault(repo_id, {"private": False, "commits": []})
        repo["commits"].append({path.name: path.read_bytes() for path in folder.iterdir()})

    @staticmethod
    def sha(number: int) -> str:
        return f"{number:040x}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def answer(self, content: bytes | dict | list, status: int = 200, **headers: str) -> None:
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status: int, code: str = "", message: str = "no") -> None:
        self.answer({"error": message}, status, X_Error_Code=code, X_Error_Message=message)

    def commit_of(self, repo: dict, revision: str) -> int | None:
        """Index of a commit by `main` or its name."""
        names = {Hub.sha(i): i for i in range(len(repo["commits"]))}
        names["main"] = len(repo["commits"]) - 1
        return names.get(revision)

    def do_GET(self):
        self.server.log.append(f"{self.command} {self.path}")
        path = unquote(urlsplit(self.path).path).strip("/")
        api = re.fullmatch(r"api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        resolve = re.fullmatch(r"([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        match = api or resolve
        repo = self.server.repos.get(match[1]) if match else None
        if repo is None:  # the Hub does not tell missing from private
            return self.refuse(401, "RepoNotFound", "Repository not found")
        number = self.commit_of(repo, (api[3] or "main") if api else resolve[2])
        if number is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        files = repo["commits"][number] if repo["commits"] else {}
        if api and api[2] == "tree":
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": blob(content)}
                for name, content in files.items()
            ]
            return self.answer(entries)
        if api:
            info = {"id": api[1], "sha": Hub.sha(number), "private": repo["private"]}
            return self.answer(info | {"siblings": [], "tags": []})
        if resolve[3] not in files:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        content = files[resolve[3]]
        etag = f'"{blob(content)}"'
        self.answer(content, X_Repo_Commit=Hub.sha(number), ETag=etag)

    do_HEAD = do_GET

    def do_POST(self):
        self.server.log.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = unquote(urlsplit(self.path).path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(403, message="the token has no write access")
        if path == "/api/repos/create":
            wish = json.loads(body)
            repo_id = f"{wish['organization']}/{wish['name']}"
            if repo_id in self.server.repos:
                return self.answer({"url": f"{self.server.url}/{repo_id}"}, 409)
            private = wish.get("visibility") == "private" or wish.get("private") is True
            self.server.repos[repo_id] = {"private": private, "commits": []}
            return self.answer({"url": f"{self.server.url}/{repo_id}"})
        if path == "/api/validate-yaml":
            return self.answer({"warnings": [], "errors": []})
        repo_id, action = re.fullmatch(r"/api/models/(\w+/\w+)/(\w+)/main", path).groups()
        commits = self.server.repos[repo_id]["commits"]
        if action == "preupload":
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            files = [{"path": file["path"], **mode} for file in json.loads(body)["files"]]
            return self.answer({"files": files})
        lines = [json.loads(line) for line in body.splitlines()]
        files = dict(commits[-1]) if commits else {}
        for line in lines[1:]:
            assert line["key"] == "file", line["key"]
            files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self.server.messages.append(lines[0]["value"]["summary"])
        commits.append(files)
        sha = Hub.sha(len(commits) - 1)
        self.answer({"commitUrl": f"{self.server.url}/{repo_id}/commit/{sha}", "commitOid": sha})


def blob(content: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_ENDPOINT does when `huggingface_hub` is imported."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The server, with no token of this machine's user and a cache of the test's own."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    constants = huggingface_hub.constants
    point_to(server.url, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "tokens"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    return save_pretrained(tiny_denoiser().eval(), tmp_path / "player")


def images(denoiser) -> torch.Tensor:
    device = next(denoiser.parameters()).device
    assert device.type == "cpu"
    return sample_multistep(denoiser, 2, step_sigmas(2, denoiser), torch.Generator().manual_seed(0))


def edit(folder: Path, **changes) -> None:
    """Change fields of config.json; None removes one."""
    stored = json.loads((folder / "config.json").read_text()) | changes
    stored = {key: value for key, value in stored.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(stored))


def error_of(kind: type[Exception], function, *arguments, **options) -> str:
    """The message of an error; it must have one line."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- folders ------------------------------------------------------------------------------------


def test_a_folder_gives_the_same_images_bit_for_bit(tmp_path):
    denoiser = tiny_denoiser(1, sigma_max=60.0, model_channels=64, channel_mult=(0.5, 1)).eval()
    state = torch.random.get_rng_state()
    assert save_pretrained(denoiser, tmp_path / "new" / "player") == tmp_path / "new" / "player"
    loaded = from_pretrained(tmp_path / "new" / "player", device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state), "loading draws no random numbers"
    assert sorted(os.listdir(tmp_path / "new" / "player")) == FILES
    assert loaded.config == denoiser.config
    assert (loaded.sigma_max, loaded.patch, loaded.gate) == (60.0, 2, True)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(images(loaded), images(denoiser))
    stored = json.loads((tmp_path / "new" / "player" / "config.json").read_text())
    assert stored["kind"] == KIND and stored["format_version"] == VERSION
    direct = load_denoiser(tmp_path / "new" / "player" / "model.safetensors")
    assert torch.equal(images(direct.cpu()), images(denoiser)), "the file serves alone, too"


def test_half_precision_is_half_the_size(tmp_path, folder):
    denoiser = tiny_denoiser().eval()
    save_pretrained(denoiser, tmp_path / "half", half=True)
    state = load_file(tmp_path / "half" / "model.safetensors")
    assert {value.dtype for value in state.values()} == {torch.float16}
    loaded = from_pretrained(tmp_path / "half", device="cpu")
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    for key, value in denoiser.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.half().float()), key
    assert "half precision" in (tmp_path / "half" / "README.md").read_text()
    assert "half precision" not in (folder / "README.md").read_text()


def test_saving_again_replaces_and_anything_else_is_left_alone(tmp_path, folder):
    save_pretrained(tiny_denoiser(7).eval(), folder)
    loaded = from_pretrained(folder, device="cpu")
    assert torch.equal(images(loaded), images(tiny_denoiser(7).eval()))

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    broken = tiny_denoiser()
    next(broken.parameters()).data[0] = float("nan")
    assert "not finite" in error_of(ValueError, save_pretrained, broken, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    (folder / "notes.txt").write_text("mine")
    assert "notes.txt" in error_of(ValueError, save_pretrained, tiny_denoiser(), folder)
    (folder / "notes.txt").unlink()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    assert "'bert'" in error_of(ValueError, save_pretrained, tiny_denoiser(), folder)
    (tmp_path / "file").write_text("")
    assert "choose a new" in error_of(
        ValueError, save_pretrained, tiny_denoiser(), tmp_path / "file"
    )


def test_what_cannot_be_shared_is_refused(tmp_path):
    denoiser = tiny_denoiser()
    denoiser.boundary = False
    assert "boundary=False" in error_of(ValueError, save_pretrained, denoiser, tmp_path / "x")
    denoiser = tiny_denoiser()
    denoiser.config = None
    assert "configuration" in error_of(ValueError, save_pretrained, denoiser, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (dict(kind="somebody/else"), "'somebody/else', not"),
        (dict(kind=None, model_type="gpt2"), "'gpt2', not"),
        (dict(format_version=VERSION + 1), f"format version {VERSION + 1}.*update"),
        (dict(format_version=None), "format version None"),
        (dict(colour="blue"), r"unknown fields \['colour'\]"),
        (dict(image_size="16"), r"another type for \['image_size'\]"),
        (dict(scales="many"), r"another type for \['scales'\]"),
        (dict(gate=1, channel_mult=2), "another type for"),
        (dict(image_size=15), "image_size=15 must be a multiple"),
        (dict(patch=0), "describes no network"),
        (dict(sigma_max=3.0), "config.json and model.safetensors are of two models"),
        # the network of another configuration: 64 channels instead of 32
        (dict(model_channels=64), r"has other shapes of unet\.\S+, unet\.\S+, unet\.\S+$"),
        (dict(num_res_blocks=2), r"it lacks unet\.\S+, .*; has unknown unet\."),
    ],
)  # fmt: skip
def test_a_configuration_that_is_not_right_is_told(folder, changes, told):
    edit(folder, **changes)
    message = error_of(ValueError, from_pretrained, folder)
    assert re.search(told, message) and str(folder) in message


def test_a_damaged_folder_is_told(tmp_path, folder):
    state = load_file(folder / "model.safetensors")
    name, *_ = state
    for changed, told in (
        ({**state, "more": torch.zeros(1)}, "has unknown more"),
        ({key: value for key, value in state.items() if key != name}, f"lacks {name}"),
        ({**state, name: state[name].int()}, f"has integers in {name}"),
    ):
        save_file(changed, folder / "model.safetensors")
        assert told in error_of(ValueError, from_pretrained, folder)
    (folder / "model.safetensors").write_bytes(b"short")
    assert "no complete safetensors" in error_of(ValueError, from_pretrained, folder)
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors" in error_of(FileNotFoundError, from_pretrained, folder)
    (folder / "config.json").write_text("{")
    (folder / "model.safetensors").touch()
    assert "is no JSON" in error_of(ValueError, from_pretrained, folder)
    (folder / "config.json").unlink()
    assert "no config.json" in error_of(FileNotFoundError, from_pretrained, folder)
    assert "revision='v1'" in error_of(ValueError, from_pretrained, folder, revision="v1")
    assert "is a file" in error_of(ValueError, from_pretrained, folder / "model.safetensors")
    for missing in (tmp_path / "nowhere", "nowhere", "./owner/name", "a/b/c"):
        assert "owner/name" in error_of(FileNotFoundError, from_pretrained, missing)


# --- the card -----------------------------------------------------------------------------------


def test_the_card_has_the_header_of_the_hub_and_facts_of_the_configuration(folder):
    _, header, body = (folder / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(header)
    assert told["license"] == "mit" and told["library_name"] == "messi-anything"
    assert told["pipeline_tag"] == "unconditional-image-generation"
    assert "consistency-model" in told["tags"]
    assert re.findall("^#+ .*", body, re.M) == [
        "# player", "## What", "## How to use", "## Architecture", "## Training", "## Limits",
        "## Licence",
    ]  # fmt: skip
    denoiser = tiny_denoiser()
    count = sum(p.numel() for p in denoiser.parameters())
    for fact in (
        f"{count:,} parameters in float32: {count * 4 / 1e6:.1f} MB",
        "16 x 16 pixels", "8 x 8 patches of 2 x 2", "32, 64", "Attention at 4 x 4;",
        "12 steps with batch 8: 96 images", "8 steps EDM, then 4 steps easy", "in 2 stages",
        "radam, learning rate 0.0003", "0.002 to 80, sigma_data 0.5", "No measurement",
    ):  # fmt: skip
        assert fact in body, fact


def test_sections_of_the_caller_stand_before_the_limits_or_in_place_of_ours():
    given = {"Measured": "FID 12.5 {not a field}", "Training": "By hand.", "Limits": "- Many."}
    text = model_card(tiny_denoiser(), "x", sections=given)
    assert re.findall("^## (.*)", text, re.M) == [
        "What", "How to use", "Architecture", "Training", "Measured", "Limits", "Licence",
    ]  # fmt: skip
    assert "FID 12.5 {not a field}" in text and "By hand." in text and "- Many." in text
    assert "steps EDM" not in text and "No measurement" not in text
    for bad in ({"": "x"}, {"two\nlines": "x"}, {"number": 3}):
        assert "heading" in error_of(ValueError, model_card, tiny_denoiser(), "x", sections=bad)


def test_a_diffusion_model_says_that_it_is_one(tmp_path, monkeypatch):
    denoiser = tiny_denoiser(objective="edm")
    text = model_card(denoiser, "x")
    assert "- diffusion-model\n" in text and "many calls" in text
    save_pretrained(denoiser, tmp_path / "x")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(snippet(text), names)
    assert "ode" in names and names["images"].shape == (4, 3, 16, 16)


def test_no_folder_of_this_machine_is_in_the_files(tmp_path):
    teacher = "/somewhere/private/edm.safetensors"
    denoiser = tiny_denoiser(objective="cd", teacher=teacher, scales=(4, 8))
    folder = save_pretrained(denoiser, tmp_path / "x")
    assert all(b"private" not in path.read_bytes() for path in folder.iterdir())
    config = from_pretrained(folder, device="cpu").config
    assert config.teacher == "edm.safetensors" and config.scales == (4, 8)


def snippet(text: str) -> str:
    return re.search("```python\n(.*?)```", text, re.S)[1]


def test_the_example_of_the_card_works_beside_the_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    names: dict = {}
    exec(snippet((folder / "README.md").read_text()), names)
    assert names["images"].shape == (4, 3, 16, 16)
    assert (folder.parent / "samples.png").stat().st_size > 0


# --- the Hub ------------------------------------------------------------------------------------


def test_what_is_pushed_is_what_is_saved_and_comes_back(hub, tmp_path, monkeypatch):
    denoiser = tiny_denoiser(2).eval()
    sections = {"Measured": "Nothing."}
    url = push_to_hub(
        denoiser, "ana/player", token=TOKEN, message="First", half=False, sections=sections
    )
    assert url == f"{hub.url}/ana/player/commit/{Hub.sha(0)}"
    saved = save_pretrained(denoiser, tmp_path / "same", repo_id="ana/player", sections=sections)
    (commit,) = hub.repos["ana/player"]["commits"]
    assert sorted(commit) == FILES
    for name in ("README.md", "config.json"):
        assert commit[name] == (saved / name).read_bytes(), name
    arrived = tmp_path / "arrived.safetensors"  # its header lists the notes in any order
    arrived.write_bytes(commit["model.safetensors"])
    state, notes = load_weights(arrived)
    ours, our_notes = load_weights(saved / "model.safetensors")
    assert notes == our_notes and state.keys() == ours.keys()
    assert all(torch.equal(state[key], ours[key]) for key in ours)
    assert hub.repos["ana/player"]["private"] and hub.messages == ["First"]

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    push_to_hub(tiny_denoiser(3).eval(), "ana/player", half=True)
    newest = from_pretrained("ana/player", device="cpu")
    first = from_pretrained("ana/player", revision=Hub.sha(0), device="cpu")
    assert torch.equal(images(first), images(denoiser))
    assert not torch.equal(images(newest), images(denoiser))


def test_a_program_with_the_variables_of_the_hub_runs_the_example(hub, tmp_path):
    """A process of its own: HF_ENDPOINT and HF_HOME are read at import."""
    denoiser = tiny_denoiser().eval()
    hub.add("ana/player", save_pretrained(denoiser, tmp_path / "a", repo_id="ana/player"))
    text = (tmp_path / "a" / "README.md").read_text()
    program = snippet(text) + "\ntorch.save(images, 'images.pt')\n"
    variables = os.environ | {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "MESSI_DEVICE": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = torch.load(tmp_path / "images.pt", weights_only=True)
    generator = torch.Generator().manual_seed(0)
    expected = sample_multistep(denoiser, 4, step_sigmas(2, denoiser), generator)
    assert torch.equal(made, expected)
    assert (tmp_path / "home" / "hub" / "models--ana--player").is_dir(), "the Hub's own cache"
    assert not any("README" in line for line in hub.log), "the card is not needed"


def test_downloads_go_where_they_are_told_and_happen_once(hub, tmp_path, folder):
    hub.add("ana/player", folder)
    from_pretrained("ana/player", cache_dir=tmp_path / "here", device="cpu")
    assert not (tmp_path / "cache").exists()
    fetched = [line for line in hub.log if line.startswith("GET") and "/resolve/" in line]
    assert len(fetched) == 2
    again = from_pretrained("ana/player", cache_dir=tmp_path / "here", device="cpu")
    assert torch.equal(images(again), images(tiny_denoiser().eval()))
    assert [line for line in hub.log if line.startswith("GET") and "/resolve/" in line] == fetched


def test_a_download_that_fails_is_told_in_one_line(hub, tmp_path, folder, monkeypatch):
    missing = error_of(FileNotFoundError, from_pretrained, "ana/nobody")
    assert "no folder here and no repository" in missing and hub.url in missing
    hub.add("ana/player", folder)
    assert "revision 'v9'" in error_of(
        FileNotFoundError, from_pretrained, "ana/player", revision="v9"
    )
    hub.add("ana/text", tmp_path / "player")
    del hub.repos["ana/text"]["commits"][0]["config.json"]
    assert "ana/text has no config.json" in error_of(FileNotFoundError, from_pretrained, "ana/text")
    assert "ana--" in error_of(ValueError, from_pretrained, "ana--x/player")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    offline = error_of(FileNotFoundError, from_pretrained, "ana/player")
    assert "HF_HUB_OFFLINE" in offline and "not in the cache" in offline
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    from_pretrained("ana/player", device="cpu")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.log)
    from_pretrained("ana/player", device="cpu")
    assert len(hub.log) == asked, "offline, from the cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    point_to("http://127.0.0.1:9", monkeypatch)  # nobody listens there
    from_pretrained("ana/player", device="cpu")  # from the cache
    away = error_of(FileNotFoundError, from_pretrained, "ana/other")
    assert "http://127.0.0.1:9 does not give it (" in away and "go online" in away


def test_an_upload_that_fails_is_told_in_one_line(hub, folder, monkeypatch):
    denoiser = tiny_denoiser()
    message = error_of(ValueError, push_to_hub, denoiser, "ana/player")
    assert "hf auth login" in message and "HF_TOKEN" in message
    assert hub.log == []
    assert "owner/name" in error_of(ValueError, push_to_hub, denoiser, "player", token=TOKEN)
    message = error_of(ValueError, push_to_hub, denoiser, "ana/player", token="hf_other")
    assert "no write access" in message and "use a token" in message
    assert hub.repos == {}

    hub.add("ana/open", folder)
    before = hub.repos["ana/open"]["commits"][:]
    message = error_of(ValueError, push_to_hub, denoiser, "ana/open", token=TOKEN)
    assert "is public: pass private=False" in message
    assert hub.repos["ana/open"]["commits"] == before
    push_to_hub(tiny_denoiser(4), "ana/open", token=TOKEN, private=False)
    assert len(hub.repos["ana/open"]["commits"]) == 2

    point_to("http://127.0.0.1:9", monkeypatch)
    message = error_of(ValueError, push_to_hub, denoiser, "ana/player", token=TOKEN)
    assert "check the network" in message
