"""Images per second on one and two processes, and what a step's time goes to.

    python benchmarks/scaling.py [--steps 40] [--rounds 3] [--profile laptop] [--batch 32]

One and two processes (gloo, one thread each) alternate, so that a machine that is busy for a while
slows both. Prints one JSON line: medians over the rounds, and the split of a step in seconds:
data, forward, backward (with the averaging of gradients over the processes), optimizer, average
(EMA). On a GPU take `--nproc 1 2 4`: NCCL then carries the gradients.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def worker(options: argparse.Namespace) -> None:
    """One training; the first process writes what it measured."""
    import numpy as np

    from messi_lib.consistency.train import train_consistency
    from messi_lib.profiles import ConsistencyConfig, preset
    from messi_lib.runs import Run
    from messi_lib.training.distributed import current

    every = {"log_every": options.steps, "save_every": options.steps + 1}
    config = preset(ConsistencyConfig, options.profile, steps=options.steps, batch=options.batch,
                    edm_fraction=1.0, **every)  # fmt: skip
    rng = np.random.default_rng(0)
    shape = (4 * options.batch, config.image_size, config.image_size, 3)
    photos = rng.integers(0, 255, shape, dtype=np.uint8)
    folder = Path(options.worker)
    warm = preset(ConsistencyConfig, options.profile, steps=3, batch=options.batch, **every)
    train_consistency(Run("warm", warm, folder=folder / "warm"), warm, photos, quiet=True)
    run = Run("timed", config, folder=folder / "timed")
    result = train_consistency(run, config, photos, quiet=True)
    if current().main:
        facts = {"seconds": result.seconds, "split": result.split}
        (folder / "facts.json").write_text(json.dumps(facts))


def measure(processes: int, options: argparse.Namespace) -> dict:
    """Start one training on so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        own = [str(Path(__file__).resolve()), "--worker", folder, "--profile", options.profile]
        own += ["--steps", str(options.steps), "--batch", str(options.batch)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [*launcher, f"--nproc_per_node={processes}", *own]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return json.loads((Path(folder) / "facts.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--nproc", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return
    import torch

    seen: dict[int, list[dict]] = {n: [] for n in options.nproc}
    for _ in range(options.rounds):
        for processes, facts in seen.items():
            facts.append(measure(processes, options))
    images = options.steps * options.batch
    line: dict = {"benchmark": "scaling", "date": str(date.today()), "torch": torch.__version__,
                  "device": "cuda" if torch.cuda.is_available() else "cpu, one thread a process",
                  "profile": options.profile, "batch": options.batch, "steps": options.steps,
                  "rounds": options.rounds}  # fmt: skip
    for processes, facts in seen.items():
        rates = [images / fact["seconds"] for fact in facts]
        split = {name: round(statistics.median(f["split"][name] for f in facts) / options.steps, 5)
                 for name in facts[0]["split"]}  # fmt: skip
        line[f"processes_{processes}"] = {
            "images_per_second": round(statistics.median(rates), 1), "seconds_per_step": split,
        }  # fmt: skip
    first = min(seen)
    pairs = zip(*(seen[n] for n in (first, max(seen))), strict=True)
    line["speedup"] = round(statistics.median(a["seconds"] / b["seconds"] for a, b in pairs), 3)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
