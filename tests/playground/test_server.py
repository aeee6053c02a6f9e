"""`messi playground` before and beside its servers, which test_app and test_lab start."""

from __future__ import annotations

import ast
import inspect
import os
import signal
import socket
import sys
import time

import nbformat
import pytest
from PIL import Image

from messi_lib.cli import main
from messi_lib.playground import server
from messi_lib.playground.playground import Playground
from messi_lib.playground.server import Server, app, lab, serve_lab

EMPTY = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


def test_a_termination_ends_it_like_ctrl_c():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        with server.stop_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_missing_notebook_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.ipynb is missing"):
        serve_lab(tmp_path / "gone.ipynb", browser=False)


def test_a_taken_port_is_an_error_with_a_remedy(tmp_path):
    notebook = tmp_path / "a.ipynb"
    notebook.write_text(EMPTY)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} is taken .*: choose another"):
            serve_lab(notebook, port=port, browser=False)


def test_a_server_that_does_not_start_is_an_error_at_once(tmp_path, monkeypatch):
    notebook = tmp_path / "a.ipynb"
    notebook.write_text(EMPTY)
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    broken = Server("JupyterLab", "jupyterlab", command, {}, "/")
    monkeypatch.setattr(server, "lab", lambda notebook, port, token: broken)
    with pytest.raises(ValueError, match=r"did not start \(code 3\).*jupyterlab --version"):
        serve_lab(notebook, browser=False)


def test_no_token_in_a_command_line(tmp_path):
    """Every user of a machine sees those."""
    notebook = tmp_path / "a notebook.ipynb"
    for one in (lab(notebook, 1234, "s3cret"), app(tmp_path, 1234, "s3cret", {})):
        assert not any("s3cret" in word for word in one.command)
        assert any("127.0.0.1" in word for word in one.command), "this machine only"
    assert (tmp_path / "voila.json").stat().st_mode & 0o077 == 0, "nobody else reads it"
    assert lab(notebook, 1234, "").place == "/lab/tree/a%20notebook.ipynb"


def test_the_apps_page_is_a_notebook_with_the_options_of_the_command(tmp_path):
    photo = "it's a photo.jpg"
    app(tmp_path, 1234, "token", {"photo": photo, "run": "mine"})
    page = nbformat.read(tmp_path / "playground.ipynb", as_version=4)
    nbformat.validate(page)
    call = ast.parse(page.cells[-1].source).body[-1].value
    assert call.func.id == "Playground"
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    assert given == {"photo": photo, "run": "mine"}
    assert given.keys() <= set(inspect.signature(Playground).parameters)


@pytest.fixture
def served(monkeypatch):
    """What `messi playground` would serve."""
    calls = []
    monkeypatch.setattr(server, "serve_lab", lambda **given: calls.append(("lab", given)) or 0)
    monkeypatch.setattr(server, "serve", lambda **given: calls.append(("app", given)) or 0)
    return calls


def test_the_command_serves_the_app_or_the_notebook(served, tmp_path, monkeypatch):
    photo, weights = tmp_path / "a.png", tmp_path / "w.safetensors"
    Image.new("RGB", (9, 9)).save(photo)
    weights.write_bytes(b"")
    assert main(["playground", "--no-browser", "--port", "5000"]) == 0
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                "playground",
                "--photo",
                "a.png",
                "--model",
                "w.safetensors",
                "--segmenter",
                "maskrcnn",
            ]
        )
        == 0
    )
    assert main(["playground", "--lab"]) == 0
    files = {"photo": str(photo), "denoiser": str(weights), "segmenter": "maskrcnn"}
    assert served == [
        ("app", {"port": 5000, "browser": False}),
        ("app", {**files, "port": None, "browser": True}),
        ("lab", {"port": None, "browser": True}),
    ]


def test_the_command_takes_a_run(served, tmp_path, monkeypatch):
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert main(["playground", "--run", "mine"]) == 0
    assert served[0][1]["run"] == str(tmp_path / "mine")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--photo", "gone.jpg"], "gone.jpg"),
        (["--run", "gone"], "there is no run 'gone'"),
        (["--model", "gone.safetensors"], "gone.safetensors is missing"),
        (["--segmenter", "gone.safetensors"], "gone.safetensors is missing"),
        (["--run", "a", "--model", "b"], "give one of them"),
        (
            ["--lab", "--segmenter", "maskrcnn"],
            "--lab opens the notebook as it is: leave segmenter",
        ),
    ],
)
def test_mistakes_are_told_before_anything_starts(served, capsys, arguments, said):
    assert main(["playground", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert served == []
