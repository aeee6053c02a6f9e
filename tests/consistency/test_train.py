import dataclasses

import numpy as np
import pytest
import torch

from messi_lib.consistency.denoiser import load_denoiser
from messi_lib.consistency.sampling import sample_multistep
from messi_lib.consistency.train import make_batches, stage_of, train_consistency
from messi_lib.profiles import ConsistencyConfig, preset
from messi_lib.runs import Run, read_stats

CONFIG = preset(ConsistencyConfig, "smoke")
IMAGES = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)


def test_stages_follow_the_fractions():
    config = dataclasses.replace(CONFIG, steps=100, edm_fraction=0.6, ect_stages=4)
    stages = [stage_of(config, step) for step in range(100)]
    assert stages[:60] == [-1] * 60 and stages[60:] == sorted(stages[60:])
    assert [stages.count(s) for s in range(4)] == [10, 10, 10, 10]
    assert stage_of(dataclasses.replace(config, edm_fraction=0.0), 0) == 0


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
