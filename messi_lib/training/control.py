"""A run seen from outside: one process may train it at a time, and it can be asked to stop.

SIGTERM, SIGUSR1 (what queues send before a time limit) or a file `STOP` in the run's folder end a
training after the step it is in, with a state saved: exit status 0, and the same command goes on.
Ctrl-C does the same and then interrupts; a second one does not wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

STOP = "STOP"
_POLL_SECONDS = 1.0  # the file is looked for this often: a shared disk has better things to do
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopRequests:
    """What has been asked of this process, between `with` and its end.

    Args:
        folder: of the run; None: no file is looked for.

    Attributes:
        asked: why to stop after this step; None: go on.
        interrupted: whether it was Ctrl-C, so that not only this training but its caller should
            end.
    """

    def __init__(self, folder: Path | None):
        self._file = folder / STOP if folder is not None else None
        self._before: dict[int, object] = {}
        self._looked = 0.0
        self.asked: str | None = None
        self.interrupted = False

    def __enter__(self) -> StopRequests:
        if self._file is not None:
            self._file.unlink(missing_ok=True)  # from a job that has ended
        if threading.current_thread() is threading.main_thread():  # Python's rule for handlers
            self._before = {number: signal.signal(number, self._hear) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: object) -> None:
        name = signal.Signals(number).name
        if number == signal.SIGINT:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
        self.asked = self.asked or name

    def poll(self) -> bool:
        """Whether this process has been asked to stop, by a signal or by the file."""
        now = time.monotonic()
        if self.asked is None and self._file is not None and now - self._looked > _POLL_SECONDS:
            self._looked = now
            if self._file.exists():
                self.asked = f"the file {STOP}"
        return self.asked is not None

    def honoured(self) -> None:
        """The state is saved: the request must not stop the next start too."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder; the system lets go of it when the process ends, however it ends.

    A record lock (`lockf`): it works on network disks too, and worker processes do not inherit it.

    Raises:
        ValueError: another process trains this run.
    """
    path = folder / ".lock"
    with open(path, "a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise ValueError(
                f"run {folder.name!r} is being trained by {file.read().strip() or 'a process'}: "
                f"stop that first (touch {folder / STOP}) or choose another run name"
            ) from None
        except OSError as error:  # a file system without locks
            print(f"{path}: no lock ({error.strerror}): start this run only once", flush=True)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
