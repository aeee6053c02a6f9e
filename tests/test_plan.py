"""`messi budget`: what it prints, that its command runs as printed, and its one-line errors."""

import shlex

import pytest

from messi_lib.cli import main, parse
from messi_lib.commands import plan
from messi_lib.profiles import ConsistencyConfig, preset
from messi_lib.training.budget import Budget
from messi_lib.training.disk import log_spaced

GB = 10**9
LARGE = Budget(526_304_771, 2 * GB, 2 * GB, 4 * GB, 0, 0, GB, 3 * GB, 16, 2 * GB, 8_420_876_336)


@pytest.fixture()
def large(monkeypatch):
    """The dry runs of the 526-million-parameter generator, which take half a minute."""
    monkeypatch.setattr(plan, "measure", lambda config: {(): LARGE})


def test_the_budget_of_a_generator_ends_with_a_command_that_can_be_given(capsys):
    assert main(["budget", "--profile", "smoke", "--gpu", "1.7GB", "--disk-budget", "100MB",
                 "--steps", "40", "--snapshots", "3", "--batch", "16"]) == 0  # fmt: skip
    shown = capsys.readouterr().out
    assert "832,973 parameters" in shown and "everything (<= +33% time)" in shown
    assert "snapshots at steps 6, 18, 40" in shown
    words = shlex.split(shown.splitlines()[-1].removeprefix("run: messi "))
    assert words[:2] == ["train", "consistency"]
    made = parse("train consistency", words[2:])
    assert (made.batch, made.steps, made.profile) == (16, 40, "smoke")
    assert (made.disk_budget, made.snapshots) == ("100MB", 3)


def test_the_budget_of_a_segmenter(capsys):
    assert main(["budget", "--profile", "smoke", "--part", "segmentation"]) == 0
    shown = capsys.readouterr().out
    assert "2,265,001 parameters" in shown and "predecessor" not in shown
    assert shown.splitlines()[-1].startswith("run: messi train segmentation --profile smoke")


def test_defaults_are_the_profiles_and_an_80_gb_gpu(large, capsys):
    assert main(["budget", "--profile", "image_a"]) == 0
    shown = capsys.readouterr().out
    assert "batch 16" in shown and "80.00 GB less 7.90 GB" in shown
    config = preset(ConsistencyConfig, "image_a")
    wanted = len(log_spaced(config.span, config.snapshots, config.save_every))
    assert f"snapshots of the average: {wanted}" in shown


def test_the_disk_of_the_million_image_run(large, capsys):
    assert main(["budget", "--profile", "image_a", "--disk-budget", "60GB", "--steps", "150000",
                 "--snapshots", "30", "--gpu", "48GB"]) == 0  # fmt: skip
    shown = capsys.readouterr().out
    assert "snapshots of the average: 30 " in shown and "412.20 GB" in shown
    assert shown.splitlines()[-1].endswith("--microbatch 8")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--gpu 80XB", "size '80XB': give a positive number with a unit"),
        ("--gpu 8GB", "one image takes 12.00 GB, 6.14 GB more than a GPU of 8.00 GB"),
        ("--disk-budget 15GB", "needs at least 20.27 GB: give --disk-budget 20.27GB"),
        ("--steps 0", "--steps 0: give 1 or more"),
        ("--batch 0", "--batch 0: give 1 or more"),
        ("--snapshots -1", "snapshots=-1"),
        ("--part both", "both"),
    ],
)
def test_bad_input_is_told_in_one_line(large, capsys, arguments, message):
    assert main(["budget", "--profile", "image_a", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and not captured.out
