"""What a training will need, before it starts: memory of its states and activations, and disk.

Found by running one step on PyTorch's `meta` device, where tensors have shapes but no content: a
network of 500 million parameters takes seconds and no memory (post-mortem 12: the predecessor found
out on the GPU).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GB = 1e9


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, among those made inside the `with` block.

    What a kernel takes while it runs, and gives back before it returns, is not seen.

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


@dataclass(frozen=True)
class StepBytes:
    """Bytes that live at the peak of a forward and backward pass."""

    fixed: int  # however many images: weights in bf16, the gradient of a layer
    each: int  # for every image


def step_bytes(loss_of: Callable[[int], Tensor], fixed: int | None = None) -> StepBytes:
    """What a step makes besides the states, at its peak.

    Args:
        loss_of: `number of images -> loss`, on fake tensors.
        fixed: known from another measurement of the same network, which also made the gradients:
            saves two of three passes.
    """
    if fixed is not None:
        return StepBytes(fixed, (_peak(loss_of, 8) - fixed) // 8)
    loss_of(1).backward()  # makes the gradients, which then stay
    few, many = _peak(loss_of, 8), _peak(loss_of, 24)
    each = (many - few) // 16
    return StepBytes(max(few - 8 * each, 0), each)


def _peak(loss_of: Callable[[int], Tensor], images: int) -> int:
    with LiveBytes() as live:
        loss_of(images).backward()
    return live.peak


@dataclass(frozen=True)
class Budget:
    """Bytes that a training takes, by what they are for."""

    parameters: int  # number of them, not bytes
    weights: int
    gradients: int
    optimizer: int
    average: int  # 0 when it is kept off the GPU
    copies: int  # target and teacher
    fixed: int  # of a pass, however many images: above all the weights in bf16
    each: int  # activations of one image
    images: int  # that are computed at a time
    update: int  # what the optimiser makes and drops while it moves the weights
    state_file: int  # on disk, for one saved state

    @property
    def states(self) -> int:
        """Bytes that stay through the whole run."""
        return self.weights + self.gradients + self.optimizer + self.average + self.copies

    @property
    def activations(self) -> int:
        """Bytes of all images that are computed at a time."""
        return self.each * self.images

    @property
    def total(self) -> int:
        """Bytes at the peak of a step, without the libraries' own workspaces."""
        return self.states + max(self.fixed + self.activations, self.update)

    def with_images(self, images: int) -> Budget:
        """The same training with another number of images at a time."""
        return replace(self, images=images)

    def table(self) -> str:
        """The budget as lines of text."""
        rows = [
            ("weights, fp32", self.weights),
            ("gradients, fp32", self.gradients),
            ("optimiser, two moments", self.optimizer),
            ("average (EMA)", self.average),
            ("target and teacher", self.copies),
            ("states", self.states),
            ("weights in bf16 and the like", self.fixed),
            (f"activations of {self.images} images", self.activations),
            ("or, while the weights are updated", self.update),
            ("peak of a step", self.total),
            ("disk, one saved state", self.state_file),
        ]
        lines = [f"{self.parameters:,} parameters"]
        return "\n".join(lines + [f"{name:<38}{size / GB:9.2f} GB" for name, size in rows])


def budget(
    model: nn.Module,
    step: StepBytes,
    images: int,
    *,
    optimizer: str = "adam",
    copies: int = 0,
    average_on_device: bool = True,
) -> Budget:
    """The budget of training `model` with Adam or RAdam in fp32, with bf16 autocast or without.

    Args:
        model: may consist of fake tensors.
        step: of this network, from `step_bytes`.
        images: computed at a time.
        optimizer: as in the configuration. RAdam, which has no fused kernel, makes one temporary
            value per weight when PyTorch runs it for all weights at once, as it does on GPUs.
        copies: further networks of the same size on the device (target, teacher).
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
        fixed=step.fixed,
        each=step.each,
        images=images,
        update=4 * trained if optimizer == "radam" else 0,
        state_file=state_bytes(model) + (4 * parameters if copies else 0),
    )


def state_bytes(model: nn.Module, slow: Mapping[str, nn.Module] | None = None) -> int:
    """Bytes of a saved state of a training with two moments per weight (Adam, RAdam).

    Weights and average as they are, moments of what trains, further networks.
    """
    own = sum(value.nbytes for value in model.state_dict().values())
    moments = 2 * sum(p.nbytes for p in model.parameters() if p.requires_grad)
    others = sum(v.nbytes for module in (slow or {}).values() for v in module.state_dict().values())
    names = len(model.state_dict()) * 2 + len(list(model.parameters())) * 3
    return 2 * own + moments + others + 150 * names  # the header: names, shapes, places
