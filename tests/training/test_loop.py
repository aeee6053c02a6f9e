import dataclasses

import pytest
import torch
from torch import nn

from messi_lib.profiles import TrainConfig
from messi_lib.runs import Run, read_stats
from messi_lib.training.loop import train
from messi_lib.training.optimizer import autocast, drawing_autocast, learning_rate

CONFIG = TrainConfig(
    steps=20, batch=4, lr=0.05, warmup=3, log_every=5, save_every=5, optimizer="radam"
)


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 1))


def loss_fn(model, batch, generator, step):
    noise = 0.01 * torch.randn(batch.shape, generator=generator)
    error = model(batch + noise).squeeze(1) - batch.sum(dim=1)
    return error.square().mean(), {"error": float(error.detach().abs().mean())}


def batch_at(step):
    return torch.randn(4, 2, generator=torch.Generator().manual_seed(step))


def run_for(tmp_path, name, steps, **changes):
    config = dataclasses.replace(CONFIG, steps=steps, **changes)
    run = Run(name, config, folder=tmp_path / name)
    return train(run, make_model(), loss_fn, batch_at, config, quiet=True), run


def test_learns_and_logs(tmp_path):
    result, run = run_for(tmp_path, "a", 200)
    stats = read_stats(run.folder)
    assert [line["step"] for line in stats] == list(range(5, 201, 5))
    assert stats[-1]["loss"] < 0.5 * stats[0]["loss"]
    assert result.step == 200 and {"error", "lr", "images_per_second"} <= stats[0].keys()


def test_a_statistic_is_averaged_over_the_steps_that_have_it(tmp_path):
    """Where two stages share a line, neither may be diluted by the other's steps."""

    def staged(model, batch, generator, step):
        loss, _ = loss_fn(model, batch, generator, step)
        return loss, {"early": 2.0} if step < 7 else {"late": 3.0}

    config = dataclasses.replace(CONFIG, steps=10)
    run = Run("stages", config, folder=tmp_path / "stages")
    train(run, make_model(), staged, batch_at, config, quiet=True)
    middle = read_stats(run.folder)[1]
    assert middle["early"] == 2.0 and middle["late"] == 3.0


def test_stopping_and_going_on_equals_never_stopping(tmp_path):
    """Dropout, noise, optimiser, average: bit for bit."""
    whole, _ = run_for(tmp_path, "whole", 20)
    run_for(tmp_path, "parts", 10)
    parts, _ = run_for(tmp_path, "parts", 20)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, parts.model.state_dict()[name]), name
        assert torch.equal(whole.ema[name], parts.ema[name]), name


def test_workers_change_nothing_but_who_prepares_the_batches(tmp_path):
    alone, _ = run_for(tmp_path, "alone", 10)
    helped, _ = run_for(tmp_path, "helped", 10, workers=2)
    for name, value in alone.model.state_dict().items():
        assert torch.equal(value, helped.model.state_dict()[name]), name


def test_parts_of_a_model_may_learn_more_slowly(tmp_path):
    config = dataclasses.replace(CONFIG, steps=1, optimizer="adam")
    moved = {}
    for name, scales in (("same", None), ("slow", {"0.": 0.1}), ("still", {"0.": 0.0})):
        run = Run(name, config, folder=tmp_path / name)
        model, before = make_model(), make_model()
        train(run, model, loss_fn, batch_at, config, lr_scales=scales, quiet=True)
        moved[name] = [(model[i].weight - before[i].weight).abs().max().item() for i in (0, 3)]
    assert moved["slow"][0] == pytest.approx(0.1 * moved["same"][0], rel=1e-3)
    assert moved["still"][0] == 0 and moved["slow"][1] == moved["same"][1] > 0


def test_mixed_precision_computes_in_bf16_and_keeps_weights_in_float32(tmp_path):
    seen = []

    def watching(model, batch, generator, step):
        loss, stats = loss_fn(model, batch, generator, step)
        seen.append(model(batch).dtype)
        return loss, stats

    results = {}
    for precision in ("auto", "fp32", "bf16"):
        config = dataclasses.replace(CONFIG, precision=precision)
        run = Run(precision, config, folder=tmp_path / precision)
        results[precision] = train(run, make_model(), watching, batch_at, config, quiet=True)
    assert set(seen[:40]) == {torch.float32} and set(seen[40:]) == {torch.bfloat16}
    weights = {name: list(r.model.parameters()) for name, r in results.items()}
    assert all(torch.equal(a, b) for a, b in zip(weights["auto"], weights["fp32"]))
    for full, half in zip(weights["fp32"], weights["bf16"]):
        assert half.dtype == torch.float32
        torch.testing.assert_close(full, half, atol=0.1, rtol=0.1)
    with pytest.raises(ValueError, match="precision='half'"):
        autocast("half", torch.device("cpu"))


@pytest.mark.parametrize(
    ("place", "precision", "native", "half"),
    [
        ("cuda", "auto", True, True),
        ("cuda", "auto", False, False),
        ("cuda", "fp32", True, False),
        ("cuda", "bf16", False, True),
        ("cpu", "auto", True, False),
        ("cpu", "bf16", True, False),  # trained so; a CPU draws as it always did
    ],
)
def test_only_a_gpu_draws_in_half_precision(place, precision, native, half, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: native)
    made = []
    monkeypatch.setattr(torch, "autocast", lambda kind, **given: made.append((kind, given)))
    drawing_autocast(precision, torch.device(place))
    assert made == [(place, {"dtype": torch.bfloat16, "enabled": half})]


def test_a_finished_run_does_nothing_more(tmp_path):
    first, _ = run_for(tmp_path, "a", 10)
    again, _ = run_for(tmp_path, "a", 10)
    assert again.stats == [] and torch.equal(again.model[0].weight, first.model[0].weight)


def test_a_run_with_another_configuration_is_refused(tmp_path):
    run_for(tmp_path, "a", 5)
    with pytest.raises(ValueError, match="lr: 0.05 -> 0.1"):
        run_for(tmp_path, "a", 10, lr=0.1)


def test_a_loss_that_is_no_number_stops_with_the_step_and_a_saved_state(tmp_path):
    """The state before the bad step is saved: going on from it meets the same step again."""

    def explode(model, batch, generator, step):
        loss, stats = loss_fn(model, batch, generator, step)
        return (loss * float("nan") if step == 7 else loss), stats

    run = Run("bad", CONFIG, folder=tmp_path / "bad")
    for _ in range(2):
        with pytest.raises(ValueError, match="loss is nan at step 7.*state-00000007.*lower lr"):
            train(run, make_model(), explode, batch_at, CONFIG, quiet=True)
        names = sorted(p.name for p in run.checkpoints.iterdir())
        assert names == ["state-00000005.safetensors", "state-00000007.safetensors"]
    whole, _ = run_for(tmp_path, "good", 20)
    mended = train(run, make_model(), loss_fn, batch_at, CONFIG, quiet=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, mended.model.state_dict()[name]), name


def test_broken_weights_are_not_saved_over_good_ones(tmp_path):
    def poison(model, step):
        if step == 6:
            nn.init.constant_(model[0].bias, float("nan"))

    run = Run("bad", CONFIG, folder=tmp_path / "bad")
    with pytest.raises(ValueError, match="loss is nan at step 7; the last good state"):
        train(run, make_model(), loss_fn, batch_at, CONFIG, after_step=poison, quiet=True)
    assert [p.name for p in run.checkpoints.iterdir()] == ["state-00000005.safetensors"]


def test_small_portions_have_the_gradient_of_the_whole_batch(tmp_path):
    """Averaged, not summed: also when the last portion is smaller."""

    def plain(model, batch, generator, step):  # no noise: it is drawn per portion
        portions.append(len(batch))
        return (model[0](batch).sum(1) - 1).square().mean(), {"size": float(len(batch))}

    portions, weights = [], {}
    for size in (0, 3, 1):
        config = dataclasses.replace(CONFIG, microbatch=size, steps=6, log_every=1)
        run = Run(f"m{size}", config, folder=tmp_path / f"m{size}")
        weights[size] = train(run, make_model(), plain, batch_at, config, quiet=True).model
    assert portions == [4] * 6 + [3, 1] * 6 + [1] * 24
    for size in (3, 1):
        torch.testing.assert_close(weights[size][0].weight, weights[0][0].weight)
    assert read_stats(tmp_path / "m3")[0]["size"] == pytest.approx(0.75 * 3 + 0.25 * 1)


def test_a_slow_network_is_part_of_the_state(tmp_path):
    """A target that follows the student: stopped and resumed, it is the one of a whole run."""
    targets = []

    def go(name, steps):
        config = dataclasses.replace(CONFIG, steps=steps)
        target = make_model()

        def follow(model, step):
            for a, b in zip(target.parameters(), model.parameters()):
                a.data.lerp_(b.data, 0.1)

        run = Run(name, config, folder=tmp_path / name)
        more = {"after_step": follow, "slow": {"target": target}, "quiet": True}
        train(run, make_model(), loss_fn, batch_at, config, **more)
        targets.append(target)

    go("whole", 20)
    go("parts", 10)
    go("parts", 20)
    assert torch.equal(targets[0][0].weight, targets[2][0].weight)
    assert not torch.equal(targets[0][0].weight, targets[1][0].weight)


def test_a_rare_average_on_the_cpu_resumes_too(tmp_path):
    rare = {"ema_every": 4, "ema_device": "cpu", "channels_last": True}
    whole, _ = run_for(tmp_path, "whole", 20, **rare)
    run_for(tmp_path, "parts", 10, **rare)
    parts, _ = run_for(tmp_path, "parts", 20, **rare)
    every, _ = run_for(tmp_path, "every", 20)
    for name, value in whole.ema.items():
        assert torch.equal(value, parts.ema[name]), name
        torch.testing.assert_close(value, every.ema[name], atol=0.1, rtol=0.1)
        assert not torch.equal(value, every.ema[name]) or not value.any()


def test_moments_are_restored_in_the_layout_of_their_weights(tmp_path):
    """A fused kernel walks through weights and moments as they lie in memory: both alike."""

    def images(step):
        return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))

    def loss_of(model, batch, generator, step):
        return (model(batch) - batch.mean()).square().mean(), {}

    made = {}
    for name, lengths in (("whole", [20]), ("parts", [10, 20])):
        for steps in lengths:
            torch.manual_seed(0)
            model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 1, 3))
            config = dataclasses.replace(CONFIG, steps=steps, optimizer="adam", channels_last=True)
            run = Run(name, config, folder=tmp_path / name)
            made[name] = train(run, model, loss_of, images, config, quiet=True).model
    for a, b in zip(made["whole"].parameters(), made["parts"].parameters()):
        assert torch.equal(a, b)


def test_compiling_in_place_keeps_names_and_numbers(tmp_path, monkeypatch):
    """What is compiled is the module itself (a compiler that changes nothing stands in here)."""
    asked = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: asked.append(options))
    compiled, _ = run_for(tmp_path, "compiled", 5, compile=True)
    plain, _ = run_for(tmp_path, "plain", 5)
    assert asked == [{"options": {"fallback_random": True}}]
    assert compiled.ema.keys() == plain.ema.keys()


def test_learning_rate_warms_up_and_ends():
    cosine = dataclasses.replace(CONFIG, lr_schedule="cosine", steps=100)
    rates = [learning_rate(cosine, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.05 / 3, rel=1e-2) and max(rates) == rates[2]
    assert rates[100] == pytest.approx(0) and rates[50] == pytest.approx(0.025)
    assert learning_rate(CONFIG, 50) == 0.05
    short = dataclasses.replace(cosine, steps=20, warmup=1000)  # copied from a long run
    assert learning_rate(short, 0) == 0.025 and learning_rate(short, 1) > 0.049


@pytest.mark.parametrize("change", [{"optimizer": "sgd"}, {"lr_schedule": "step"}])
def test_bad_settings_are_refused(tmp_path, change):
    with pytest.raises(ValueError, match="use "):
        run_for(tmp_path, "a", 5, **change)


def test_nothing_to_train_is_said(tmp_path):
    with pytest.raises(ValueError, match="frozen"):
        train(
            Run("a", folder=tmp_path), make_model().requires_grad_(False), loss_fn, batch_at, CONFIG
        )
