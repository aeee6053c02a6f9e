"""Training: it learns, resumes to the same weights, keeps the best, refuses what cannot work."""

import json
import math

import pytest
import torch

from messi_lib import cli
from messi_lib.profiles import SegmentationConfig, preset
from messi_lib.runs import Run, read_stats
from messi_lib.segmentation.infer import load_segmenter
from messi_lib.segmentation.model import PersonSegmenter
from messi_lib.segmentation.train import (
    batch_of,
    evaluate_segmenter,
    export_segmenter,
    train_segmentation,
)
from messi_lib.training.checkpoints import load_weights

from .toys import Squares, bright, tiny_config


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("MESSI_DEVICE", "cpu")


def train(folder, steps: int, **more):
    config = tiny_config(steps=steps, batch=4, **more.pop("config", {}))
    run = Run("toy", config, folder=folder)
    return run, train_segmentation(run, config, Squares(), quiet=True, **more)


def test_it_learns_to_find_squares(tmp_path):
    config = {"lr": 6e-3, "log_every": 10, "save_every": 30, "warmup": 5}
    run, result = train(tmp_path / "run", 30, validation=Squares(8), config=config)
    losses = [line["loss"] for line in result.stats]
    assert result.step == 30 and losses[-1] < 0.7 * losses[0]
    assert result.stats[-1]["iou"] > 0.5
    assert {"bce", "dice", "iou", "lr", "images_per_second"} <= read_stats(run.folder)[0].keys()


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    _, whole = train(tmp_path / "whole", 8)
    train(tmp_path / "parts", 4)
    _, resumed = train(tmp_path / "parts", 8)
    assert resumed.step == 8
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
        assert torch.equal(whole.ema[name], resumed.ema[name]), name


def test_the_best_average_is_kept_and_the_curve_has_its_quality(tmp_path):
    run, result = train(tmp_path / "run", 8, validation=Squares(8))
    lines = {line["step"]: line for line in read_stats(run.folder)}
    assert "validation_iou" in lines[4] and "validation_iou" not in lines[2]
    assert {"loss", "lr", "validation_boundary_iou"} <= lines[8].keys()
    best = max(lines[4]["validation_iou"], lines[8]["validation_iou"])
    weights, metadata = load_weights(run.checkpoints / "best.safetensors")
    assert float(metadata["validation_iou"]) == pytest.approx(best)
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert metrics["mean_iou"] == pytest.approx(best) and metrics["best_step"] in (4, 8)
    again = evaluate_segmenter(load_segmenter(run.checkpoints / "best.safetensors"), Squares(8))
    assert again["mean_iou"] == pytest.approx(best, abs=1e-6)


def test_a_worse_average_does_not_replace_the_best(tmp_path):
    run, result = train(tmp_path / "run", 4, validation=Squares(8))
    best = run.checkpoints / "best.safetensors"
    export_segmenter(result.model, best, {"step": 1, "validation_iou": 0.999}, half=False)
    before = best.read_bytes()
    train(tmp_path / "run", 8, validation=Squares(8))
    assert best.read_bytes() == before


def test_the_hook_sees_every_logged_line(tmp_path):
    seen = []
    train(tmp_path / "run", 6, on_log=lambda line, model, ema: seen.append(line["step"]))
    assert seen == [2, 4, 6]


def test_a_frozen_encoder_keeps_its_weights(tmp_path):
    source = PersonSegmenter(tiny_config())
    path = tmp_path / "encoder.pth"
    torch.save(source.encoder.network.state_dict(), path)
    config = {"freeze_encoder": True, "pretrained_file": str(path)}
    _, result = train(tmp_path / "run", 3, config=config)
    for name, value in source.encoder.state_dict().items():
        assert torch.equal(result.model.encoder.state_dict()[name], value), name
    changed = result.model.blocks.state_dict()["0.mlp.fc1.weight"]
    torch.manual_seed(result.model.config.seed)
    assert not torch.equal(changed, PersonSegmenter(result.model.config).blocks[0].mlp.fc1.weight)


def test_a_frozen_random_encoder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="would keep a random encoder"):
        train(tmp_path / "run", 3, config={"freeze_encoder": True})


def test_a_model_without_tail_trains_too(tmp_path):
    _, result = train(tmp_path / "run", 2, validation=Squares(2), config={"tail": None})
    assert math.isfinite(result.stats[-1]["loss"]) and "validation_iou" in result.stats[-1]


def test_items_of_different_sizes_are_refused():
    class Mixed(Squares):
        def item(self, epoch, index):
            return Squares(1, 32 + 32 * (index % 2)).item(epoch, index)

    with pytest.raises(ValueError, match="different sizes"):
        batch_of(Mixed(), 0, [0, 1])


def test_evaluation_counts_every_item_and_leaves_the_mode():
    model = bright(32).train()
    result = evaluate_segmenter(model, Squares(7), batch=3)
    assert result["n_images"] == 7 and result["mean_iou"] > 0.99 and model.training
    ignoring = Squares(3)
    ignoring.item = lambda epoch, index: (
        -torch.ones(3, 32, 32),
        torch.ones(1, 32, 32, dtype=torch.bool),
        torch.ones(1, 32, 32, dtype=torch.bool),
    )
    assert evaluate_segmenter(model, ignoring)["mean_iou"] == 1


def test_export_refuses_other_weights_and_stores_facts(tmp_path):
    model = PersonSegmenter(tiny_config())
    path = tmp_path / "s.safetensors"
    with pytest.raises(ValueError, match="not of the network"):
        export_segmenter(model, path, weights={"a": torch.zeros(1)})
    assert not path.exists()
    other = {name: value + 1 for name, value in model.state_dict().items()}
    export_segmenter(model, path, {"step": 7, "run": "toy"}, weights=other)
    weights, metadata = load_weights(path)
    assert metadata["step"] == "7" and metadata["run"] == "toy" and metadata["kind"] == "segmenter"
    assert json.loads(metadata["config"])["image_size"] == 32
    assert weights["tail.out.bias"].dtype == torch.float16
    assert torch.allclose(weights["tail.out.bias"].float(), other["tail.out.bias"], atol=1e-2)


def test_a_pretrained_encoder_learns_slowly_and_is_exported_for_another_size(
    tmp_path, monkeypatch, capsys
):
    """The recipe of the weights that ship, for two steps."""
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path))
    config = preset(
        SegmentationConfig, "overnight", image_size=64, fpn_dim=16, steps=2, batch=2,
        warmup=0, log_every=2, save_every=2,
    )  # fmt: skip
    run = Run("lite", config)
    result = train_segmentation(run, config, Squares(4, 64), Squares(2, 64))
    assert "Apache-2.0" in capsys.readouterr().out, "the licence of foreign weights is said"
    line = result.stats[-1]
    total = line["boundary"] + line["iou_loss"]
    assert line["loss"] == pytest.approx(total, rel=1e-4), "the IoU loss is not the IoU"
    start = PersonSegmenter(config).encoder.network
    trained = result.model.encoder.network
    assert torch.equal(trained.conv_stem.weight, start.conv_stem.weight), "frozen"
    moved = (trained.blocks[6][0].conv_pw.weight - start.blocks[6][0].conv_pw.weight).abs().max()
    assert 0 < moved < 3 * config.lr * config.encoder_lr

    out = tmp_path / "lite.safetensors"
    command = ["export", "segmentation", "--run", "lite", "--out", str(out)]
    for which in ("best", "last"):
        assert cli.main([*command, "--which", which, "--image-size", "96"]) == 0
        assert load_segmenter(out).config.image_size == 96
        assert "conv_stem.weight" in " ".join(load_weights(out)[0]), "the encoder is in the file"
    assert cli.main([*command, "--image-size", "8"]) == 2
    assert "image_size=8" in capsys.readouterr().err
