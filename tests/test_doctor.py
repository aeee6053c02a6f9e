"""The doctor's judgement of machines that this one is not, and its look at this one."""

from __future__ import annotations

import sys

import pytest

from messi_lib import doctor
from messi_lib.doctor import ERROR, OK, WARNING, Facts, judge, judge_torch, render, status

GOOD_TORCH = {"torch": "2.13.0+cu130", "torchvision": "0.28.0+cu130", "gpus": [], "threads": 2}


def facts(**changes) -> Facts:
    """A machine on which everything works, with `changes`."""
    good = {
        "python": (3, 11),
        "versions": {"torch": "2.13.0", "torchvision": "0.28.0", "numpy": "2.4.6"},
        "pins": {"torch": "2.13.0", "torchvision": "0.28.0", "numpy": "2.4.6"},
        "torch": GOOD_TORCH,
        "device": "cpu",
        "attention": ("flash", "asked"),
        "free_gb": {"runs": 50.0},
        "caches": {"cache": 12.0},
        "weights": {"segmenter.safetensors": 3.0, "generator.safetensors": 2.0},
    }
    return Facts(**{**good, **changes})


def troubles(made: Facts) -> list[doctor.Finding]:
    """Findings that are not ok; each must say what to do."""
    found = [f for f in judge(made) if f.level != OK]
    assert all(f.remedy for f in found), found
    return found


def test_a_good_machine_has_no_trouble():
    assert troubles(facts()) == []
    assert status(judge(facts())) == 0
    report = render(judge(facts()))
    for shown in ("Python 3.11", "2.13.0+cu130", "numpy 2.4.6", "device cpu", "flash (asked)",
                  "segmenter.safetensors, 3.0 MB", "50 GB free", "12 MB in cache"):  # fmt: skip
        assert shown in report


@pytest.mark.parametrize(
    "found",
    [
        {**GOOD_TORCH, "torch": "2.13.0+cpu",
         "error": "RuntimeError: operator torchvision::nms does not exist"},
        {**GOOD_TORCH, "torch": "2.13.0+cpu"},
        {**GOOD_TORCH, "torch": "2.13.0+cpu", "error": "ImportError: undefined symbol"},
        {**GOOD_TORCH, "torchvision": "0.28.0"},
    ],
)  # fmt: skip
def test_builds_from_different_indexes_are_named(found):
    (finding,) = troubles(facts(torch=found))
    assert finding.level == ERROR
    assert "different indexes" in finding.what and "TORCH=cpu make env" in finding.remedy
    assert status([finding]) == 2


def test_a_torchvision_of_another_release_is_named():
    (finding,) = judge_torch({**GOOD_TORCH, "torchvision": "0.27.1+cu130"})
    assert finding.level == ERROR and "torchvision 0.28 belongs to it" in finding.what


def test_both_builds_for_the_cpu_belong_together():
    cpu = {**GOOD_TORCH, "torch": "2.13.0+cpu", "torchvision": "0.28.0+cpu"}
    assert [f.level for f in judge_torch(cpu)] == [OK]


def test_a_torch_that_cannot_be_imported_is_an_error_with_its_message():
    (finding,) = judge_torch({"error": "ModuleNotFoundError: No module named 'torch'"})
    assert finding.level == ERROR and "No module named 'torch'" in finding.what
    assert "make env" in finding.remedy


@pytest.mark.parametrize(
    ("changes", "level", "what", "remedy"),
    [
        ({"python": (3, 10)}, ERROR, "Python 3.10 is not supported", "make env PYTHON=python3.11"),
        ({"python": (3, 15)}, ERROR, "Python 3.15 is not supported", "3.14"),
        ({"versions": {"timm": None}}, ERROR, "not installed: timm", "make env"),
        ({"versions": {"numpy": "1.26.4"}}, WARNING, "numpy 1.26.4 (pinned 2.4.6)", "make env"),
        ({"weights": {"generator.safetensors": None}}, ERROR, "generator.safetensors are missing",
         "messi train consistency"),
        ({"free_gb": {"runs": 0.5}}, WARNING, "0 GB free for runs", "MESSI_RUNS"),
        ({"device": "unknown: MESSI_DEVICE"}, ERROR, "device unknown", "MESSI_DEVICE"),
        ({"attention": ("none", "no")}, WARNING, "attention: none", "driver"),
        ({"attention": ("math", "x"), "device": "cuda", "torch": {**GOOD_TORCH, "gpus": ["G"]}},
         WARNING, "attention: math", "half precision"),
    ],
)  # fmt: skip
def test_each_trouble_has_its_level_and_remedy(changes, level, what, remedy):
    (finding,) = troubles(facts(**changes))
    assert finding.level == level
    assert what in finding.what and remedy in finding.remedy
    assert status(judge(facts(**changes))) == (2 if level == ERROR else 0)


def test_a_cpu_build_satisfies_the_pin():
    assert troubles(facts(versions={"torch": "2.13.0+cpu"})) == []


def test_math_attention_on_a_cpu_is_fine():
    assert troubles(facts(attention=("math", "asked"))) == []


def test_the_report_counts_what_must_be_repaired():
    bad = facts(weights={"generator.safetensors": None}, free_gb={"runs": 0.1})
    report = render(judge(bad))
    assert "1 thing(s) must be repaired" in report
    assert "-> `git checkout -- data/weights`" in report
    assert "works (1 warning(s))" in render(judge(facts(free_gb={"runs": 0.1})))


def test_the_probe_survives_an_interpreter_that_dies():
    assert doctor.probe_torch("raise ImportError('broken pair')") == {
        "error": "ImportError: broken pair"
    }
    assert doctor.probe_torch("import os; os._exit(9)") == {"error": "exit status 9"}


def test_the_probe_names_both_builds_here():
    found = doctor.probe_torch()
    import torch
    import torchvision

    assert found["torch"] == torch.__version__
    assert found["torchvision"] == torchvision.__version__
    assert "error" not in found


def test_looking_at_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path / "missing" / "runs"))
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(doctor.runs, "weights_dir", lambda: tmp_path)
    monkeypatch.setattr(doctor, "probe_torch", lambda: dict(GOOD_TORCH))
    (tmp_path / "data" / "cache").mkdir(parents=True)
    (tmp_path / "data" / "cache" / "x").write_bytes(b"0" * 3_000_000)
    (tmp_path / "segmenter.safetensors").write_bytes(b"0" * 1_000_000)
    seen = doctor.collect()
    assert seen.python == sys.version_info[:2]
    assert seen.weights == {"segmenter.safetensors": 1.0, "generator.safetensors": None}
    assert seen.caches[str(tmp_path / "data" / "cache")] == 3.0
    assert seen.free_gb[str(tmp_path / "missing" / "runs")] > 0
    assert seen.versions["numpy"] and seen.pins["torch"] == "2.13.0"
    assert seen.attention[0] in ("flash", "cudnn", "efficient", "math")
    assert not (tmp_path / "missing").exists(), "looking writes nothing"
    assert {f.level for f in judge(seen) if "generator" in f.what} == {ERROR}


def test_the_doctor_prints_and_returns_the_status(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "collect", lambda: facts(python=(3, 9)))
    assert doctor.doctor() == 2
    assert "Python 3.9 is not supported" in capsys.readouterr().out
