"""`messi playground`: the playground's notebook in JupyterLab, on this machine only."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from .. import runs

UPLOAD_LIMIT = 200 * 2**20  # bytes of a websocket message; the default, 10 MB, is too few


def free_port(wanted: int | None = None) -> int:
    """`wanted`, or any TCP port of the loopback interface that nobody listens on.

    Raises:
        ValueError: somebody listens on the wanted one.
    """
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            reason = error.strerror
            raise ValueError(f"port {wanted} is taken ({reason}): choose another") from error
        return probe.getsockname()[1]


def jupyter_command(folder: Path, port: int) -> list[str]:
    """Command line of a JupyterLab for this interpreter that shows `folder`.

    The token is not in it (every user of the machine sees command lines): it goes by environment.
    """
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--log-level=WARN"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    command += [f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
    command += ["--ServerApp.port_retries=0"]
    command += [f"--ServerApp.tornado_settings={{'websocket_max_message_size': {UPLOAD_LIMIT}}}"]
    return command + (["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else [])


def serve(
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
    folder = runs.root() if path.is_relative_to(runs.root()) else path.parent
    place = quote(path.relative_to(folder).as_posix())
    address = f"http://127.0.0.1:{port}/lab/tree/{place}?token={token}"
    child = subprocess.Popen(
        jupyter_command(folder, port),
        env={**os.environ, "JUPYTER_TOKEN": token},
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl+C reaches this process alone, which then ends the server
    )
    try:
        with terminate_as_interrupt():
            wait_until_up(child, port, token)
            print(f"The playground is open at {address}\nCtrl+C ends it.", flush=True)
            if browser:
                webbrowser.open(address)
            code = child.wait()
        raise ValueError(f"JupyterLab ended by itself with code {code}: see its message above")
    except KeyboardInterrupt:
        return 0
    finally:
        child.terminate()
        child.wait()


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Meanwhile SIGTERM raises KeyboardInterrupt like Ctrl+C, so that no server stays behind."""
    if threading.current_thread() is not threading.main_thread():  # signals are not for this one
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def wait_until_up(child: subprocess.Popen, port: int, token: str, seconds: float = 90.0) -> None:
    """Return when the server answers.

    Raises:
        ValueError: it ended, or gave no answer in time.
    """
    deadline = time.monotonic() + seconds
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/status", headers={"Authorization": f"token {token}"}
    )
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise ValueError(
                f"JupyterLab did not start (code {child.returncode}): see its message above, and "
                "whether `python -m jupyterlab --version` works"
            )
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise ValueError(f"no answer from JupyterLab on port {port} in {seconds:.0f} s: try another")
