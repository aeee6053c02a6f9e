"""A local web server whose faults follow from the path, to test downloads with.

`/<fault>/<times>/<name>` shows the fault at the first `times` requests of that path and serves the
content `name` afterwards; `times` of 999 is for ever. The server remembers who asked for what and
when, and how many were answered at once.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EVER = 999


class FaultyServer:
    """Serves `contents` (name -> bytes) on a free port of this machine, in threads.

    Args:
        latency: seconds before each answer.
        silence: seconds of the faults `delay` and `drip`.
        together: hold the answers until so many requests are there (0: do not); requests that are
            left alone for five seconds are answered 500.
    """

    def __init__(
        self,
        contents: dict[str, bytes],
        latency: float = 0.0,
        silence: float = 1.0,
        together: int = 0,
    ):
        self.contents, self.latency, self.silence = contents, latency, silence
        self.asked: list[tuple[float, str]] = []
        self.connections: set[tuple] = set()
        self.agents: set[str] = set()
        self.most_at_once = 0
        self._times: Counter = Counter()
        self._now = 0
        self._lock = threading.Lock()
        self._gate = threading.Barrier(together, timeout=5) if together else None
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, name: str, fault: str = "ok", times: int = EVER) -> str:
        """The address that shows `fault` the first `times` times."""
        return f"http://127.0.0.1:{self._server.server_port}/{fault}/{times}/{name}"

    def count(self, name: str) -> int:
        """How often a content was asked for, whatever came of it."""
        return sum(path.endswith("/" + name) for _, path in self.asked)

    def enter(self, path: str, client: tuple, agent: str) -> int:
        """Note a request; returns how often this path was asked for before."""
        with self._lock:
            self.asked.append((time.monotonic(), path))
            self.connections.add(client)
            self.agents.add(agent)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self._times[path] += 1
            return self._times[path] - 1

    def leave(self) -> None:
        """Note that a request is answered."""
        with self._lock:
            self._now -= 1

    def wait(self) -> bool:
        """Hold a request; False if it was left alone."""
        time.sleep(self.latency)
        if self._gate is None:
            return True
        try:
            self._gate.wait()
        except threading.BrokenBarrierError:
            return False
        return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, address: object) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    owner: FaultyServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        """Answer as the path says."""
        _, fault, times, name = self.path.split("/", 3)
        before = self.owner.enter(self.path, self.client_address, self.headers["User-Agent"])
        try:
            if not self.owner.wait():
                self._reply(500, b"alone")
            elif fault == "ok" or before >= int(times):
                self._reply(200, self.owner.contents[name])
            else:
                getattr(self, "_" + fault)(self.owner.contents[name])
        finally:
            self.owner.leave()

    def _reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _start(self, **headers: str) -> None:
        """An answer whose connection does not outlive it."""
        self.close_connection = True
        self.send_response(200)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    # Each fault gets the content that it withholds.

    def _404(self, body: bytes) -> None:
        self._reply(404, b"gone")

    def _500(self, body: bytes) -> None:
        self._reply(500, b"trouble")

    def _429(self, body: bytes) -> None:
        self._reply(429, b"slowly", Retry_After="1")

    def _429hour(self, body: bytes) -> None:
        self._reply(429, b"slowly", Retry_After="3600")

    def _429odd(self, body: bytes) -> None:
        self._reply(429, b"slowly", Retry_After="later")

    def _truncate(self, body: bytes) -> None:
        """Half of the body, then an orderly end."""
        self._start(Content_Length=str(len(body)))
        self.wfile.write(body[: len(body) // 2])

    def _unframed(self, body: bytes) -> None:
        """Half of the body, and nothing says that there should be more."""
        self._start()
        self.wfile.write(body[: len(body) // 2])

    def _chunked(self, body: bytes) -> None:
        """One chunk of several."""
        self._start(Transfer_Encoding="chunked")
        half = body[: len(body) // 2]
        self.wfile.write(b"%x\r\n%s\r\n" % (len(half), half))

    def _reset(self, body: bytes) -> None:
        """Half of the body, then the connection breaks."""
        self._start(Content_Length=str(len(body)))
        self.wfile.write(body[: len(body) // 2])
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _drop(self, body: bytes) -> None:
        """No answer at all."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _delay(self, body: bytes) -> None:
        """Nothing for a while."""
        time.sleep(self.owner.silence)
        self._reply(200, body)

    def _drip(self, body: bytes) -> None:
        """A byte at a time: never silent for long, never done."""
        self._start(Content_Length=str(len(body)))
        for start in range(200):
            self.wfile.write(body[start : start + 1])
            time.sleep(self.owner.silence / 20)

    def _empty(self, body: bytes) -> None:
        self._reply(200, b"")

    def _html(self, body: bytes) -> None:
        """A page instead of a photo, and no error."""
        self._reply(200, b"<html>please log in</html>", Content_Type="text/html")

    def _redirect(self, body: bytes) -> None:
        self._reply(302, b"", Location=self.path.replace("/redirect/", "/ok/"))

    def _loop(self, body: bytes) -> None:
        self._reply(302, b"", Location=self.path)

    def _elsewhere(self, body: bytes) -> None:
        """A redirect to a file of the client's machine."""
        self._reply(302, b"", Location="file:///etc/hostname")
