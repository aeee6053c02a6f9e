import os

import pytest
import torch

from messi_lib.training.feed import batches


def batch_at(step: int) -> tuple[torch.Tensor, int]:
    return torch.full((2, 3), float(step)), os.getpid()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_any_number_of_workers_gives_the_same_batches_in_order(workers):
    found = list(batches(batch_at, range(3, 11), workers))
    assert [float(batch[0, 0]) for batch, _ in found] == list(range(3, 11))
    others = {process for _, process in found} - {os.getpid()}
    assert len(others) == workers


def test_an_error_of_a_worker_arrives_with_its_message():
    def broken(step: int) -> torch.Tensor:
        if step == 2:
            raise ValueError("photo 7 is torn")
        return torch.zeros(1)

    for workers in (0, 1):
        with pytest.raises(ValueError, match="photo 7 is torn"):
            list(batches(broken, range(4), workers))


def test_no_steps_and_no_workers_are_fine_and_negative_ones_are_refused():
    assert list(batches(batch_at, range(0), 2)) == []
    with pytest.raises(ValueError, match="workers=-1"):
        list(batches(batch_at, range(1), -1))
