import pytest
import torch

from messi_lib.training.sampler import PositionSampler


@pytest.mark.parametrize("n, batch", [(10, 5), (7, 3), (4, 4)])
def test_every_epoch_shows_every_image_once(n, batch):
    sampler = PositionSampler(n, batch, seed=1)
    stream = torch.cat([sampler(step) for step in range(n)])  # batch whole epochs
    for epoch in stream.split(n):
        assert sorted(epoch.tolist()) == list(range(n))


def test_is_addressed_by_step_and_seed():
    one, two = PositionSampler(20, 6, 0), PositionSampler(20, 6, 0)
    later = [two(step) for step in (9, 3, 5)]
    assert all(torch.equal(one(step), batch) for step, batch in zip((9, 3, 5), later))
    assert not torch.equal(one(3), PositionSampler(20, 6, 1)(3))
    assert not torch.equal(torch.cat([one(0), one(1)]), torch.cat([one(2), one(3)]))


def test_small_data_sets_say_so_instead_of_hanging():
    with pytest.raises(ValueError, match="empty"):
        PositionSampler(0, 1)
    with pytest.raises(ValueError, match="larger than the data set"):
        PositionSampler(3, 4)
