"""All comparisons that fit into minutes on a CPU, each by ratios measured in one run, in turns.

    make bench                                    # = python benchmarks/bench.py
    python benchmarks/bench.py --only unet fid    # some of them
    python benchmarks/bench.py --quick --out try.jsonl    # do they run? The numbers mean nothing

Prints one JSON line per comparison and appends it to `benchmarks/results/bench-DATE.jsonl`, with
date, device, version of PyTorch and commit; then `make bench` has table.py write the README's
table. What is compared, and how, says the module of each:

- `unet`: a training step of the UNet beside the same network in diffusers (unet_step.py)
- `fid`: the Frechet distance beside those of pytorch-fid and torchmetrics (fid.py)
- `data`: training images from the cache beside reading and cropping photos (data.py)
- `maskrcnn`: the segmenter that ships beside Mask R-CNN (segmentation.py)
- `replace`: `messi replace` from end to end, with its solver beside the older one (replace.py)

A comparison that fails says so in its line, the others go on, and the exit status is 1. On a GPU:
gpu.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from record import RESULTS, ROOT, facts, reason, tell

PHOTO = "data/samples/pitch.jpg"


def unet(quick: bool) -> dict:
    import unet_step

    rounds, batch = (1, 1) if quick else (9, 16)
    return {"batch": batch, "rounds": rounds, **unet_step.compare(rounds, batch, compiled=False)}


def fid(quick: bool) -> dict:
    import fid

    if quick:
        fid.DIM = 64  # instead of 2,048: milliseconds instead of a minute
        return fid.measure([20], {"iso": 1})
    return fid.measure([1000], {"iso": 2, "relu": 2})


def data(quick: bool) -> dict:
    import data

    few = {"size": 64, "seconds": 0.1, "turns": 1, "limit": 32}
    return data.measure(**few) if quick else data.measure()


def maskrcnn(quick: bool) -> dict:
    import segmentation

    if quick:
        return segmentation.against_maskrcnn(1, 64, ("few",))
    return segmentation.against_maskrcnn(4)


def replace(quick: bool) -> dict:
    import replace

    more = ["--people", "largest", *(["--steps", "1", "--draws", "1"] if quick else [])]
    measured = replace.by_solver(ROOT / PHOTO, 1 if quick else 3, *more)
    return {"on": f"the largest person of {PHOTO}, 512x512", **measured}


# By the name on the command line: what its lines are called, and what measures it.
BENCHMARKS: dict[str, tuple[str, Callable[[bool], dict]]] = {
    "unet": ("unet_step", unet),
    "fid": ("fid", fid),
    "data": ("data", data),
    "maskrcnn": ("maskrcnn", maskrcnn),
    "replace": ("replace_command", replace),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--out", type=Path, help="file to append to; default: in results/")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, only to see it run")
    options = parser.parse_args()
    os.environ["MESSI_DEVICE"] = "cpu"  # whatever the machine has
    about = facts() | {"by": "benchmarks/bench.py"} | ({"quick": True} if options.quick else {})
    out = options.out or RESULTS / f"bench-{about['date']}.jsonl"
    failed = 0
    for name in options.only:
        title, measure = BENCHMARKS[name]
        line, began = {"benchmark": title, **about}, time.perf_counter()
        try:
            line |= measure(options.quick)
        except Exception as error:  # whatever it is, the others are worth measuring
            line["failed"] = reason(error)
            failed += 1
        line["took_seconds"] = round(time.perf_counter() - began, 1)
        tell(line, out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
