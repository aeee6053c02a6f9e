"""To the Hub and back: a server on this machine plays it, `huggingface_hub` is the real one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import huggingface_hub.constants
import pytest
import torch

from messi_lib.consistency.hub import from_pretrained, push_to_hub, save_pretrained
from messi_lib.consistency.sampling import sample_multistep, step_sigmas
from messi_lib.training.checkpoints import load_weights

from .played_hub import FILES, TOKEN, Hub, error_of, images, point_to, snippet
from .toys import tiny_denoiser


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
