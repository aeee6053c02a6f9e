"""The kernel's processes: their memory, a polite end for all of them, and no orphans.

Jupyter's interrupt reaches the kernel or its process group. A training that a cell has started as a
program of its own (`python -m torch.distributed.run ...`) lies outside: its workers lead sessions,
an interrupted `subprocess.run` kills only their launcher, and they would go on without a parent.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

# Processes that belong to the one that started them: to end one of them would break it.
_HELPERS = ("from multiprocessing.", "--multiprocessing-fork", "compile_worker", "ipykernel_launch")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
    """Inside, SIGTERM and SIGUSR1 (which batch systems send) count as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # Python allows it nowhere else
        yield
        return
    previous = {s: signal.signal(s, _interrupt) for s in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class KernelWatch:
    """The kernels that this process starts while the watch runs, and all that they start.

    `peak_mb` is the peak of their resident memory. The sum over processes counts pages that they
    share more than once: an upper bound. Whatever is left of them when the watch ends is ended.

    Args:
        interval: seconds between two looks.
    """

    def __init__(self, interval: float = 0.2) -> None:
        import psutil

        self._psutil = psutil
        self._me = psutil.Process()
        self._before = {child.pid for child in self._me.children()}
        self._seen: dict = {}  # one whose parent has ended is found here only
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak_mb = 0.0

    def __enter__(self) -> KernelWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        left = self._alive()
        for process in left:
            self._send(process, signal.SIGTERM)
        self._wait(left, 5)
        self.kill()

    def stop_programs(self, grace: float) -> bool:
        """Ask the programs that a cell has started to end, and wait for them.

        They come before the cell, which would kill them when it is interrupted. On SIGTERM a
        training saves its state and ends in order.

        Args:
            grace: seconds for them.

        Returns:
            whether there were any.
        """
        trainings, launchers = self._programs()
        for process in trainings:
            self._send(process, signal.SIGTERM)
        self._wait(trainings, grace)
        self._wait(launchers, 5)  # they notice, and the cell may print how it went
        return bool(trainings)

    def interrupt(self) -> None:
        """SIGINT to the kernels: KeyboardInterrupt in the running cell."""
        for kernel in self._kernels():
            self._send(kernel, signal.SIGINT)

    def kill(self) -> None:
        """End at once what did not end when it was asked to."""
        for process in self._alive():
            self._send(process, signal.SIGKILL)

    def _kernels(self) -> list:
        children = [c for c in self._me.children() if c.pid not in self._before]
        return [c for c in children if "ipykernel_launcher" in self._command(c)]

    def _alive(self) -> list:
        """Kernels and all that they have started, as far as it has not ended."""
        for kernel in self._kernels():
            self._seen[kernel] = None
            with contextlib.suppress(self._psutil.Error):  # it may just have ended
                self._seen.update(dict.fromkeys(kernel.children(recursive=True)))
        return [process for process in list(self._seen) if not self._ended(process)]

    def _programs(self) -> tuple[list, list]:
        """The innermost programs below the kernels, and those that have started them.

        Torchrun's workers are asked to stop, not torchrun itself, which gives them 30 seconds. A
        forked process has its parent's command line and is part of the same program.
        """
        alive = self._alive()
        commands = {process.pid: self._command(process) for process in alive}
        parents = {}
        for process in alive:
            with contextlib.suppress(self._psutil.Error):
                parents[process.pid] = process.ppid()
        programs = {
            pid
            for pid, command in commands.items()
            if pid in parents
            and command != commands.get(parents[pid])
            and not any(helper in command for helper in _HELPERS)
        }
        outer = set()
        for pid in programs:
            while (pid := parents.get(pid)) is not None and pid not in outer:
                outer.add(pid)
        inner = [process for process in alive if process.pid in programs - outer]
        return inner, [process for process in alive if process.pid in programs & outer]

    def _sample(self) -> None:
        while not self._stop.wait(self._interval):
            total = 0
            for process in self._alive():
                with contextlib.suppress(self._psutil.Error):
                    total += process.memory_info().rss
            self.peak_mb = max(self.peak_mb, total / 2**20)

    def _wait(self, processes: list, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not all(map(self._ended, processes)):
            time.sleep(0.05)

    def _command(self, process) -> str:
        try:
            return " ".join(process.cmdline())
        except self._psutil.Error:
            return ""

    def _ended(self, process) -> bool:
        try:
            return process.status() == self._psutil.STATUS_ZOMBIE or not process.is_running()
        except self._psutil.Error:
            return True

    def _send(self, process, number: int) -> None:
        with contextlib.suppress(self._psutil.Error):
            process.send_signal(number)
