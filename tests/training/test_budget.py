import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from messi_lib.training.budget import LiveBytes, activation_bytes, budget


def test_live_bytes_follow_tensors_through_their_lives():
    with LiveBytes() as live:
        a = torch.zeros(1000)
        b = a + 1
        view = b.view(10, 100)
        assert live.now == 8000
        del b
        assert live.now == 8000  # the view keeps the storage
        del view
        assert live.now == 4000
        a.add_(1)
        assert live.now == 4000 and live.peak >= 8000
        del a
    assert live.now == 0


def test_activations_are_what_backward_needs():
    """A chain of sigmoids keeps its outputs: (depth) x (values), and two more in the backward."""
    depth, width = 6, 5000
    with FakeTensorMode():

        def loss_of(images):
            x = torch.zeros(images, width, requires_grad=True)
            for _ in range(depth):
                x = x.sigmoid()
            return x.sum()

        each = activation_bytes(loss_of)
    assert (depth + 1) * 4 * width <= each <= (depth + 4) * 4 * width


def test_checkpointing_is_seen():
    from torch.utils.checkpoint import checkpoint

    def block(x):
        for _ in range(10):
            x = x.sigmoid()
        return x

    def loss_of(keep):
        def made(images):
            x = torch.zeros(images, 5000, requires_grad=True)
            for _ in range(4):
                x = block(x) if keep else checkpoint(block, x, use_reentrant=False)
            return x.sum()

        return made

    with FakeTensorMode():
        assert activation_bytes(loss_of(False)) < 0.5 * activation_bytes(loss_of(True))


def test_the_states_add_up():
    model = nn.Linear(1000, 1000, bias=False, device="meta")
    lean = budget(model, 5_000_000, average_on_device=False)
    assert lean.parameters == 10**6
    assert lean.states == 16 * 10**6 and lean.total == 23 * 10**6
    assert lean.state_file == 16 * 10**6
    full = budget(model, 5_000_000, copies=2, half=False)
    assert full.states == 28 * 10**6 and full.total == 33 * 10**6
    frozen = nn.Linear(1000, 1000, bias=False, device="meta").requires_grad_(False)
    assert budget(frozen, 0).states == 8 * 10**6
    assert "1,000,000 parameters" in lean.table() and "0.02 GB" in lean.table()


@pytest.mark.parametrize("parts", [1, 3])
def test_the_estimate_meets_what_a_real_step_allocates(parts):
    """Fake tensors and real ones of the same network: the same peak of live bytes."""

    def loss_of(images):
        torch.manual_seed(0)
        layers = [nn.Sequential(nn.Linear(64, 64), nn.SiLU()) for _ in range(parts)]
        return nn.Sequential(*layers)(torch.zeros(images * 64, 64)).square().mean()

    real = activation_bytes(loss_of)
    with FakeTensorMode():
        assert activation_bytes(loss_of) == real > 0
