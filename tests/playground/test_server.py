"""`messi playground`: a real JupyterLab starts, answers, and ends with Ctrl+C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from messi_lib.playground import server
from messi_lib.playground.server import serve

EMPTY = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


@pytest.mark.slow
def test_it_prints_an_address_that_answers_and_ends_with_ctrl_c(tmp_path):
    notebook = tmp_path / "a notebook.ipynb"
    notebook.write_text(EMPTY)
    code = (
        "import sys; from messi_lib.playground import serve;"
        "sys.exit(serve(sys.argv[1], browser=False))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(notebook)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path), "JUPYTER_DATA_DIR": str(tmp_path)},
    )
    try:
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/lab/tree/a%20notebook\.ipynb\?\S+", line)
        assert address, line
        with urllib.request.urlopen(address[0], timeout=20) as answer:
            assert answer.status == 200
        contents = re.sub(r"/lab/tree/.*\?", "/api/contents?", address[0])
        with urllib.request.urlopen(contents, timeout=20) as answer:
            assert b"a notebook.ipynb" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(contents.split("?")[0], timeout=20)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(address[0], timeout=5)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


def test_a_termination_ends_it_like_ctrl_c():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        with server.terminate_as_interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_missing_notebook_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.ipynb is missing"):
        serve(tmp_path / "gone.ipynb", browser=False)


def test_a_taken_port_is_an_error_with_a_remedy(tmp_path):
    notebook = tmp_path / "a.ipynb"
    notebook.write_text(EMPTY)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} is taken .*: choose another"):
            serve(notebook, port=port, browser=False)


def test_a_server_that_does_not_start_is_an_error_at_once(tmp_path, monkeypatch):
    notebook = tmp_path / "a.ipynb"
    notebook.write_text(EMPTY)
    broken = [sys.executable, "-c", "raise SystemExit(3)"]
    monkeypatch.setattr(server, "jupyter_command", lambda folder, port: broken)
    with pytest.raises(ValueError, match=r"did not start \(code 3\).*jupyterlab --version"):
        serve(notebook, browser=False)
