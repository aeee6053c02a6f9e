"""Files from the network or from a folder: many at once, each whole or not there at all.

Servers answer late, break off, ask to wait or have lost a photo. What can be had arrives checked
and under its name by a rename; the rest is listed with its reason. Files that are there already and
pass their check are not asked for again, so that running it again goes on.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from tqdm import tqdm

from messi_lib.data.web import Lasting, Passing, Stopped, Web
from messi_lib.runs import atomic_write

T = TypeVar("T")
MOST_WORKERS = 128
HOPELESS = 20  # so many files in a row beyond reach: the network or the server is down


@dataclass(frozen=True)
class Job:
    """One file to fetch.

    Args:
        source: http(s) address, or the path of a file to copy.
        path: where it goes; its folder is made.
        check: gets the content; raises OSError if it is damaged (another try may help), ValueError
            if it is whole but not what was wanted. None: only its length is checked.
    """

    source: str | Path
    path: Path
    check: Callable[[bytes], None] | None = None


@dataclass
class Outcome:
    """What became of the jobs, each list in their order; `failed` holds (job, reason)."""

    fetched: list[Job] = field(default_factory=list)
    reused: list[Job] = field(default_factory=list)
    failed: list[tuple[Job, str]] = field(default_factory=list)


def progress(items: Iterable[T], total: int, what: str, every: float = 30.0) -> Iterator[T]:
    """The items, counted by a bar on terminals, elsewhere by a line each `every` seconds."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, disable=None)
        return
    last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= every:
            last = time.monotonic()
            print(f"{what}: {number}/{total}", file=sys.stderr, flush=True)


def _checked(job: Job, content: bytes) -> bytes:
    try:
        if not content:
            raise OSError("it is empty")
        if job.check is not None:
            job.check(content)
    except OSError as error:
        raise Passing(f"damaged: {error}") from error
    except ValueError as error:
        raise Lasting(str(error)) from error
    return content


def _content(web: Web, job: Job) -> bytes:
    if not isinstance(job.source, Path):
        return web.get(job.source, lambda content: _checked(job, content))
    try:
        return _checked(job, job.source.read_bytes())
    except FileNotFoundError:
        raise Lasting(f"{job.source} is missing") from None
    except (Passing, OSError) as error:
        raise Lasting(f"{job.source} cannot be read: {error}") from error


def _fetch(web: Web, writing: threading.Semaphore, job: Job) -> tuple[str, str]:
    """Do a job. Returns what became of it (reused, fetched, failed, unreachable) and why.

    Raises:
        OSError: the file cannot be written. Stopped: not the time to write any more.
    """
    if job.path.is_file():
        try:
            _checked(job, job.path.read_bytes())
            return "reused", ""
        except (Passing, Lasting, OSError):
            pass  # damaged, or something else of this name: fetched anew
    try:
        content = _content(web, job)
    except Passing as error:
        return "unreachable", str(error)
    except Lasting as error:
        return "failed", str(error)
    with writing:
        if web.stop.is_set():
            raise Stopped
        atomic_write(job.path, content)
    return "fetched", ""


def _answers(web: Web, jobs: list[Job], workers: int) -> Iterator[tuple[int, tuple[str, str]]]:
    """Number and answer of each job as they come; ends early when everything is out of reach."""
    waiting: SimpleQueue = SimpleQueue()
    answers: SimpleQueue = SimpleQueue()
    writing = threading.Semaphore(workers)
    for number in range(len(jobs)):
        waiting.put(number)

    def work() -> None:
        while not web.stop.is_set():
            try:
                number = waiting.get_nowait()
                answer = _fetch(web, writing, jobs[number])
            except (Empty, Stopped):
                return
            except BaseException as error:  # raised again by the main thread
                answer = error
            answers.put((number, answer))

    # Daemons: one that waits for a silent server must not hold up Ctrl-C.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(jobs)))]
    try:
        for thread in threads:
            thread.start()
        beyond_reach = 0
        for _ in jobs:
            number, answer = answers.get()
            if isinstance(answer, BaseException):
                raise answer
            yield number, answer
            if answer[0] != "reused":
                beyond_reach = beyond_reach + 1 if answer[0] == "unreachable" else 0
            if beyond_reach >= max(HOPELESS, 2 * workers):
                return
    finally:
        web.stop.set()
        for _ in range(workers):  # whoever writes ends first; then nobody begins
            writing.acquire()
        writing.release(workers)
        web.close()


def check_numbers(workers: int, timeout: float) -> None:
    """Raise ValueError unless `fetch_all` can work with these."""
    if not 1 <= workers <= MOST_WORKERS:
        raise ValueError(f"workers={workers}: give 1 to {MOST_WORKERS}")
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout={timeout}: give a number of seconds above 0")


def fetch_all(
    jobs: Iterable[Job],
    workers: int = 16,
    *,
    timeout: float = 20.0,
    retries: int = 4,
    backoff: float = 0.5,
    longest_wait: float = 60.0,
    what: str = "photos",
) -> Outcome:
    """Fetch all files, `workers` at once, and tell what became of each.

    A fault that may pass (connection, timeout, broken body, damaged content, 408, 425, 429, 5xx) is
    tried again after `backoff` * 2^n seconds, at random up to half of it sooner, and not before
    `Retry-After`, which holds for everybody who asks that host (see `web`). Files in
    a folder are asked for once. When one after another is beyond reach, the network or the server
    is down: the others are not asked for. After Ctrl-C, or an error, the files that
    have arrived stay, and no part of another.

    Args:
        jobs: each with a path of its own.
        workers: connections, 1 to 128.
        timeout: seconds that a server may be silent, above 0.
        retries: further tries of one file, at least 0.
        backoff: seconds before the second try.
        longest_wait: a server that asks to wait for more seconds is left alone.
        what: what the files are called in the progress.

    Raises:
        ValueError: a number out of range, or two jobs with one path.
        OSError: a file cannot be written: no right, no space.
    """
    jobs = list(jobs)
    check_numbers(workers, timeout)
    if min(retries, backoff, longest_wait) < 0:
        raise ValueError(
            f"retries={retries}, backoff={backoff}, longest_wait={longest_wait}: none is negative"
        )
    taken: set[Path] = set()
    for job in jobs:
        if job.path in taken:
            raise ValueError(f"two files would be written to {job.path}: give each its own")
        taken.add(job.path)
    web = Web(workers, timeout, retries, backoff, longest_wait)
    found: dict[int, tuple[str, str]] = {}
    with closing(_answers(web, jobs, workers)) as answers:
        for number, answer in progress(answers, len(jobs), what):
            found[number] = answer
    last = next(reversed(found.values()), ("", ""))[1]
    outcome = Outcome()
    for number, job in enumerate(jobs):
        kind, reason = found.get(number, ("failed", f"not asked for, after: {last}"))
        if kind in ("fetched", "reused"):
            getattr(outcome, kind).append(job)
        else:
            outcome.failed.append((job, reason))
    return outcome
