"""The Frechet distance beside those of pytorch-fid and torchmetrics: the same number, how much
sooner?

    OMP_NUM_THREADS=1 python benchmarks/fid.py [--n 200 1000 3000] [--rounds 3]

Prints one line of JSON. In every round, for every number of images, all compute the distance of the
same two sets of 2,048 features, one after the other: ours from the features, the others from means
and covariances that they get for nothing (torchmetrics' `FrechetInceptionDistance` has seen the
features before the clock starts, through a `feature` module that hands them on). `ratio` is the
median over the rounds of pytorch-fid's to ours, in wall time; `torchmetrics` has its own. Where
that package is not installed its place says so: it is no dependency. Kinds of features: `iso`, all
directions alike; `relu`, variances like 1/i and cut off at zero, as those of photos; `steep`,
variances like 1/i^2, once, where the second set is the first doubled and moved, so that the
distance is known and `error` says who is off by how much. `others` are seconds of the numbers that
this library puts beside FID. Threads are those of OMP_NUM_THREADS, on all sides.

pytorch-fid 0.3.0 passes `disp=False` to SciPy's matrix root, which SciPy 1.18 refuses; that
argument is taken off on the way, the root itself is SciPy's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from datetime import date
from importlib.metadata import version

import numpy as np
import scipy
import scipy.linalg
import torch
from pytorch_fid import fid_score
from torch import nn

from messi_lib.evaluation.frechet import frechet_distance, frechet_jackknife
from messi_lib.evaluation.kernel import kid
from messi_lib.evaluation.manifold import prdc
from messi_lib.evaluation.memorisation import audit

try:
    from torchmetrics.image.fid import FrechetInceptionDistance
except ImportError:
    FrechetInceptionDistance = None

DIM = 2048
MATRIX_ROOT = scipy.linalg.sqrtm
ABSENT = "not measured: torchmetrics is not installed"


def features(kind: str, seed: int, n: int) -> np.ndarray:
    """Random features float64 (n, 2048) of one kind; the seeds differ in their draws and shift."""
    draws = np.random.default_rng(seed).standard_normal((n, DIM))
    if kind == "iso":
        return draws + 0.05 * seed
    mixing = np.random.default_rng(0).standard_normal((DIM, DIM)) / DIM**0.5
    deviations = 10 * np.arange(1, DIM + 1) ** (-0.5 if kind == "relu" else -1.0)
    return np.maximum(draws * deviations @ mixing + 0.05 * seed, 0)


def theirs(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
    """pytorch-fid's distance of two (mean, covariance)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # singular matrices, which is what few images give
        return float(fid_score.calculate_frechet_distance(*a, *b))


class Given(nn.Module):
    """Torchmetrics' idea of a network: it is handed features and hands them on."""

    def __init__(self):
        super().__init__()
        self.num_features = DIM

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def prepared(a: np.ndarray, b: np.ndarray) -> FrechetInceptionDistance:
    """Torchmetrics' distance, which has seen both sets and has only to compute."""
    metric = FrechetInceptionDistance(feature=Given())
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    return metric


def ratio(slow: list[float], fast: list[float]) -> dict[str, float | list[float]]:
    """How many times as long, in every round and as their median."""
    each = [one / other for one, other in zip(slow, fast)]
    return {"ratio": round(statistics.median(each), 1), "ratios": [round(r, 1) for r in each]}


def timed(call: Callable[[], object]) -> tuple[object, float]:
    began = time.perf_counter()
    return call(), time.perf_counter() - began


def compare(kind: str, n: int, rounds: int) -> dict[str, object]:
    """The distances of two sets of n, and how long each took."""
    a = features(kind, 1, n)
    b = 2 * a + 0.05 if kind == "steep" else features(kind, 2, n)
    moments = [(values.mean(0), np.cov(values, rowvar=False)) for values in (a, b)]
    seconds: dict[str, list[float]] = {"ours": [], "pytorch_fid": []}
    other = None
    for _ in range(rounds):
        value, took = timed(lambda: frechet_distance(a, b))
        seconds["ours"].append(took)
        wanted, took = timed(lambda: theirs(*moments))
        seconds["pytorch_fid"].append(took)
        if FrechetInceptionDistance is not None:
            other, took = timed(prepared(a, b).compute)
            seconds.setdefault("torchmetrics", []).append(took)
    known: dict[str, object] = {"torchmetrics": ABSENT}
    if other is not None:
        known["torchmetrics"] = {
            **ratio(seconds["torchmetrics"], seconds["ours"]),
            "relative_difference": float(f"{abs(value - float(other)) / value:.2g}"),
        }
    if kind == "steep":  # covariances C and 4C: their trace term is that of (1 - 2)^2 C
        truth = float(np.square(a.mean(0) + 0.05).sum() + a.var(0, ddof=1).sum())
        errors = {"ours": value, "pytorch_fid": wanted}
        known["error"] = {
            name: float(f"{abs(found - truth) / truth:.2g}") for name, found in errors.items()
        }
    return known | {
        "features": kind,
        "n": n,
        "fid": value,
        "relative_difference": float(f"{abs(value - wanted) / wanted:.2g}"),
        "tolerance": 1e-5 if n <= DIM else 1e-9,  # pytorch-fid is the less exact for few images
        "seconds": {name: round(statistics.median(took), 3) for name, took in seconds.items()},
        **ratio(seconds["pytorch_fid"], seconds["ours"]),
    }


def others(n: int) -> dict[str, float]:
    """Seconds of the other numbers for n images on each side, the audit with a quarter held out."""
    a, b = features("relu", 1, n), features("relu", 2, n)
    held = n // 4
    calls = {
        "frechet_jackknife": lambda: frechet_jackknife(a, b),
        "kid": lambda: kid(a, b),
        "prdc": lambda: prdc(a, b),
        "audit": lambda: audit(a, b[held:], b[:held], space="features", train_flipped=b[held:]),
    }
    return {name: round(timed(call)[1], 2) for name, call in calls.items()}


def measure(counts: list[int], kinds: dict[str, int]) -> dict[str, object]:
    """All counts and kinds (with their rounds), and what else an evaluation computes.

    `ratio_at_1000` is the smallest of the kinds' ratios, `torchmetrics_at_1000` likewise.
    """
    fid_score.linalg.sqrtm = lambda matrix, disp=True: (MATRIX_ROOT(matrix), None)
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads:
        torch.set_num_threads(int(threads))  # NumPy and SciPy have read it already
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    results = [compare(kind, n, rounds) for n in counts for kind, rounds in kinds.items()]
    known = [row for row in results if row["n"] == 1000]
    ratios = [row["ratio"] for row in known]
    other = [row["torchmetrics"]["ratio"] for row in known if row["torchmetrics"] != ABSENT]
    return {
        "on": f"random features, d = {DIM}, equal counts",
        "threads": f"{threads} on all sides" if threads else "as many as the libraries take",
        "load": load and round(load, 1),
        "versions": {"torch": torch.__version__, "scipy": scipy.__version__}
        | ({} if FrechetInceptionDistance is None else {"torchmetrics": version("torchmetrics")}),
        "rounds": max(kinds.values()),
        "results": results,
        "equal": all(row["relative_difference"] < row["tolerance"] for row in results),
        "ratio_at_1000": min(ratios, default=None),
        "at_least_30": min(ratios) >= 30 if ratios else None,
        "torchmetrics_at_1000": min(other) if other else ABSENT if known else None,
        "others": {"n": max(counts), **others(max(counts))},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[200, 1000, 3000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    about = {
        "benchmark": "fid",
        "date": str(date.today()),
        "device": f"{os.cpu_count()} CPU cores, no GPU used",
    }
    kinds = {"iso": options.rounds, "relu": options.rounds, "steep": 1}
    print(json.dumps(about | measure(options.n, kinds)), flush=True)


if __name__ == "__main__":
    main()
