import pytest
import torch
from torch import nn

from messi_lib.training.checkpoints import StateFiles, load_weights, save_weights


def test_round_trip_keeps_names_values_and_metadata(tmp_path):
    state = {"a.weight": torch.randn(3, 2), "n": torch.tensor(3)}
    path = save_weights(
        tmp_path / "w.safetensors", state, {"kind": "x", "config": '{"a": 1}'}, half=False
    )
    loaded, metadata = load_weights(path)
    assert torch.equal(loaded["a.weight"], state["a.weight"]) and loaded["n"] == 3
    assert metadata == {"kind": "x", "config": '{"a": 1}'}


def test_half_precision_is_half_the_size(tmp_path):
    state = {"w": torch.randn(1000)}
    full, half = (save_weights(tmp_path / f"{h}.st", state, {}, half=h) for h in (False, True))
    assert half.stat().st_size < 0.6 * full.stat().st_size
    torch.testing.assert_close(load_weights(half)[0]["w"].float(), state["w"], atol=1e-3, rtol=1e-3)


def test_weights_that_are_not_finite_or_too_large_are_not_saved(tmp_path):
    for value in (float("nan"), 1e6):
        with pytest.raises(ValueError, match="not finite"):
            save_weights(tmp_path / "w.st", {"w": torch.tensor([value])}, {})
    assert not list(tmp_path.iterdir())


def test_missing_and_truncated_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.safetensors are missing"):
        load_weights(tmp_path / "gone.safetensors")
    path = save_weights(tmp_path / "w.safetensors", {"w": torch.randn(100)}, {})
    content = path.read_bytes()
    for cut in (0, 4, 20, len(content) - 10):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="w.safetensors is no complete"):
            load_weights(path)


def make(seed):
    torch.manual_seed(seed)
    model = nn.Linear(3, 3)
    optimizer = torch.optim.RAdam(model.parameters())
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    return model, {k: v.clone() for k, v in model.state_dict().items()}, optimizer


def test_state_restores_everything_and_keeps_two(tmp_path):
    model, ema, optimizer = make(0)
    files = StateFiles(tmp_path)
    for step in (5, 10, 15):
        files.save(step, model, ema, optimizer)
    assert [p.name for p in files._paths()] == [
        "state-00000015.safetensors",
        "state-00000010.safetensors",
    ]
    other, other_ema, other_optimizer = make(1)
    assert files.load(other, other_ema, other_optimizer) == 15
    assert torch.equal(other.weight, model.weight) and torch.equal(
        other_ema["weight"], ema["weight"]
    )
    ours, theirs = other_optimizer.state_dict()["state"], optimizer.state_dict()["state"]
    assert ours.keys() == theirs.keys()
    for index, entry in theirs.items():
        for key, value in entry.items():
            assert torch.equal(torch.as_tensor(ours[index][key]), torch.as_tensor(value)), key


def test_a_torn_state_is_passed_over(tmp_path, capsys):
    model, ema, optimizer = make(0)
    files = StateFiles(tmp_path)
    files.save(5, model, ema, optimizer)
    newest = files.save(10, model, ema, optimizer)
    newest.write_bytes(newest.read_bytes()[:-7])
    assert files.load(*make(1)) == 5
    assert "state-00000010" in capsys.readouterr().out


def test_no_state_starts_at_zero_and_another_network_is_refused(tmp_path):
    files = StateFiles(tmp_path)
    assert files.load(*make(0)) == 0
    files.save(1, *make(0))
    wider = nn.Linear(4, 4)
    with pytest.raises(ValueError, match="belongs to another network"):
        files.load(wider, dict(wider.state_dict()), torch.optim.RAdam(wider.parameters()))
