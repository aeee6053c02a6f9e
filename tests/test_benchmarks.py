"""The benchmarks: the README's table follows from the results, the scripts run, shares are right.

Nothing here measures: sizes are tiny, and times are not looked at.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _scripts_find_each_other():
    """As when one of them is called: Python looks in its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield


@pytest.fixture
def table():
    import table

    return table


def call(script: str, *arguments: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, FOLDER / script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def lines_of(path: Path) -> list[dict]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def write(path: Path, *lines: dict) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


# --- the table ----------------------------------------------------------------------------------


def test_the_readme_says_what_the_results_say():
    done = call("table.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_table_is_short_and_each_row_has_its_cells(table):
    made = table.block(sorted((FOLDER / "results").glob("*.jsonl")))
    rows = [line for line in made.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(table.ROWS) <= 16
    assert all(row.count("|") == 6 for row in rows)


def data_line(speed: int, **more: object) -> dict:
    return {"benchmark": "data", "feed_warm": speed, "gain": 2.0, "device": "a machine", **more}


def test_the_newest_result_wins(table, tmp_path):
    one = write(
        tmp_path / "z.jsonl",
        data_line(111, date="2026-01-02", time="10:00:00"),
        data_line(222, date="2026-01-01", time="23:00:00"),
    )
    two = write(tmp_path / "a.jsonl", data_line(333, date="2026-01-02", time="11:00:00"))
    old = write(tmp_path / "b.jsonl", data_line(444, date="2026-01-02"))  # of that day, no time
    made = table.block([one, two, old])
    assert "| 333 images/s" in made and "(benchmarks/results/a.jsonl)" in made
    assert "[2026-01-02]" in made and "| a machine |" in made
    assert not any(f"| {speed} " in made for speed in (111, 222, 444))


def test_what_failed_was_tried_or_is_missing_is_not_measured(table, tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        data_line(111, date="2026-01-01", failed="ValueError: no"),
        data_line(222, date="2026-01-02", quick=True),
    )
    path.write_text(path.read_text() + '{"benchmark": "data", "feed_wa')  # cut off
    rows = [line for line in table.block([path]).splitlines() if line.startswith("|")][2:]
    assert len(rows) == 16 and all("| not measured | - | - | - |" in row for row in rows)


def test_a_result_without_torchmetrics_keeps_the_row_of_pytorch_fid(table, tmp_path):
    fid = {
        "benchmark": "fid", "date": "2026-01-01", "ratio_at_1000": 40.0, "equal": True,
        "torchmetrics_at_1000": "not measured: torchmetrics is not installed", "results": [],
        "others": {"n": 1000, "kid": 0.5, "prdc": 0.25},
    }  # fmt: skip
    made = table.block([write(tmp_path / "a.jsonl", fid)])
    assert "| 40 times as fast, the same number | pytorch-fid |" in made
    assert "| FID of the same images | not measured |" in made
    assert "| 0.8 s for 1,000 images |" in made
    later = fid | {"date": "2026-01-02", "torchmetrics_at_1000": 20.0}
    made = table.block([write(tmp_path / "a.jsonl", fid, later)])
    assert "| FID of the same images | 20 times as fast | torchmetrics |" in made


def test_the_ring_is_that_of_the_plain_arms(table, tmp_path):
    def arm(ring: float, **options: object) -> dict:
        change = {"ring": {"percent": -20.0, "interval": [-30.0, -10.0]}}
        return {"arm": options, "ring": ring, "against_first": change}

    rows = [
        arm(5.0, solver="replacement"),
        arm(9.0, solver="replacement", blind=True),
        arm(4.0, solver="conditional"),
        arm(8.0, solver="conditional", steps=40),
    ]
    line = {"benchmark": "replace", "date": "2026-01-01", "table": "coco", "rows": rows}
    made = table.block([write(tmp_path / "a.jsonl", line)])
    assert "| 4.0 (-20 %, 95 %: -30 to -10) | 5.0 with the older solver |" in made


def gpu_line(**more: object) -> dict:
    run = {"date": "2026-01-02", "time": "10:00:00", "device": "NVIDIA H200"}
    return {"benchmark": "gpu", **run, **more}


def training(preset: str, row: str, share: float, gb: float, rate: float, **more: object) -> dict:
    return gpu_line(
        part="training", preset=preset, row=row, utilisation=share, reserved_gb=gb,
        images_per_second=rate, history={"images_per_second": 27.8, "device": "H100"}, **more,
    )  # fmt: skip


def test_a_gpu_run_shows_its_best_rows(table, tmp_path):
    old = {"date": "2026-01-01"}
    path = write(
        tmp_path / "gpu.jsonl",
        training("image_a", "bf16", 0.9, 10.0, 99.0, **old),
        training("image_a", "bf16", 0.35, 55.0, 30.0),
        training("image_a", "compile", 0.45, 50.0, 40.5),
        training("image_a", "recomputation", 0.30, 24.0, 28.0),
        training("gpu", "bf16", 0.41, 40.0, 120.0),
        gpu_line(part="training", preset="gpu", row="compile", result="not measured: no time"),
        gpu_line(part="sampling", preset="gpu", steps=2, images_per_second=80.4),
        gpu_line(part="sampling", preset="gpu", steps=1, images_per_second=160.0),
        gpu_line(part="resume", passed=True),
        gpu_line(part="precision", passed=False),
    )
    made = table.block([path])
    assert "| `image_a` 45 %, `gpu` 41 % | goal: 40 % | NVIDIA H200 |" in made
    assert "| 40.5 images/s (compile) | before: 27.8 on an H100 |" in made
    assert "| 24 GB at 28.0 images/s (recomputation) |" in made
    assert "| `gpu` 80 images/s |" in made
    assert "| resume yes, precision no |" in made


def test_writing_keeps_the_rest_of_the_readme(table, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    arguments = ["--readme", readme, "--results", FOLDER / "results"]
    assert call("table.py", "--check", *arguments).returncode == 1
    assert call("table.py", *arguments).returncode == 0
    assert call("table.py", "--check", *arguments).returncode == 0
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith(f"{table.END}\nafter\n")
    assert "old" not in text.split(table.BEGIN)[1].split("|")[0]
    assert list(tmp_path.iterdir()) == [readme]


@pytest.mark.parametrize("text", ["", "{0}{0}{1}", "{1}{0}", "{0}"])
def test_a_readme_without_its_markers_is_told_in_one_line(table, text):
    with pytest.raises(ValueError, match="README.md needs one <!-- measured -->"):
        table.replaced(text.format(table.BEGIN, table.END), "")


# --- bench.py -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_comparisons_run(tmp_path):
    out = tmp_path / "bench.jsonl"
    done = call("bench.py", "--quick", "--only", "unet", "fid", "data", "maskrcnn", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line["benchmark"]: line for line in lines_of(out)}
    assert list(lines) == ["unet_step", "fid", "data", "maskrcnn"]
    for line in lines.values():
        assert line["quick"] and line["device"].startswith("1 CPU thread, no GPU")
        assert {"date", "time", "torch", "commit", "took_seconds"} <= line.keys()
    assert lines["unet_step"]["diffusers_over"]["ours"] > 0
    row = lines["fid"]["results"][0]
    assert lines["fid"]["equal"] and {"ours", "pytorch_fid"} <= row["seconds"].keys()
    assert lines["data"]["gain"] > 1
    few = lines["maskrcnn"]["few"]
    assert few["ratio"] > 1 and few["detections"] <= 10 < few["proposals"] <= 100


def test_a_comparison_that_fails_does_not_stop_the_others(monkeypatch, tmp_path, capsys):
    import bench

    def broken(quick: bool) -> dict:
        raise ArithmeticError("no\nmore")

    monkeypatch.setitem(bench.BENCHMARKS, "unet", ("unet_step", broken))
    monkeypatch.setitem(bench.BENCHMARKS, "data", ("data", lambda quick: {"gain": 3}))
    monkeypatch.setenv("MESSI_DEVICE", "cpu")
    out = tmp_path / "bench.jsonl"
    arguments = ["bench.py", "--only", "unet", "data", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert bench.main() == 1
    first, second = lines_of(out)
    assert first["failed"] == "ArithmeticError: no" and second["gain"] == 3
    assert capsys.readouterr().out.count("\n") == 2


# --- gpu.py -------------------------------------------------------------------------------------


def test_the_share_of_a_peak():
    from gpu_basics import utilisation

    # The predecessor on an H100: 27.8 images/s, four passes of 2,239 GFLOP, 989 TFLOP/s.
    assert utilisation(27.8, 2239e9, 4, 989e12) == pytest.approx(0.2517, abs=1e-4)
    assert utilisation(10, 1e12, 4, 40e12) == 1


def test_operations_of_a_pass():
    from gpu_basics import forward_flops

    from messi_lib.profiles import ConsistencyConfig, preset

    image_a = forward_flops(preset(ConsistencyConfig, "image_a"))
    assert image_a == pytest.approx(2239e9, rel=1e-3)
    # One level, one block, attention to 64 positions: the difference attention makes, by hand.
    one = preset(ConsistencyConfig, "smoke", image_size=8, patch=1, gate=False, channel_mult=(1,),
                 num_head_channels=32)  # fmt: skip
    attending, blind = (
        forward_flops(dataclasses.replace(one, attention_resolutions=rates))
        for rates in ((1,), (64,))
    )
    channels, positions, blocks = 32, 64, 3  # one on the way down, two on the way up
    products = 2 * 2 * positions**2 * channels
    projections = 2 * positions * channels * 4 * channels
    assert attending - blind == blocks * (products + projections)


def test_rows_switch_on_one_thing_after_the_other():
    import gpu_training

    rows = list(gpu_training.ROWS.values())
    for before, after in zip(rows[:3], rows[1:4]):
        changed = {k for k in before | after if before.get(k) != after.get(k)}
        assert len(changed) == 1 or changed == {"precision", "tf32"}
    config = gpu_training.config_of("image_a", quick=False)
    parts = gpu_training.with_settings(config, gpu_training.ROWS["two parts"])
    assert (parts.microbatch, parts.channels_last, parts.precision) == (8, True, "bf16")
    twice = gpu_training.with_settings(config, gpu_training.ROWS["recomputation"])
    assert twice.checkpoint_rates == (1, 2, 4, 8, 16, 32) and twice.microbatch == 0
    assert gpu_training.with_settings(config, gpu_training.COMPILED).compile


def test_goals():
    import gpu_training

    met = gpu_training.judged("image_a", {"utilisation": 0.40, "reserved_gb": 39.9})
    assert met["reached"] == {"utilisation": True, "reserved_gb": True}
    missed = gpu_training.judged("image_a", {"utilisation": 0.39, "reserved_gb": 40.0})
    assert missed["reached"] == {"utilisation": False, "reserved_gb": False}
    assert gpu_training.judged("gpu", {"utilisation": None, "reserved_gb": 1.0})["goal"] == {}


def test_a_row_that_does_not_fit_is_a_line(monkeypatch):
    import gpu_training
    import torch

    def full(*_: object) -> dict:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")

    monkeypatch.setattr(gpu_training, "pace", full)
    said: list[dict] = []
    place = torch.device("cpu")
    gpu_training.run("gpu", {"bf16": gpu_training.ROWS["bf16"]}, said.append, place, 1e12,
                     time.time() + 60, quick=True)  # fmt: skip
    assert "does not fit: OutOfMemoryError: CUDA out of memory" in said[0]["result"]
    said.clear()
    gpu_training.run("gpu", gpu_training.ROWS, said.append, place, 1e12, 0.0, quick=True)
    assert [line["result"] for line in said] == ["not measured: no time"] * 6


def test_without_time_nothing_is_begun(tmp_path, monkeypatch):
    import gpu

    arguments = ["gpu.py", "--quick", "--out", str(tmp_path), "--minutes", "0"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert gpu.main() == 0
    (path,) = tmp_path.iterdir()
    (line,) = lines_of(path)
    assert line["result"] == "not measured: no time" and line["device"] == "cpu"
    assert {"peak", "sampling", "learning", "compile:gpu"} <= set(line["part"].split())


def test_how_parts_end_is_told(tmp_path, monkeypatch):
    import gpu

    given: list[float] = []
    ends = {"peak": 0, "train:gpu": None, "sampling": 1, "learning": -11}

    def start(parts: tuple[str, ...], seconds: float, *_: object) -> int | None:
        given.append(seconds)
        return ends[parts[0]]

    monkeypatch.setattr(gpu, "start", start)
    monkeypatch.setattr(gpu, "schedule", lambda *_: [((part,), 1) for part in ends])
    arguments = ["gpu.py", "--quick", "--out", str(tmp_path), "--minutes", "4"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert gpu.main() == 1
    assert given == pytest.approx([60, 80, 120, 240], rel=0.05), "what is left goes on"
    (path,) = tmp_path.iterdir()
    late, crashed = lines_of(path)
    assert late["part"] == "train:gpu"
    assert late["result"].startswith("not measured: no time; stopped after ")
    assert crashed["part"] == "learning" and crashed["failed"] == "exit status -11"


def test_a_part_that_takes_too_long_is_stopped(tmp_path):
    import gpu

    options = argparse.Namespace(out=tmp_path, quick=True)
    began = time.time()
    assert gpu.start(("peak",), 0.5, {"date": "2026-01-01", "time": "10:00:00"}, options) is None
    assert time.time() - began < 5
    assert list(tmp_path.iterdir()) == []


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch, capsys):
    import gpu
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path)])
    assert gpu.main() == 2
    assert "there is no GPU here: --quick" in capsys.readouterr().err


@pytest.mark.slow
def test_all_parts_for_a_gpu_run_on_a_cpu(tmp_path):
    done = call("gpu.py", "--quick", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = lines_of(next(tmp_path.glob("gpu-*.jsonl")))
    assert all(line["device"] == "cpu" and line["quick"] for line in lines)
    assert not any("goal" in line or "failed" in line for line in lines)

    by_part: dict[str, list[dict]] = {}
    for line in lines:
        by_part.setdefault(line["part"], []).append(line)
    (peak,), (attention,) = by_part["peak"], by_part["attention"]
    assert peak["peak_flops"] > 0
    assert any("attention" in name for name in attention["operators"])
    assert isinstance(attention["milliseconds"]["math"], float)

    rows = by_part["training"]
    assert {line["preset"] for line in rows} == {"gpu", "image_a", "image_b"}
    assert len(rows) == 3 * 6 + 1, "six rows of each, and one that was compiled"
    for line in rows:
        share = line["images_per_second"] * line["forward_gflop"] * 1e9 * 4 / peak["peak_flops"]
        assert line["utilisation"] == pytest.approx(share, rel=0.02, abs=1e-3)
        assert line["images_at_a_time"] == (1 if line["row"] == "two parts" else 2)
    drawn = {(line["preset"], line["row"], line["steps"]) for line in by_part["sampling"]}
    assert {("gpu", "bf16", n) for n in (1, 2, 40)} <= drawn and len(drawn) == 8

    assert by_part["resume"][0]["bit_for_bit"] and by_part["resume"][0]["passed"]
    assert by_part["precision"][0]["passed"]
    curve = by_part["learning"]
    assert [line["stage"] for line in curve] == ["edm", "edm", "edm", "ect", "ect"]
    assert curve[-1]["kid"] < curve[0]["kid"]
    assert len(list(tmp_path.glob("learning-*.png"))) == len(curve)
