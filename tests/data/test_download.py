"""Downloads from a server that misbehaves: all that can be had arrives whole, the rest is named."""

from __future__ import annotations

import io
import os
import re
import signal
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from faulty_server import EVER, FaultyServer
from PIL import Image

from messi_lib.data import download, web
from messi_lib.data.coco_export import check_photo
from messi_lib.data.download import Job, fetch_all, progress

WIDTH, HEIGHT = 40, 24
QUICK = {"timeout": 2.0, "backoff": 0.01}


def jpeg(seed: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(autouse=True)
def _direct(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def photos(count: int) -> dict[str, bytes]:
    return {f"{number}.jpg": jpeg(number) for number in range(count)}


def job(source: str | Path, path: Path) -> Job:
    return Job(source, path, partial(check_photo, width=WIDTH, height=HEIGHT))


def whole(folder: Path, contents: dict[str, bytes]) -> bool:
    """The folder holds exactly these files, byte for byte: no part, no temporary file."""
    found = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return found == contents


PASSING = ["500", "truncate", "unframed", "chunked", "reset", "drop", "empty", "html", "429odd"]


@pytest.mark.parametrize("fault", [*PASSING, "redirect"])
def test_a_fault_that_passes_costs_tries_only(fault, tmp_path):
    contents = photos(1)
    with FaultyServer(contents) as server:
        outcome = fetch_all([job(server.url("0.jpg", fault, 2), tmp_path / "0.jpg")], 1, **QUICK)
        assert [len(outcome.fetched), len(outcome.failed)] == [1, 0], outcome.failed
        assert server.count("0.jpg") == (2 if fault == "redirect" else 3)
    assert whole(tmp_path, contents)


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_stays_is_named_and_leaves_nothing(fault, tmp_path):
    with FaultyServer(photos(1)) as server:
        wanted = job(server.url("0.jpg", fault), tmp_path / "0.jpg")
        outcome = fetch_all([wanted], 1, retries=2, **QUICK)
        assert server.count("0.jpg") == 3
    ((failed, reason),) = outcome.failed
    assert failed is wanted and "3 tries" in reason and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "fault, reason, requests",
    [
        ("404", "answers 404", 1),
        ("loop", "redirected without end", 6),
        ("elsewhere", "no address to ask", 1),
        ("429hour", "asks to wait 3600 s", 1),
    ],
)
def test_what_is_hopeless_is_not_asked_for_again(fault, reason, requests, tmp_path):
    with FaultyServer(photos(1)) as server:
        outcome = fetch_all([job(server.url("0.jpg", fault), tmp_path / "0.jpg")], 1, **QUICK)
        assert server.count("0.jpg") == requests
    assert len(outcome.failed) == 1
    assert re.search(reason, outcome.failed[0][1])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["ftp://x/1.jpg", "file:///etc/hostname", "no address", ""])
def test_other_addresses_are_never_opened(source, tmp_path):
    outcome = fetch_all([job(source, tmp_path / "a.jpg")], **QUICK)
    assert "no http or https address" in outcome.failed[0][1]


def test_a_silent_and_a_dripping_server_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "SLOWEST", 3)
    with FaultyServer(photos(2), silence=1.0) as server:
        jobs = [
            job(server.url("0.jpg", "delay"), tmp_path / "0.jpg"),
            job(server.url("1.jpg", "drip"), tmp_path / "1.jpg"),
        ]
        start = time.monotonic()
        outcome = fetch_all(jobs, 2, timeout=0.2, retries=1, backoff=0.01)
        assert time.monotonic() - start < 5
    reasons = [reason for _, reason in outcome.failed]
    assert "Timeout" in reasons[0] and "not complete after" in reasons[1]


def test_retry_after_holds_for_everybody_who_asks_the_server(tmp_path):
    contents = photos(6)
    with FaultyServer(contents, latency=0.1) as server:
        jobs = [job(server.url("0.jpg", "429", 1), tmp_path / "0.jpg")]
        jobs += [job(server.url(name), tmp_path / name) for name in list(contents)[1:]]
        outcome = fetch_all(jobs, 2, **QUICK)
        asked = [moment for moment, _ in server.asked]
        first, again = (moment for moment, path in server.asked if path.endswith("/0.jpg"))
    assert not outcome.failed and whole(tmp_path, contents)
    assert again - first >= 1.0, "Retry-After: 1"
    # The other worker may have one request under way when the server asks for a pause.
    assert sum(first + 0.3 < moment < first + 1.0 for moment in asked) == 0


def test_workers_ask_at_once_and_keep_their_connections(tmp_path):
    contents = photos(32)
    with FaultyServer(contents, together=8) as server:
        jobs = [job(server.url(name), tmp_path / name) for name in contents]
        outcome = fetch_all(jobs, 8, retries=0, **(QUICK | {"timeout": 10.0}))
        assert not outcome.failed and server.most_at_once == 8
        assert len(server.connections) <= 8, "connections are used again"
        assert all("messi" in agent for agent in server.agents)
    assert whole(tmp_path, contents)


def test_one_worker_asks_one_after_another(tmp_path):
    with FaultyServer(photos(5)) as server:
        fetch_all([job(server.url(f"{n}.jpg"), tmp_path / f"{n}.jpg") for n in range(5)], 1)
        assert server.most_at_once == 1


def test_a_second_run_asks_only_for_what_is_missing_or_damaged(tmp_path):
    contents = photos(8)
    with FaultyServer(contents) as server:
        faults = {"3.jpg": "404", "5.jpg": "500"}
        jobs = [
            job(server.url(name, faults.get(name, "ok"), 1), tmp_path / name) for name in contents
        ]
        first = fetch_all(jobs, 4, retries=0, **QUICK)
        assert [Path(j.path).name for j, _ in first.failed] == ["3.jpg", "5.jpg"], "in their order"
        (tmp_path / "1.jpg").write_bytes(contents["1.jpg"][:-200])
        server.asked.clear()
        second = fetch_all(jobs, 4, retries=0, **QUICK)
        assert sorted(path[-5:] for _, path in server.asked) == ["1.jpg", "3.jpg", "5.jpg"]
        assert [len(second.fetched), len(second.reused), len(second.failed)] == [3, 5, 0]
        server.asked.clear()
        assert len(fetch_all(jobs, 4, **QUICK).reused) == 8 and not server.asked
    assert whole(tmp_path, contents)


def test_a_photo_of_another_size_is_refused_at_once(tmp_path):
    with FaultyServer({"0.jpg": jpeg(0, 20, 24)}) as server:
        outcome = fetch_all([job(server.url("0.jpg"), tmp_path / "0.jpg")], **QUICK)
        assert server.count("0.jpg") == 1
    assert "has 20x24 pixels, annotated is 40x24" in outcome.failed[0][1]


def test_a_server_that_is_down_is_not_asked_for_everything(tmp_path):
    with FaultyServer({}) as server:
        gone = server.url("0.jpg")  # nobody listens there any more
    jobs = [job(gone, tmp_path / f"{number}.jpg") for number in range(200)]
    outcome = fetch_all(jobs, 4, retries=1, backoff=0.001, timeout=1.0)
    reasons = [reason for _, reason in outcome.failed]
    assert len(reasons) == 200
    assert sum("not asked for" in reason for reason in reasons) > 150
    assert all("refused" in reason for reason in reasons)


def test_photos_gone_one_by_one_are_no_reason_to_give_up(tmp_path):
    contents = photos(60)
    with FaultyServer(contents) as server:
        jobs = [job(server.url(n, "404" if int(n[:-4]) < 50 else "ok"), tmp_path / n)
                for n in contents]  # fmt: skip
        outcome = fetch_all(jobs, 1, **QUICK)
    assert len(outcome.failed) == 50 and len(outcome.fetched) == 10


def test_files_of_a_folder(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.jpg").write_bytes(jpeg(1))
    (source / "b.jpg").write_bytes(jpeg(2)[:300])
    jobs = [job(source / f"{name}.jpg", tmp_path / "out" / f"{name}.jpg") for name in "abc"]
    outcome = fetch_all(jobs, 2)
    assert whole(tmp_path / "out", {"a.jpg": jpeg(1)})
    (_, damaged), (_, missing) = outcome.failed
    assert "b.jpg cannot be read: damaged" in damaged and missing.endswith("c.jpg is missing")


def test_a_full_disk_ends_the_run_and_leaves_no_part(tmp_path, monkeypatch):
    contents = photos(12)
    real = download.atomic_write

    def full(path: Path, content: bytes) -> Path:
        if len(list(tmp_path.iterdir())) >= 3:
            raise OSError(28, "No space left on device", str(path))
        return real(path, content)

    with FaultyServer(contents) as server:
        jobs = [job(server.url(name), tmp_path / name) for name in contents]
        with monkeypatch.context() as patch:
            patch.setattr(download, "atomic_write", full)
            with pytest.raises(OSError, match="No space left"):
                fetch_all(jobs, 1, **QUICK)
        there = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert len(there) == 3 and whole(tmp_path, {name: contents[name] for name in there})
        assert len(fetch_all(jobs, 4, **QUICK).reused) == 3
    assert whole(tmp_path, contents)


def test_ctrl_c_ends_at_once_with_whole_files_only(tmp_path):
    contents = photos(12)
    with FaultyServer(contents, silence=8) as server:
        faults = ["ok"] * 4 + ["delay"] * 8
        urls = [server.url(name, fault) for name, fault in zip(contents, faults)]

        def interrupt() -> None:
            deadline = time.monotonic() + 20
            while len(server.asked) < 8 and time.monotonic() < deadline:
                time.sleep(0.01)  # four photos are there, four requests are under way
            os.kill(os.getpid(), signal.SIGINT)

        jobs = [job(url, tmp_path / name) for url, name in zip(urls, contents)]
        threading.Thread(target=interrupt).start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            fetch_all(jobs, 4, timeout=60)
        assert time.monotonic() - start < 6, "it did not wait for the silent server"
        assert len(server.asked) == 8
        assert whole(tmp_path, {name: contents[name] for name in list(contents)[:4]})
        again = [job(server.url(name), tmp_path / name) for name in contents]
        outcome = fetch_all(again, 4, **QUICK)
    assert [len(outcome.reused), len(outcome.fetched)] == [4, 8]
    assert whole(tmp_path, contents)


def test_no_thread_is_left_behind(tmp_path):
    contents = photos(6)
    with FaultyServer(contents) as server:
        before = set(threading.enumerate())
        fetch_all([job(server.url(name), tmp_path / name) for name in contents], 3, **QUICK)
        deadline = time.monotonic() + 5
        while set(threading.enumerate()) - before and time.monotonic() < deadline:
            time.sleep(0.01)  # the server's threads end when their connections do
        assert not set(threading.enumerate()) - before


def test_a_proxy_of_the_environment_is_used_and_can_be_excepted(tmp_path, monkeypatch):
    contents = photos(2)
    with FaultyServer(contents) as server:
        with FaultyServer({}) as other:
            dead = other.url("")[: -len("/ok/999/")]
        monkeypatch.setenv("http_proxy", dead)
        outcome = fetch_all([job(server.url("0.jpg"), tmp_path / "0.jpg")], retries=0, **QUICK)
        assert "Proxy" in outcome.failed[0][1] and not server.asked
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        outcome = fetch_all([job(server.url("0.jpg"), tmp_path / "0.jpg")], retries=0, **QUICK)
        assert len(outcome.fetched) == 1
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(ValueError, match="socks5"):
        fetch_all([job("http://127.0.0.1:1/a.jpg", tmp_path / "a.jpg")], retries=0, **QUICK)


@pytest.mark.parametrize(
    "options, error",
    [
        ({"workers": 0}, "workers=0"),
        ({"workers": 1000}, "1 to 128"),
        ({"timeout": 0.0}, "timeout=0"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"retries": -1}, "retries=-1"),
    ],
)
def test_impossible_numbers(options, error, tmp_path):
    with pytest.raises(ValueError, match=error):
        fetch_all([job("http://127.0.0.1:1/a.jpg", tmp_path / "a.jpg")], **options)


def test_two_files_of_one_path_and_no_files(tmp_path):
    same = [job(f"http://127.0.0.1:1/{n}.jpg", tmp_path / "a.jpg") for n in range(2)]
    with pytest.raises(ValueError, match="two files would be written to"):
        fetch_all(same)
    assert fetch_all([]) == download.Outcome()


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys):
    assert list(progress(range(5), 5, "photos", every=0.0)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err.splitlines()[-1] == "photos: 5/5"
    assert list(progress(range(5), 5, "photos", every=60.0)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


def test_the_server_itself_tells_one_by_one_from_at_once():
    """Guards the test of concurrency: requests that come one by one are not let through."""
    import urllib3

    with FaultyServer(photos(1), together=2) as server:
        server._gate = threading.Barrier(2, timeout=0.2)
        assert urllib3.PoolManager().request("GET", server.url("0.jpg", "ok", EVER),
                                             retries=False).status == 500  # fmt: skip
