"""The benchmarks: the README's table follows from the results, the scripts run, shares are right.

Nothing here measures: sizes are tiny, and times are not looked at.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benchmark_scripts import FOLDER, call, lines_of

pytestmark = pytest.mark.usefixtures("scripts_find_each_other")


@pytest.fixture
def table():
    import table

    return table


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
    assert len(rows) == len(table.ROWS) <= 17
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
    assert len(rows) == len(table.ROWS)
    assert all("| not measured | - | - | - |" in row for row in rows)


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


def test_the_likeness_is_that_of_the_plain_arms(table, tmp_path):
    def arm(kid: float, **options: object) -> dict:
        return {"arm": options, "kid_to_subject": [kid, 0.01]}

    rows = [
        arm(5.0, solver="replacement"),
        arm(9.0, solver="replacement", blind=True),
        arm(4.0, solver="layer"),
        arm(8.0, solver="layer", steps=40),
    ]
    line = {"benchmark": "replace", "date": "2026-01-01", "table": "coco", "rows": rows}
    made = table.block([write(tmp_path / "a.jsonl", line)])
    assert "| 4.000 +- 0.010 | 5.000 +- 0.010 with the older solver |" in made


def test_a_real_subject_is_told_by_photos_that_were_held_out(table, tmp_path):
    def row(value: float, against: str, steps: int, metric: str = "kid") -> dict:
        return {"metric": metric, "against": against, "steps": steps, "value": value, "se": 0.01}

    rows = [
        row(0.001, "floor", 0), row(0.9, "floor", 0, "fid"), row(0.3, "train", 2),
        row(0.4, "holdout", 2), row(0.5, "holdout", 1), row(0.6, "holdout-train", 2),
    ]  # fmt: skip
    kids = {
        "the people themselves": [0.2, 0.02],
        "drawn figure": [7.0, 7.0],
        "subject": [0.1, 0.03],
    }
    parts = {"generator": {"rows": rows}, "layer": {"kid_to_subject": kids}}
    line = {"benchmark": "subject", "date": "2026-01-01", **parts}
    made = table.block([write(tmp_path / "a.jsonl", line)])
    assert "pictures in 2 steps 0.400 +- 0.010; figures in photos 0.100 +- 0.030 |" in made
    assert "| photos of it 0.001 +- 0.010; other people 0.200 +- 0.020 |" in made


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
