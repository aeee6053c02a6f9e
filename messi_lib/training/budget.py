"""What a training will need, before it starts: memory of its states and activations, and disk.

Found by running one step on PyTorch's `meta` device, where tensors have shapes but no content: a
network of 500 million parameters takes seconds and no memory (post-mortem 12: the predecessor found
out on the GPU).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GB = 1e9


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, among those made inside the `with` block.

    Attributes:
        now, peak: bytes. Views share the storage they are counted by.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if _is(t)}
        for tensor in tree_leaves(made):
            if _is(tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in given and key not in self._alive:
                    self._add(key, storage)
        return made

    def _add(self, key: int, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()

        def gone(_: object) -> None:
            self.now -= size
            self._alive.pop(key, None)

        self._alive[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


def _is(value: object) -> bool:
    return isinstance(value, Tensor)


def activation_bytes(loss_of: Callable[[int], Tensor]) -> int:
    """Bytes of activations for each image of a step, at the peak of forward and backward pass.

    Args:
        loss_of: `number of images -> loss`, on the meta device. Asked for 8 and 24 images: what
            does not grow with their number (gradients, copies of weights) cancels out.
    """
    loss_of(1).backward()  # makes the gradients, which then stay
    peaks = []
    for images in (8, 24):
        with LiveBytes() as live:
            loss_of(images).backward()
        peaks.append(live.peak)
    return (peaks[1] - peaks[0]) // 16


@dataclass(frozen=True)
class Budget:
    """Bytes that a training takes, by what they are for."""

    parameters: int  # number of them, not bytes
    weights: int
    gradients: int
    optimizer: int
    average: int  # 0 when it is kept off the GPU
    copies: int  # target and teacher
    half: int  # weights in bf16, made by autocast for each forward pass
    activations: int  # of the images that are computed at a time
    state_file: int  # on disk, for one saved state

    @property
    def states(self) -> int:
        """Bytes that stay through the whole run."""
        return self.weights + self.gradients + self.optimizer + self.average + self.copies

    @property
    def total(self) -> int:
        """Bytes at the peak of a step, without the libraries' own workspaces."""
        return self.states + self.half + self.activations

    def table(self) -> str:
        """The budget as lines of text."""
        rows = [
            ("weights, fp32", self.weights),
            ("gradients, fp32", self.gradients),
            ("optimiser, two moments", self.optimizer),
            ("average (EMA)", self.average),
            ("target and teacher", self.copies),
            ("states", self.states),
            ("weights in bf16, while computing", self.half),
            ("activations", self.activations),
            ("peak of a step", self.total),
            ("disk, one saved state (two are kept)", self.state_file),
        ]
        lines = [f"{self.parameters:,} parameters"]
        return "\n".join(lines + [f"{name:<38}{size / GB:9.2f} GB" for name, size in rows])


def budget(
    model: nn.Module,
    activations: int,
    *,
    copies: int = 0,
    average_on_device: bool = True,
    half: bool = True,
) -> Budget:
    """The budget of training `model` with Adam (or RAdam) in fp32 with bf16 autocast.

    Args:
        model: may be on the meta device.
        activations: bytes, for the images that are computed at a time.
        copies: further networks of the same size on the device (target, teacher).
        half: whether autocast makes bf16 copies of the weights.
    """
    parameters = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Budget(
        parameters=parameters,
        weights=4 * parameters,
        gradients=4 * trained,
        optimizer=8 * trained,
        average=4 * parameters if average_on_device else 0,
        copies=4 * parameters * copies,
        half=2 * parameters if half else 0,
        activations=activations,
        state_file=8 * parameters + 8 * trained + (4 * parameters if copies else 0),
    )
