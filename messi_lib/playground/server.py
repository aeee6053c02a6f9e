"""`messi playground`: the playground as an app under Voila, or its notebook in JupyterLab.

Both listen on this machine only, and want a token that only the printed address has.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from .. import runs
from ..notebook_runner.watch import stop_signals
from ..runs import atomic_write

UPLOAD_LIMIT = 200 * 2**20  # bytes of a websocket message; the default, 10 MB, is too few
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
TITLE = "# Playground"


@dataclass(frozen=True)
class Server:
    """A server to be started: what it is called, its command line, and where its page is."""

    name: str
    module: str  # `python -m MODULE --version` shows whether it is installed
    command: Sequence[str]
    environment: dict[str, str]
    place: str  # path of the page


def free_port(wanted: int | None = None) -> int:
    """`wanted`, or any TCP port of the loopback interface that nobody listens on.

    Raises:
        ValueError: somebody listens on the wanted one.
    """
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", "") or error
            raise ValueError(f"port {wanted} is taken ({reason}): choose another") from error
        return probe.getsockname()[1]


def lab(notebook: Path, port: int, token: str) -> Server:
    """JupyterLab for this interpreter, with a notebook opened.

    The token is not in the command line (every user of the machine sees those): it goes by
    environment.
    """
    folder = runs.root() if notebook.is_relative_to(runs.root()) else notebook.parent
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--log-level=WARN"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    command += [f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
    command += ["--ServerApp.port_retries=0"]
    command += [f"--ServerApp.tornado_settings={{'websocket_max_message_size': {UPLOAD_LIMIT}}}"]
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    place = "/lab/tree/" + quote(notebook.relative_to(folder).as_posix())
    return Server("JupyterLab", "jupyterlab", command, {"JUPYTER_TOKEN": token}, place)


def app(folder: Path, port: int, token: str, options: dict[str, str]) -> Server:
    """Voila for this interpreter, with a page that is nothing but the playground.

    Args:
        folder: a private one, where the page's notebook and the configuration with the token are
            written: neither belongs in a command line.
        options: arguments of `Playground`.
    """
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    code = f"from messi_lib.playground.playground import Playground\n\nPlayground({given})"
    page = {
        "cells": [
            {"cell_type": "markdown", "id": "title", "metadata": {}, "source": TITLE},
            {"cell_type": "code", "id": "page", "metadata": {}, "source": code}
            | {"execution_count": None, "outputs": []},
        ],
        "metadata": {"title": "Playground", "kernelspec": KERNEL},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    atomic_write(folder / "playground.ipynb", json.dumps(page))
    settings = {"token": token, "tornado_settings": {"websocket_max_message_size": UPLOAD_LIMIT}}
    atomic_write(folder / "voila.json", json.dumps({"Voila": settings}))
    (folder / "voila.json").chmod(0o600)
    command = [sys.executable, "-m", "voila", str(folder / "playground.ipynb"), "--no-browser"]
    command += ["--template=messi", "--Voila.ip=127.0.0.1", f"--port={port}"]
    command += ["--Voila.port_retries=0", "--Voila.log_level=WARN", "--show_tracebacks=True"]
    paths = [str(Path(__file__).parent), os.environ.get("JUPYTER_PATH", "")]  # the template
    environment = {
        "JUPYTER_PATH": os.pathsep.join(filter(None, paths)),
        "JUPYTER_CONFIG_PATH": os.pathsep.join(
            filter(None, [str(folder), os.environ.get("JUPYTER_CONFIG_PATH", "")])
        ),
    }
    return Server("Voila", "voila", command, environment, "/")


def serve_lab(
    notebook: Path | str | None = None, *, port: int | None = None, browser: bool = True
) -> int:
    """Open the playground's notebook in JupyterLab and stay until Ctrl+C.

    Args:
        notebook: `notebooks/07_playground.ipynb` unless given.
        port: a free one unless given.
        browser: open the default browser as well.

    Returns:
        0 after Ctrl+C (or a termination signal): the server has ended too.

    Raises:
        FileNotFoundError: no such notebook. ValueError: the server does not start.
    """
    path = Path(notebook or runs.root() / "notebooks" / "07_playground.ipynb").resolve()
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run this in a clone of the repository")
    port, token = free_port(port), secrets.token_urlsafe(24)
    return stay(lab(path, port, token), port, token, browser)


def serve(*, port: int | None = None, browser: bool = True, **options: str) -> int:
    """Serve the playground alone, as an app, and stay until Ctrl+C.

    Args:
        port, browser: as `serve_lab`.
        **options: arguments of `Playground`, as text: photo, segmenter, denoiser.

    Returns:
        0 after Ctrl+C (or a termination signal): the server has ended too.

    Raises:
        ValueError: the server does not start.
    """
    port, token = free_port(port), secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="playground-") as folder:
        return stay(app(Path(folder), port, token, options), port, token, browser)


def stay(server: Server, port: int, token: str, browser: bool) -> int:
    """Start a server, say where it is, and end it with Ctrl+C."""
    address = f"http://127.0.0.1:{port}{server.place}?token={token}"
    child = subprocess.Popen(
        server.command,
        env={**os.environ, **server.environment},
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl+C reaches this process alone, which then ends the server
    )
    try:
        with stop_signals():
            wait_until_up(child, server, port)
            print(f"The playground is open at {address}\nCtrl+C ends it.", flush=True)
            if browser:
                webbrowser.open(address)
            code = child.wait()
        raise ValueError(f"{server.name} ended by itself with code {code}: see its message above")
    except KeyboardInterrupt:
        return 0
    finally:
        child.terminate()
        child.wait()


def wait_until_up(
    child: subprocess.Popen, server: Server, port: int, seconds: float = 90.0
) -> None:
    """Return when the server answers: at its login, which runs nothing and needs no token.

    Raises:
        ValueError: it ended, or gave no answer in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise ValueError(
                f"{server.name} did not start (code {child.returncode}): see its message above, "
                f"and whether `python -m {server.module} --version` works"
            )
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/login", timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise ValueError(f"no answer from {server.name} on port {port} in {seconds:.0f} s: try another")
