"""The benchmark for a GPU: its arithmetic, its parts, and how they end; all of it on a CPU."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time

import pytest
from benchmark_scripts import call, lines_of

pytestmark = pytest.mark.usefixtures("scripts_find_each_other")


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
