import dataclasses

import numpy as np
import pytest
import torch

from messi_lib.consistency.denoiser import load_denoiser
from messi_lib.consistency.train import train_consistency
from messi_lib.evaluation.features import load_extractor
from messi_lib.profiles import ConsistencyConfig, preset
from messi_lib.runs import Run, read_stats

CONFIG = preset(ConsistencyConfig, "smoke", image_size=8, log_every=3, save_every=6)
PHOTOS = np.random.default_rng(0).integers(0, 255, (16, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def small_extractor(monkeypatch):
    """Features of a small random network: what is tested is when and how, not Inception."""
    small = load_extractor("random-conv")
    monkeypatch.setattr("messi_lib.evaluation.features.load_extractor", lambda name: small)


def go(folder, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    run = Run("w", config, folder=folder)
    return train_consistency(run, config, PHOTOS, quiet=True), run


def test_watching_leaves_pictures_and_curves_and_changes_nothing(tmp_path, capsys):
    plain, _ = go(tmp_path / "plain")
    watched, run = go(tmp_path / "watched", sample_every=6, fid_every=6, fid_images=16)
    assert torch.equal(
        torch.cat([v.flatten().float() for v in plain.ema.values()]),
        torch.cat([v.flatten().float() for v in watched.ema.values()]),
    )
    pictures = sorted(path.name for path in run.samples.iterdir())
    assert pictures == ["step-00000006.png", "step-00000012.png"]
    measured = {line["step"]: line.get("fid") for line in read_stats(run.folder)}
    assert measured[3] is None and measured[6] > 0 and measured[12] > 0
    assert {"loss", "lr", "kid", "gradient_norm", "memory_gb", "ema_beta"} <= read_stats(
        run.folder
    )[-1].keys()
    assert "KID" in capsys.readouterr().out
    best = load_denoiser(run.checkpoints / "best.safetensors")
    assert run.metrics()["best_step"] in (6, 12) and best.config.image_size == 8


def test_wishes_that_cannot_be_met_are_refused_before_the_first_step(tmp_path):
    with pytest.raises(ValueError, match="sample_every=5: give a multiple of log_every=3"):
        go(tmp_path / "a", sample_every=5)
    with pytest.raises(ValueError, match="fid_images=17 but 16 photos"):
        go(tmp_path / "b", fid_every=6, fid_images=17)
    assert not (tmp_path / "b" / "stats.jsonl").exists()
