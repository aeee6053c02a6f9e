"""How much faster many connections are than one: 500 photos from a server with 50 ms latency.

    python benchmarks/download.py [--photos 500] [--workers 16] [--latency 0.05]

The server runs in a process of its own, so that its work does not slow the client down. Prints one
line of JSON: seconds with one worker and with many (best of `--repeats`), and their ratio.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "data"))
SIDE = 320


def jpeg(seed: int) -> bytes:
    """A photo of about 50 KB, as those of COCO."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize((SIDE, SIDE), Image.BICUBIC).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def serve(photos: int, latency: float, pipe: Connection) -> None:
    """Serve until the pipe says so."""
    from faulty_server import FaultyServer

    contents = {f"{number}.jpg": jpeg(number % 8) for number in range(photos)}
    with FaultyServer(contents, latency=latency) as server:
        pipe.send([server.url(name) for name in contents])
        pipe.recv()


def seconds(urls: list[str], workers: int) -> float:
    """Fetch everything into a new folder."""
    from messi_lib.data.coco_export import check_photo
    from messi_lib.data.download import Job, fetch_all

    check = partial(check_photo, width=SIDE, height=SIDE)
    with tempfile.TemporaryDirectory() as folder:
        jobs = [Job(url, Path(folder) / f"{n}.jpg", check) for n, url in enumerate(urls)]
        start = time.perf_counter()
        outcome = fetch_all(jobs, workers)
        took = time.perf_counter() - start
    if len(outcome.fetched) != len(jobs):
        raise ValueError(f"{len(outcome.failed)} photos failed: {outcome.failed[0][1]}")
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    os.environ["no_proxy"] = "127.0.0.1"
    context = get_context("spawn")
    pipe, far = context.Pipe()
    process = context.Process(target=serve, args=(options.photos, options.latency, far))
    process.start()
    urls = pipe.recv()
    seconds(urls[:8], 2)  # imports, first connections
    many = min(seconds(urls, options.workers) for _ in range(options.repeats))
    one = seconds(urls, 1)
    pipe.send("done")
    process.join()
    result = {"photos": options.photos, "workers": options.workers, "latency": options.latency}
    result |= {"serial_s": round(one, 2), "parallel_s": round(many, 2)}
    print(json.dumps(result | {"ratio": round(many / one, 4), "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
