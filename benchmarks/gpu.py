"""Ten minutes on one GPU: what it can do, what training makes of it, and whether all is right.

    python benchmarks/gpu.py --out OUT                # 9 minutes at most, no network, torch >= 2.11
    python benchmarks/gpu.py --out OUT --only peak train:gpu
    python benchmarks/gpu.py --out OUT --quick        # the same code, tiny, on a CPU: does it run?

Appends JSON lines to `OUT/gpu-DATE.jsonl`, each as soon as it is known, and writes samples as
pictures. Copy the file to benchmarks/results, and table.py takes its numbers. The parts, the most
important first (compiling last: it takes minutes, and gets what time is left):

- `peak`, `attention`: the bf16 matrix rate, and which attention kernel runs (gpu_basics.py)
- `train:PRESET`: images a second, memory and share of that rate, from fp32 to recomputation, each
  setting switched on in turn; `compile:PRESET` the same with torch.compile (gpu_training.py)
- `sampling`: images a second at 256 px in 1, 2 and 40 steps (gpu_sampling.py)
- `resume`, `precision`, `learning`: two checks, and a short training that is judged as it goes
  (gpu_learning.py)

Every part has its share of the time, what one leaves goes to those after it; what has no time left
is written as "not measured: no time". Parts run in processes of their own, so that none can take
the others with it. Lines hold `goal` and `reached` where there is a goal (meant for an H200); runs
of `--quick` have none. Exit status: 1 when a part failed, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from record import ROOT, facts, read_lines, reason, tell

sys.path.insert(0, str(ROOT))  # a machine that was lent has not installed the library

# Parts that share a process, and their share of the time.
PLAN: list[tuple[tuple[str, ...], int]] = [
    (("peak", "attention"), 35),
    (("train:image_a",), 80),
    (("train:gpu",), 60),
    (("sampling",), 50),
    (("train:image_b",), 60),
    (("resume", "precision"), 45),
    (("learning",), 75),
    (("compile:gpu",), 100),
    (("compile:image_a",), 30),
    (("compile:image_b",), 20),
]
PARTS = [part for parts, _ in PLAN for part in parts]
LEAST = 8.0  # seconds below which nothing is begun: a process takes as long to start
NO_TIME = "not measured: no time"


# --- in the process of a part -------------------------------------------------------------------


def peak_of(path: Path, about: dict) -> float | None:
    """The matrix rate that an earlier part of this run has found."""
    lines = read_lines([path]) if path.is_file() else []
    found = [line["peak_flops"] for line in lines
             if line.get("time") == about["time"] and "peak_flops" in line]  # fmt: skip
    return found[-1] if found else None


def run_part(part: str, say: Callable[[dict], dict], out: Path, about: dict,
             deadline: float, quick: bool, path: Path) -> None:  # fmt: skip
    """Measure one part. Imports stand here, so that a package that lacks stops only its part."""
    from messi_lib.runs import device

    place = device()
    kind, _, preset = part.partition(":")
    if kind == "peak":
        from gpu_basics import matrix_peak

        say({"part": part, **matrix_peak(place, quick)})
    elif kind == "attention":
        from gpu_basics import attention_facts

        say({"part": part, **attention_facts(place, quick)})
    elif kind in ("train", "compile"):
        import gpu_training

        rows = gpu_training.ROWS if kind == "train" else {"compile": gpu_training.COMPILED}
        gpu_training.run(preset, rows, say, place, peak_of(path, about), deadline, quick)
    elif kind == "sampling":
        import gpu_sampling

        gpu_sampling.run(say, place, deadline, quick)
    else:
        import gpu_learning

        if kind == "learning":
            gpu_learning.learning(say, out, deadline, quick)
        else:
            say({"part": part, **getattr(gpu_learning, kind)(quick)})


def work(options: argparse.Namespace) -> int:
    """What a process does: its parts, one after the other."""
    about, failed = json.loads(options.about), 0
    path = options.out / f"gpu-{about['date']}.jsonl"

    def say(line: dict) -> dict:
        nonlocal failed
        failed += "failed" in line
        return tell({"benchmark": "gpu", **about, **line}, path)

    for part in options.only:
        began = time.time()
        if began > options.deadline:
            say({"part": part, "result": NO_TIME})
            continue
        try:
            run_part(part, say, options.out, about, options.deadline, options.quick, path)
        except Exception as error:  # the others are worth measuring
            say({"part": part, "failed": reason(error)})
        print(f"{part}: {time.time() - began:.0f} s", file=sys.stderr, flush=True)
    return 1 if failed else 0


# --- in the process that was called -------------------------------------------------------------


def schedule(wanted: list[str], quick: bool) -> list[tuple[tuple[str, ...], int]]:
    """The processes to start, with their shares; a quick run needs only one, and one compile."""
    plan = [(tuple(part for part in parts if part in wanted), share) for parts, share in PLAN]
    plan = [(parts, share) for parts, share in plan if parts]
    if not quick:
        return plan
    left_out = {"compile:image_a", "compile:image_b"}
    return [(tuple(p for parts, _ in plan for p in parts if p not in left_out), 1)]


def start(parts: tuple[str, ...], seconds: float, about: dict,
          options: argparse.Namespace) -> int | None:  # fmt: skip
    """Run parts in a process for so long at most; its exit status, or None when it was stopped."""
    command = [sys.executable, str(Path(__file__).resolve()), "--out", str(options.out)]
    command += ["--about", json.dumps(about), "--deadline", str(time.time() + 0.95 * seconds)]
    command += ["--only", *parts, *(["--quick"] if options.quick else [])]
    environment = {**os.environ, "MESSI_DEVICE": "cpu" if options.quick else "cuda"}
    if "resume" in parts:
        environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it cuBLAS is not repeatable
    # A session of its own: whoever compiles has helpers, which end with it.
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # it ends with this process
    try:
        return child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        signal.signal(signal.SIGTERM, before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for lines and pictures")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all parts together")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART",
                        help=", ".join(PARTS))  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="tiny sizes on a CPU")
    parser.add_argument("--about", help=argparse.SUPPRESS)  # given to the processes of the parts
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.about:
        return work(options)
    end = time.time() + 60 * options.minutes
    import torch

    if not options.quick and not torch.cuda.is_available():
        print("gpu.py: there is no GPU here: --quick tries the code on a CPU", file=sys.stderr)
        return 2
    about = facts("cpu" if options.quick else "cuda")
    if options.quick:
        about |= {"device": "cpu", "quick": True}
    path = options.out / f"gpu-{about['date']}.jsonl"
    plan = schedule(options.only, options.quick)
    status = 0
    for index, (parts, share) in enumerate(plan):
        left = end - time.time()
        seconds = left * share / sum(share for _, share in plan[index:])
        code = start(parts, seconds, about, options) if seconds >= LEAST else None
        if code == 0:
            continue
        line = {"benchmark": "gpu", **about, "part": " ".join(parts)}
        if code is None:
            what = f"; stopped after {seconds:.0f} s" if seconds >= LEAST else ""
            tell(line | {"result": NO_TIME + what}, path)
        else:
            status = 1
            if code not in (0, 1):  # 1: its lines say what failed
                tell(line | {"failed": f"exit status {code}"}, path)
    return status


if __name__ == "__main__":
    sys.exit(main())
