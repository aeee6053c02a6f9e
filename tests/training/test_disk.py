import dataclasses
import json
import random

import pytest

from messi_lib.runs import Run
from messi_lib.training.checkpoints import folder_bytes
from messi_lib.training.disk import (
    LINE_BYTES,
    DiskPlan,
    format_size,
    log_spaced,
    parse_size,
    plan_disk,
)

PARAMETERS = 526_304_771
IMAGE_A = dict(
    state=16 * PARAMETERS, average=2 * PARAMETERS, save_every=5000, log_every=50, steps=150_000
)


@pytest.mark.parametrize(
    "text, size",
    [
        ("20GB", 20 * 10**9),
        ("60gb", 60 * 10**9),
        ("1.5 GB", 1_500_000_000),
        (" .5MB ", 500_000),
        ("2TB", 2 * 10**12),
        ("300KB", 300_000),
        ("5G", 5 * 10**9),
        ("1GiB", 2**30),
        ("1.5MiB", 3 * 2**19),
        ("1000", 1000),
        ("7 B", 7),
    ],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "GB", "0", "0GB", "-3GB", "1,5GB", "20 XB", "1e3GB", "nan", "inf", "9" * 400, "٣GB"],
)
def test_other_sizes_are_refused_in_one_line(text):
    with pytest.raises(ValueError, match="such as 20GB") as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)


def test_sizes_are_written_so_that_they_can_be_read_again():
    assert format_size(8_420_876_336) == "8.42 GB" and format_size(1_930_000) == "1.9 MB"
    random.seed(0)
    for _ in range(2000):
        size = round(10 ** random.uniform(0, 13))
        assert parse_size(format_size(size, up=True)) >= size
        if size >= 10**6:
            assert parse_size(format_size(size)) == pytest.approx(size, rel=0.06)


def test_snapshots_lie_evenly_on_a_logarithmic_scale():
    assert log_spaced(1000, 4, 1) == (1, 10, 100, 1000)
    assert log_spaced(150_000, 0, 5000) == () and log_spaced(7, 3, 10) == (7,)
    assert log_spaced(30, 9, 10) == (10, 20, 30) and log_spaced(30, 1, 10) == (30,)
    assert log_spaced(1001, 3, 100) == (100, 300, 1001)
    with pytest.raises(ValueError, match="save_every=0"):
        log_spaced(10, 2, 0)


def test_snapshots_are_distinct_multiples_of_which_the_last_is_the_end():
    random.seed(1)
    for _ in range(1000):
        steps, every = random.randint(1, 10**6), random.randint(1, 5000)
        n = random.randint(0, 60)
        made = log_spaced(steps, n, every)
        assert list(made) == sorted(set(made))
        assert len(made) == min(n, -(-steps // every))
        assert all(step % every == 0 for step in made[:-1])
        assert not n or made[-1] == steps
        assert n < 2 or len(made) < 2 or made[0] == every


def test_a_plan_never_exceeds_its_budget_and_more_room_never_gives_less():
    random.seed(2)
    refused = thinned = 0
    for _ in range(1000):
        run = dict(
            state=random.randint(1, 10**10),
            average=random.randint(0, 10**9),
            steps=random.randint(1, 10**6),
            save_every=random.randint(1, 10**4),
            log_every=random.randint(1, 500),
            snapshots=random.randint(0, 60),
        )
        free = plan_disk(**run)
        assert free.keep == 2 and free.budget is None and not free.thinned
        before = None
        for share in (0.3, 0.6, 0.8, 0.95, 1.0):
            budget = max(1, int(share * free.peak) + (share == 1.0))
            try:
                plan = plan_disk(**run, budget=budget)
            except ValueError as error:
                refused += 1
                assert before is None, "refused with more room than was enough"
                assert "--disk-budget" in str(error) and "\n" not in str(error)
                need = parse_size(str(error).split("--disk-budget ")[1].split()[0])
                assert need > budget
                assert plan_disk(**run, budget=need).keep == 1, "what it asks for must do"
                continue
            assert plan.peak <= budget
            assert plan.thinned == (len(plan.snapshots) < len(free.snapshots))
            if plan.thinned:  # then one more would not have fitted
                assert plan.keep == 1 and plan.peak + plan.average > budget
            if before is not None:
                assert plan.keep >= before.keep
                assert len(plan.snapshots) >= len(before.snapshots)
            thinned += plan.thinned
            before = plan
        assert before.keep == 2 and before.snapshots == free.snapshots
    assert refused > 250 and thinned > 100


def test_the_worst_moment_has_one_state_and_three_averages_more_than_are_kept():
    plan = DiskPlan(1000, 10, 2, (1, 2, 4), 7, None)
    assert plan.peak == 3 * 1000 + 6 * 10 + 7
    assert dataclasses.replace(plan, keep=1).peak == plan.peak - 1000


def test_the_million_image_run_fits_60_gb_instead_of_412():
    plan = plan_disk(**IMAGE_A, snapshots=30, budget=parse_size("60GB"))
    assert len(plan.snapshots) == 30 and not plan.thinned and plan.peak < 52e9
    assert 13.74e9 * len(plan.snapshots) > 412e9
    assert plan_disk(**IMAGE_A, snapshots=30).keep == 2  # without a limit: 60.001 GB
    small = plan_disk(**IMAGE_A, snapshots=30, budget=parse_size("30GB"))
    assert small.thinned and 5 <= len(small.snapshots) < 15 and small.snapshots[-1] == 150_000
    shown = small.table()
    assert f"{len(small.snapshots)} of the 30 asked for" in shown and "30.00 GB" in shown
    with pytest.raises(ValueError, match="needs at least 20.01 GB: give --disk-budget 20.01GB"):
        plan_disk(**IMAGE_A, snapshots=30, budget=parse_size("15GB"))


@pytest.mark.parametrize("names", [("edm",), ("bce", "dice", "iou", "gradient_norm")])
def test_a_line_of_statistics_takes_what_is_planned_for_it(names, tmp_path):
    random.seed(3)
    run, lines = Run("a", {"seed": 0}, folder=tmp_path), 400
    for step in range(100_000, 100_000 + lines):
        values = {name: random.random() for name in ("loss", "lr", "images_per_second", *names)}
        run.log(step, **values)
    run._writer().close()
    assert json.loads((tmp_path / "stats.jsonl").read_text().splitlines()[-1])["loss"]
    assert 0.4 * LINE_BYTES < folder_bytes(tmp_path) / lines < LINE_BYTES
