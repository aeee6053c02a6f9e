"""Training to fill holes: it resumes exactly, begins as its start, and uses what it is told."""

import dataclasses

import numpy as np
import pytest
import torch
from consistency.toys import tiny_denoiser

from messi_lib.consistency.denoiser import build_denoiser, load_denoiser
from messi_lib.consistency.train import averaged, begin_with, export_denoiser
from messi_lib.inpainting.conditional import condition_of
from messi_lib.inpainting.train import (
    check_inpainter,
    make_batches,
    sample_grid,
    told,
    train_inpainter,
)
from messi_lib.profiles import InpainterConfig, preset
from messi_lib.runs import Run

CONFIG = preset(InpainterConfig, "smoke")


def cutouts(n=16, side=16, seed=0):
    """One colour per image: whoever looks at the known pixels knows what is in the hole."""
    rng = np.random.default_rng(seed)
    made = np.zeros((n, side, side, 4), np.uint8)
    made[..., :3] = rng.integers(30, 226, (n, 1, 1, 3))
    made[:, 4:12, 5:11, 3] = 255
    return made


def test_batches_depend_on_step_and_place_alone():
    batch_at = make_batches(CONFIG, cutouts())
    wanted, images, holes = batch_at(5)
    assert torch.equal(wanted, images)
    assert images.shape == (8, 3, 16, 16) and images.abs().max() <= 1
    assert holes.shape == (8, 1, 16, 16) and holes.dtype == torch.bool
    assert holes.flatten(1).any(1).all() and not torch.equal(holes[0], holes[1])
    for share in (slice(0, 4), slice(4, 8)):
        part = batch_at(5, share)
        assert torch.equal(part[1], images[share]) and torch.equal(part[2], holes[share])
    assert not torch.equal(batch_at(6)[2], holes)
    shown, condition = told((wanted, images, holes))
    assert torch.equal(shown, images)
    assert torch.equal(condition["condition"], condition_of(images, holes))


def test_flips_move_image_and_hole_together():
    images = cutouts()
    images[:, :, :3, :3] = 255  # white on the left
    images[:, :, :3, 3] = 255  # and the subject there as well
    images[:, 4:12, 5:11, 3] = 0
    for step in range(6):
        _, shown, holes = make_batches(CONFIG, images)(step)
        white = (shown == 1).all(1, keepdim=True)
        full = holes.flatten(1).all(1)
        covered = (white & holes).flatten(1).sum(1) / white.flatten(1).sum(1)
        assert (covered[~full] > 0).all()


@pytest.mark.parametrize(
    ("change", "images", "complaint"),
    [
        ({}, cutouts()[..., :3], r"expected uint8 \(N, 16, 16, 4\)"),
        ({}, cutouts(side=32), r"expected uint8 \(N, 16, 16, 4\)"),
        ({}, cutouts().astype(np.float32), "uint8"),
        ({"condition_channels": 3}, cutouts(), "condition_channels=3"),
        ({"augment": 0.2}, cutouts(), "augment=0.2"),
        ({"fid_every": 4}, cutouts(), "fid_every"),
        ({}, cutouts(4), "larger than the data set .4 images."),
        ({"objective": "cd", "teacher": "t"}, cutouts(), "objective='cd'"),
    ],
)
def test_bad_wishes_are_refused(change, images, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_inpainter(dataclasses.replace(CONFIG, **change), images)


def test_it_begins_as_the_generator_it_starts_with_whatever_it_is_told(tmp_path):
    plain = tiny_denoiser(gate=True).eval()
    file = export_denoiser(tmp_path / "plain.safetensors", plain.config, plain.state_dict(), {})
    plain = load_denoiser(file)  # in half precision, as the start
    ours = build_denoiser(CONFIG).eval()
    begin_with(ours, str(file))
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 3
    for seed in range(2):
        condition = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            assert torch.allclose(ours(x, 3.0, condition=condition), plain(x, 3.0), atol=1e-6)
    warped = tiny_denoiser(gate=True, augment=0.2).eval()
    file = export_denoiser(tmp_path / "w.safetensors", warped.config, warped.state_dict(), {})
    begin_with(ours, str(file))  # its labels are not needed here
    with torch.no_grad():
        expected = load_denoiser(file)(x, 3.0)
        assert torch.allclose(ours(x, 3.0, condition=condition), expected, atol=1e-6)
    other = build_denoiser(dataclasses.replace(CONFIG, channel_mult=(1, 1)))
    with pytest.raises(ValueError, match="architecture: train with channel_mult=.1, 2."):
        begin_with(other, str(file))


def test_trains_shows_itself_and_resumes_exactly(tmp_path):
    config = dataclasses.replace(CONFIG, sample_every=4)
    images = cutouts(32)
    whole = train_inpainter(Run("w", config, folder=tmp_path / "w"), config, images, quiet=True)

    class Killed(Exception):
        pass

    def kill(line, model, ema):
        if line["step"] >= 8:
            raise Killed

    run = Run("p", config, folder=tmp_path / "p")
    with pytest.raises(Killed):
        train_inpainter(run, config, images, on_log=kill, quiet=True)
    parts = train_inpainter(run, config, images, quiet=True)
    for name, value in whole.ema.items():
        assert torch.equal(value, parts.ema[name]), name
    shown = sorted(path.name for path in run.samples.iterdir())
    assert shown == [f"step-{step:08d}.png" for step in (4, 8, 12)]
    denoiser = load_denoiser(run.folder / "generator.safetensors")
    picture = sample_grid(denoiser, images)
    assert picture.dtype == np.uint8 and picture.shape[1] > picture.shape[0]


def test_it_learns_to_use_what_it_is_told(tmp_path):
    config = dataclasses.replace(CONFIG, steps=150, lr=3e-3, optimizer="adam", objective="edm")
    config = dataclasses.replace(config, batch=16, ema_std=0.1, save_every=150, log_every=50)
    config = dataclasses.replace(config, edm_p_mean=1.6, edm_p_std=0.5)  # where it must be told
    result = train_inpainter(Run("l", config, folder=tmp_path), config, cutouts(64), quiet=True)
    denoiser = averaged(result.model, result.ema)
    fresh = cutouts(32, seed=9)
    image = torch.from_numpy(fresh[..., :3]).permute(0, 3, 1, 2) / 127.5 - 1
    hole = torch.from_numpy(fresh[..., 3] > 0)[:, None]
    noisy = image + 5 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    inside = hole.expand_as(image)
    with torch.no_grad():
        right, wrong = (
            denoiser(noisy, 5.0, boundary=False, condition=condition_of(known, hole))
            for known in (image, image.roll(1, 0))
        )
    error, misled = ((made - image)[inside].abs().mean() for made in (right, wrong))
    assert error < 0.8 * misled
