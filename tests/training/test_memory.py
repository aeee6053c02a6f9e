"""How trainings are made to fit, and whether the estimates meet what a process really takes."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from messi_lib.consistency.train import dry_run as dry_run_generator
from messi_lib.consistency.train import dry_runs
from messi_lib.profiles import ConsistencyConfig, SegmentationConfig, preset
from messi_lib.segmentation.plan import dry_run as dry_run_segmenter
from messi_lib.training.budget import Budget
from messi_lib.training.memory import largest_part, propose, rate_choices, reserve

GB = 10**9
# The 526-million-parameter generator, as its dry runs say.
LARGE = Budget(526_304_771, 2 * GB, 2 * GB, 4 * GB, 0, 0, GB, 3 * GB, 16, 2 * GB, 8 * GB)


def choices(*each):
    """Budgets by what is recomputed, with these bytes for an image."""
    rates = [(), (1,), (1, 2), (1, 2, 4, 8, 16, 32)]
    return {key: dataclasses.replace(LARGE, each=value) for key, value in zip(rates, each)}


CHOICES = choices(3 * GB, GB * 3 // 2, GB, GB * 4 // 5)


@pytest.mark.parametrize(
    "gpu, rates, part, flags",
    [
        (80, (), 16, []),
        (48, (), 8, ["--microbatch", "8"]),
        (28, (), 4, ["--microbatch", "4"]),
        (24, (1,), 4, ["--microbatch", "4", "--checkpoint-rates", "1"]),
        (16, (1, 2), 4, ["--microbatch", "4", "--checkpoint-rates", "1", "2"]),
        # never four: the choice with most images
        (14, (1, 2), 2, ["--microbatch", "2", "--checkpoint-rates", "1", "2"]),
    ],
)
def test_parts_come_first_and_recomputation_when_they_get_small(gpu, rates, part, flags):
    made = propose(CHOICES, 16, gpu * GB)
    assert (made.rates, made.microbatch, made.flags) == (rates, part, flags)
    assert made.budget.total <= gpu * GB - reserve(gpu * GB)
    assert "<- recommended" in made.table() and f"{gpu}.00 GB" in made.table()


def test_a_proposal_fits_divides_the_batch_and_grows_with_the_gpu():
    before = {}
    for batch in (1, 2, 6, 13, 16, 64):
        for gpu in range(13, 200, 3):
            made = propose(CHOICES, batch, gpu * GB)
            assert batch % made.microbatch == 0
            assert made.budget.total <= gpu * GB - reserve(gpu * GB)
            assert made.microbatch >= min(4, batch) or made.rates or batch == 13
            for rates, part in made.parts.items():
                assert part >= before.get((batch, rates), 0)
                before[batch, rates] = part
    assert propose(CHOICES, 13, 40 * GB).microbatch in (1, 13)
    assert propose(CHOICES, 1, 200 * GB).rates == ()


def test_what_cannot_fit_is_said_with_the_gap():
    with pytest.raises(ValueError, match=r"one image takes 10\.00 GB, 2\.30 GB more") as caught:
        propose(choices(3 * GB, 2 * GB, 2 * GB, GB), 16, 10 * GB)
    assert "\n" not in str(caught.value) and "--ema-device" not in str(caught.value)
    on_gpu = {(): dataclasses.replace(LARGE, average=2 * GB)}
    with pytest.raises(ValueError, match=r"--ema-device cpu \(saves 2\.00 GB\)"):
        propose(on_gpu, 16, 10 * GB)
    with pytest.raises(ValueError, match="batch=0"):
        propose(CHOICES, 0, 80 * GB)


def test_the_update_can_be_what_does_not_fit():
    heavy = dataclasses.replace(LARGE, each=1, update=6 * GB)
    assert largest_part(heavy, 8, 13 * GB) == 0 and largest_part(heavy, 8, 14 * GB) == 8


def test_choices_go_from_nothing_to_everything():
    assert rate_choices([1, 2, 4, 8]) == [(), (1,), (1, 2), (1, 2, 4, 8)]
    assert rate_choices([1, 2]) == [(), (1,), (1, 2)] and rate_choices([1]) == [(), (1,)]


def test_each_further_level_that_is_recomputed_saves_memory():
    config = preset(ConsistencyConfig, "smoke")
    made = dry_runs(config, rate_choices([1, 2]))
    each = [one.each for one in made]
    assert each == sorted(each, reverse=True) and each[-1] < 0.7 * each[0]
    alone = dry_run_generator(dataclasses.replace(config, checkpoint_rates=(1, 2)))
    assert alone.each == pytest.approx(each[-1], rel=0.02)


def test_a_segmenters_dry_run_knows_what_is_frozen():
    config = preset(SegmentationConfig, "smoke")
    free = dry_run_segmenter(config)
    frozen = dry_run_segmenter(dataclasses.replace(config, freeze_encoder=True))
    assert frozen.parameters == free.parameters == free.gradients // 4
    assert frozen.gradients < free.gradients and frozen.each < free.each
    assert frozen.optimizer == 2 * frozen.gradients
    with pytest.raises(ValueError, match="did you mean 'dice'"):
        dry_run_segmenter(dataclasses.replace(config, loss=(("dise", 1.0),)))


# Two steps of a training in a process of its own, which says by how much its memory has grown over
# a much smaller training before: libraries, caches and TensorBoard are in the baseline.
CHILD = """
import ctypes, gc, json, re, sys, tempfile
from pathlib import Path
import numpy as np
import torch
from messi_lib.profiles import ConsistencyConfig, SegmentationConfig, preset
from messi_lib.runs import Run

def memory(name):
    return int(re.search(rf"{name}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

class Items:
    def __init__(self, n, size):
        self.n, self.region = n, torch.zeros(1, size, size, dtype=torch.bool)
        self.region[:, 4:20, 4:20] = True
    def __len__(self):
        return self.n
    def item(self, epoch, index):
        return torch.zeros(3, *self.region.shape[1:]), self.region, ~self.region & False

def train(profile, fields):
    kind = ConsistencyConfig if sys.argv[1] == "generator" else SegmentationConfig
    config = preset(kind, profile, **fields)
    with tempfile.TemporaryDirectory() as folder:
        run = Run("a", config, folder=folder)
        if sys.argv[1] == "generator":
            from messi_lib.consistency.train import train_consistency
            side = config.image_size
            images = np.zeros((config.batch, side, side, 3), np.uint8)
            train_consistency(run, config, images, quiet=True)
        else:
            from messi_lib.segmentation.train import train_segmentation
            train_segmentation(run, config, Items(config.batch, config.image_size), quiet=True)

train("smoke", {"steps": 2, "precision": "fp32"})
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = memory("VmRSS")
train(sys.argv[2], json.loads(sys.argv[3]))
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux' /proc")
@pytest.mark.parametrize(
    "part, profile, fields",
    [
        ("generator", "laptop", {"batch": 64}),
        ("generator", "laptop", {"batch": 24, "model_channels": 64}),
        ("segmenter", "scratch", {"batch": 8}),
    ],
)
def test_the_estimate_is_within_a_fifth_of_what_a_training_takes(part, profile, fields, tmp_path):
    """States and activations of the real training loop, optimiser, average and augmentation."""
    fields = {**fields, "steps": 2, "precision": "fp32"}
    # Large blocks come from the system one by one and go back when they are freed, so that memory
    # that the allocator keeps for later is not counted.
    settings = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1", "MESSI_DEVICE": "cpu"}
    child = subprocess.run(
        [sys.executable, "-c", CHILD, part, profile, json.dumps(fields)],
        env={**os.environ, **settings, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    measured = int(child.stdout.split()[-1])
    if part == "generator":
        planned = dry_run_generator(preset(ConsistencyConfig, profile, **fields)).total
    else:
        planned = dry_run_segmenter(preset(SegmentationConfig, profile, **fields)).total
    print(f"{part} {fields}: planned {planned / 1e6:.1f} MB, measured {measured / 1e6:.1f} MB")
    assert planned == pytest.approx(measured, rel=0.2)
