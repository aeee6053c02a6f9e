import dataclasses

import numpy as np
import pytest
import torch

from messi_lib.consistency.denoiser import build_denoiser, load_denoiser
from messi_lib.consistency.sampling import sample_multistep
from messi_lib.consistency.train import dry_run, load_run, make_batches, train_consistency
from messi_lib.profiles import ConsistencyConfig, preset
from messi_lib.runs import Run, read_stats

CONFIG = preset(ConsistencyConfig, "smoke")
IMAGES = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)



def test_batches_are_the_images_flipped_or_not():
    batch_at = make_batches(dataclasses.replace(CONFIG, flip=True), IMAGES)
    plain = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 127.5 - 1
    flips = 0
    for image in torch.cat([batch_at(step) for step in range(8)]):
        same = (plain - image).abs().amax(dim=(1, 2, 3)) < 1e-5
        mirrored = (plain.flip(-1) - image).abs().amax(dim=(1, 2, 3)) < 1e-5
        assert (same | mirrored).sum() == 1
        flips += int(mirrored.any())
    assert 10 < flips < 54
    assert torch.equal(batch_at(3), make_batches(CONFIG, IMAGES)(3))


@pytest.mark.parametrize("images", [IMAGES[:, :8], IMAGES.astype(np.float32), IMAGES[:4]])
def test_bad_images_are_refused(images):
    with pytest.raises(ValueError, match="images"):
        make_batches(CONFIG, images)


def test_trains_resumes_exports_and_samples(tmp_path):
    whole = train_consistency(Run("w", CONFIG, folder=tmp_path / "w"), CONFIG, IMAGES, quiet=True)
    first = dataclasses.replace(CONFIG, steps=12, save_every=6)
    run = Run("p", first, folder=tmp_path / "p")

    class Killed(Exception):
        pass

    def kill(line, model, ema):
        if line["step"] >= 8:
            raise Killed

    with pytest.raises(Killed):
        train_consistency(run, first, IMAGES, on_log=kill, quiet=True)
    parts = train_consistency(run, first, IMAGES, quiet=True)
    for name, value in whole.ema.items():
        assert torch.equal(value, parts.ema[name]), name
    names = {key for line in read_stats(run.folder) for key in line}
    assert {"edm", "ect", "stage"} <= names
    denoiser = load_denoiser(run.folder / "generator.safetensors")
    sample = sample_multistep(denoiser, 2, [80.0, 1.0], torch.Generator().manual_seed(0))
    assert sample.shape == (2, 3, 16, 16) and sample.abs().max() <= 1 and sample.std() > 0


def made(tmp_path, name, **changes):
    """A finished run on the small images."""
    config = dataclasses.replace(CONFIG, **changes)
    run = Run(name, config, folder=tmp_path / name)
    return train_consistency(run, config, IMAGES, quiet=True), run


@pytest.mark.parametrize("objective", ["ct", "cd", "ict"])
def test_other_objectives_resume_with_their_target(tmp_path, objective):
    changes = {"objective": objective, "save_every": 6, "lr_schedule": "constant"}
    if objective == "cd":
        made(tmp_path, "teacher", objective="edm", steps=2)
        changes["teacher"] = str(tmp_path / "teacher" / "generator.safetensors")
    whole, _ = made(tmp_path, "whole", **changes)
    run = Run("parts", dataclasses.replace(CONFIG, **changes), folder=tmp_path / "parts")

    def stop(line, model, ema):
        if line["step"] == 8:
            raise KeyboardInterrupt

    config = dataclasses.replace(CONFIG, **changes)
    with pytest.raises(KeyboardInterrupt):
        train_consistency(run, config, IMAGES, on_log=stop, quiet=True)
    parts = train_consistency(run, config, IMAGES, quiet=True)
    for name, value in whole.ema.items():
        assert torch.equal(value, parts.ema[name]), name
    assert {objective} <= read_stats(run.folder)[0].keys()
    assert load_denoiser(run.folder / "generator.safetensors").config.teacher in (
        "", "generator.safetensors"
    )  # fmt: skip


def test_a_broken_loss_names_the_noise_levels(tmp_path, monkeypatch):
    from messi_lib.consistency import objectives

    original = objectives.lognormal_sigmas

    def broken(n, *others):
        sigma = original(n, *others)
        sigma[2] = float("inf")
        return sigma

    monkeypatch.setattr(objectives, "lognormal_sigmas", broken)
    with pytest.raises(ValueError, match="loss is nan at sigma inf at step 0"):
        made(tmp_path, "broken")


def test_training_can_begin_with_trained_weights(tmp_path):
    first, run = made(tmp_path, "first")
    file = str(run.folder / "generator.safetensors")
    for changes in ({}, {"augment": 0.2}):
        tuned, _ = made(
            tmp_path, f"tuned{len(changes)}", start=file, lr=1e-9, edm_fraction=0.0, steps=2,
            **changes,
        )  # fmt: skip
        for name, value in first.ema.items():
            torch.testing.assert_close(value, tuned.ema[name], atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="another architecture: train with .*model_channels=32"):
        made(tmp_path, "wide", start=file, model_channels=64)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        made(tmp_path, "nowhere", start="nowhere.safetensors")


def test_augmented_training_learns_the_labels_and_samples_without(tmp_path):
    result, run = made(tmp_path, "warped", augment=0.5, steps=12)
    assert result.ema["label_embed.weight"].any()
    denoiser = load_denoiser(run.folder / "generator.safetensors")
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = denoiser(x, 1.0)
    assert torch.equal(plain, denoiser(x, 1.0, labels=torch.zeros(2, 9)))
    assert not torch.equal(plain, denoiser(x, 1.0, labels=torch.ones(2, 9)))
    batch_at = make_batches(dataclasses.replace(CONFIG, augment=0.5), IMAGES)
    exact = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 127.5 - 1  # flips are the warp's work
    assert (torch.cdist(batch_at(0).flatten(1), exact.flatten(1)).min(1).values < 1e-4).all()


def test_labels_need_a_network_that_knows_them():
    denoiser = build_denoiser(CONFIG)
    with pytest.raises(ValueError, match="without augment=True"):
        denoiser(torch.zeros(1, 3, 16, 16), 1.0, labels=torch.zeros(1, 9))


def test_an_unfinished_run_can_be_looked_at(tmp_path):
    result, run = made(tmp_path, "run")
    denoiser, step = load_run(run.folder)
    assert step == 12
    for name, value in denoiser.state_dict().items():
        assert torch.equal(value, result.ema[name])
    with pytest.raises(FileNotFoundError, match="run's name"):
        load_run(tmp_path / "none")


@pytest.mark.parametrize(
    "profile, parameters",
    [("gpu", 131_659_011), ("image_a", 526_304_771), ("image_b", 289_560_195)],
)
def test_big_presets_are_complete_and_fit_their_gpu(profile, parameters):
    """One step on fake tensors: no memory, no download, whatever the size."""
    estimate = dry_run(preset(ConsistencyConfig, profile))
    assert estimate.parameters == parameters
    assert estimate.states <= 20 * parameters and estimate.total < 75e9
    if profile == "image_a":
        assert estimate.states < 10.6e9  # 22.4 GB in the public code


def test_recomputing_saves_activations():
    config = preset(ConsistencyConfig, "laptop", batch=8)
    every = dry_run(dataclasses.replace(config, checkpoint_rates=(1, 2, 4)))
    assert every.activations < 0.7 * dry_run(config).activations
    parts = dry_run(dataclasses.replace(config, microbatch=2))
    assert parts.activations == dry_run(config).activations // 4
