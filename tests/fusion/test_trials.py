import dataclasses
import json
import math

import pytest
import torch

from messi_lib.cli import main
from messi_lib.consistency.train import export_denoiser
from messi_lib.fusion import trials
from messi_lib.fusion.arms import ARMS, Tools, arm_of
from messi_lib.fusion.report import compare, figure, summary, table
from messi_lib.fusion.study import paired_bootstrap
from messi_lib.fusion.trials import Photos, hole_distance, run_study
from messi_lib.inpainting.conditional import condition_of
from messi_lib.inpainting.seam import measure
from messi_lib.inpainting.solvers import solve
from messi_lib.inpainting.weights import shipped_path
from messi_lib.profiles import FusionStudyConfig, SegmentationConfig, preset
from messi_lib.segmentation.model import PersonSegmenter
from tests.consistency.toys import tiny_denoiser

TOOLS = Tools(solve, condition_of, lambda pixels, hole: measure(pixels, hole).badness)


def photos(n, seed):
    images = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    holes = torch.zeros(n, 1, 16, 16, dtype=torch.bool)
    holes[:, :, 4:12, 5:11] = True
    return Photos(images, holes)


@pytest.fixture
def study(tmp_path):
    """`go(**changes)` runs a tiny study in the same folder and returns configuration, results."""
    torch.manual_seed(0)
    segmenter = PersonSegmenter(preset(SegmentationConfig, "smoke")).eval()
    denoiser = tiny_denoiser()
    start = tmp_path / "generator.safetensors"
    export_denoiser(start, denoiser.config, denoiser.state_dict(), {})

    def go(folder="study", learnt=0, **changes):
        changes = {"level": 1, "start": str(start), **changes}
        config = preset(FusionStudyConfig, "smoke", **changes)
        results = run_study(
            config, tmp_path / folder, photos(16, learnt), photos(8, 1), segmenter, TOOLS,
            quiet=True,
        )  # fmt: skip
        return config, results

    return go


def test_every_arm_trains_and_is_measured(study):
    config, results = study(
        arms=tuple(ARMS), level=3, inner_dim=32, steps=2, save_every=2, warmup=1
    )
    assert [r["arm"] for r in results] == list(ARMS)
    by_arm = {r["arm"]: r for r in results}
    for arm, result in by_arm.items():
        assert len(result["hole"]) == len(result["seam"]) == 8
        assert all(0 < value < 2 for value in result["hole"])
        reads = ARMS[arm].kind == "reads"
        assert ("swapped" in result) == (reads and arm != "shuffled")
        assert bool(result["openings"]) == reads
        assert (result["hole"] == by_arm["none"]["hole"]) == (arm == "none")
    reading = [r["parameters"] for arm, r in by_arm.items() if ARMS[arm].kind == "reads"]
    tokens = by_arm["tokens"]["parameters"]
    assert max(reading) < 1.1 * tokens and min(reading) > 0.9 * tokens
    assert by_arm["none"]["parameters"] == 0 < by_arm["tuned"]["parameters"]
    made = summary(config, results)
    text = table(config, made)
    assert all(arm in text for arm in ARMS) and made["finding"] in text
    assert by_arm["concatenated"]["parameters"] > by_arm["tuned"]["parameters"]


def test_finished_runs_are_read_and_killed_ones_resumed(study, monkeypatch):
    _, whole = study("whole")
    original, calls = trials.arm_loss, []

    def killed(*args):
        calls.append(1)
        if len(calls) == 5:  # after the state of step 3
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(trials, "arm_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        study()
    calls[:] = [0] * 5
    _, parts = study()
    assert 2 <= len(calls) - 5 <= 3  # not from the first step
    for one, other in zip(whole, parts, strict=True):
        assert one["hole"] == other["hole"] and one["seam"] == other["seam"]
    monkeypatch.setattr(trials, "train", None)  # nothing is trained again
    assert study()[1] == parts
    monkeypatch.undo()
    _, more = study(arms=("none", "tokens", "film"), primary=("film", "none"))
    assert more[:2] == parts and more[2]["arm"] == "film"


def test_other_inputs_in_the_same_folder_are_refused(study):
    study(arms=("none", "film"), primary=("film", "none"))
    with pytest.raises(ValueError, match="other inputs .photos.: choose another run name"):
        study(learnt=5)
    with pytest.raises(ValueError, match="lr: 0.001 -> 0.01"):
        study(arms=("none", "film"), primary=("film", "none"), lr=0.01)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"arms": ("none", "token")}, "unknown arm 'token' .did you mean 'tokens'"),
        ({"arms": ("tokens",)}, "add 'none'"),
        ({"arms": ("none", "film")}, "both arms of primary"),
        ({"metrics": ("lpips",)}, "use some of hole, seam"),
        ({"seeds": 0}, "seeds=0"),
        ({"module": "film"}, "choose arms"),
        ({"held_out": 4}, "held_out=4"),
        ({"level": 7}, "level=7: the encoder has maps 0 to 3"),
        ({"rates": (16,)}, "16"),
        ({"start": str(shipped_path("conditional"))}, "inpainter.* fills holes"),
    ],
)
def test_studies_that_cannot_be_done(study, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        study(**changes)
    assert not (tmp_path / "study").exists()


def result(arm, seed, hole, **more):
    base = {"arm": arm, "seed": seed, "hole": hole, "seam": hole, "parameters": 1}
    return {**base, "openings": {}, **more}


def test_the_report_follows_the_numbers():
    config = preset(FusionStudyConfig, "smoke", seeds=2)
    easy = torch.linspace(1, 2, 12)
    wobble = 0.01 * torch.tensor([1.0, -1.0]).repeat(6)

    def results(effect):
        rows = []
        for seed in (0, 1):
            ours = (easy + effect + wobble).tolist()
            probe = {"swapped": ours, "donor": [1.0] * 12, "donor_swapped": [0.5] * 12}
            rows.append(result("none", seed, easy.tolist()))
            rows.append(result("tokens", seed, ours, **probe))
        return rows

    for effect, words in ((-0.1, "is lower"), (0.1, "is higher"), (0.0, "no measurable effect")):
        made = summary(config, results(effect))
        assert words in made["finding"] and "2 seeds" in made["finding"]
        picture = figure(config, made)
        assert picture.axes[0].get_title().replace("\n", " ") == made["finding"]
        assert picture.axes[0].get_yticklabels()[0].get_text() == "tokens"
        assert "follows" in table(config, made)  # the donor comes nearer when its latents are given
    rows = results(0.0)
    rows[0]["hole"] = [None, *rows[0]["hole"][1:]]  # a photo without a number in one arm
    assert compare(rows, "tokens", "none", "hole").photos == 11


def test_seeds_that_disagree_widen_the_interval():
    photo = torch.randn(200, generator=torch.Generator().manual_seed(0))
    same = torch.full((3, 200), 0.5) + 0.01 * photo
    moved = same + torch.tensor([-1.0, 0.0, 1.0])[:, None]
    theirs = torch.zeros(3, 200)
    narrow, wide = paired_bootstrap(same, theirs), paired_bootstrap(moved, theirs)
    assert narrow.clear and not wide.clear and wide.seeds == 3
    assert wide.mean == pytest.approx(narrow.mean, abs=1e-6)
    # The mean of three draws from -1, 0, 1 has a standard deviation of sqrt(2/3/3).
    assert wide.high - wide.low == pytest.approx(4 * math.sqrt(2 / 9), rel=0.15)
    one = paired_bootstrap(photo, torch.zeros(200))
    assert paired_bootstrap(photo[None], torch.zeros(1, 200)) == one


def test_distance_counts_the_hole_only():
    images, holes = photos(3, 0)
    other = torch.where(holes, images + 0.5, images - 9.0)
    torch.testing.assert_close(hole_distance(images, other, holes), torch.full((3,), 0.5))


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path))
    assert main(["study", "fusion", "--profile", "smoke", "--run", "s"]) == 0
    assert "tokens against none" in capsys.readouterr().out
    folder = tmp_path / "s"
    assert {"study.txt", "study.json", "study.png"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "study.json").read_text())["primary"]["photos"] == 8
    assert main(["study", "fusion", "--profile", "smoke", "--run", "t", "--arms", "nobody"]) == 2
    assert "unknown arm 'nobody'" in capsys.readouterr().err and not (tmp_path / "t").exists()


def test_stored_results_are_those_of_the_run(study, tmp_path):
    config, results = study()
    folder = tmp_path / "study"
    assert trials.stored_results(config, folder) == results
    longer = dataclasses.replace(config, steps=config.steps + 1)
    assert trials.stored_results(longer, folder) is None  # of another training
    assert trials.stored_results(dataclasses.replace(config, seeds=9), folder) is None


def test_profiles_name_arms_that_exist():
    for profile in ("smoke", "laptop", "overnight", "gpu"):
        config = preset(FusionStudyConfig, profile)
        trials.check_study(config)
        assert all(arm_of(name) for name in config.arms)
    laptop = preset(FusionStudyConfig, "laptop")
    assert len(laptop.arms) == 7 and laptop.seeds == 3
    assert (
        dataclasses.replace(laptop, arms=tuple(ARMS)).arms == preset(FusionStudyConfig, "gpu").arms
    )
