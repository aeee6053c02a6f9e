"""What a GPU can do: its matrix rate in bf16, its attention kernels; and the arithmetic of shares.

The rate is measured, not taken from a data sheet: what a large matrix product of PyTorch reaches on
this very machine is what a training can hope for.
"""

from __future__ import annotations

import contextlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from messi_lib.consistency.attention import BACKENDS, attention, backend_report, use_backend
from messi_lib.consistency.blocks import AttentionBlock
from messi_lib.consistency.denoiser import build_denoiser
from messi_lib.profiles import ConsistencyConfig

TERA = 1e12


def synchronise(place: torch.device) -> None:
    """Wait for the GPU; a CPU has done what it was asked."""
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def timed(call: Callable[[], object], place: torch.device) -> float:
    """Seconds of a call, with all the work that it asked for."""
    synchronise(place)
    began = time.perf_counter()
    call()
    synchronise(place)
    return time.perf_counter() - began


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 products and convolutions may round their inputs to TF32 (10 bits)."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


# --- operations ---------------------------------------------------------------------------------


def forward_flops(config: ConsistencyConfig) -> int:
    """Floating-point operations of one forward pass for one image, a multiply-add counted as two.

    Counted on tensors without content, with the arithmetic that a GPU gets (under autocast; on a
    CPU in float32 the network arranges some of it otherwise) and attention as two products.
    """
    with FakeTensorMode(), torch.no_grad(), use_backend("math"):
        denoiser = build_denoiser(config).eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.autocast("cpu", dtype=torch.bfloat16):
            denoiser(torch.zeros(1, *denoiser.shape), torch.ones(1))
    return counter.get_total_flops()


def utilisation(images_per_second: float, flops: float, passes: float, peak: float) -> float:
    """Model FLOP utilisation: the share of the peak that does the network's own arithmetic.

    Args:
        flops: of a forward pass for one image.
        passes: forward passes that a step costs per image, a backward pass counted as two (easy
            consistency tuning: 4, see `recipes.COST`). What is recomputed to save memory does not
            count: it is no use.
        peak: operations per second.
    """
    return images_per_second * flops * passes / peak


def matrix_peak(place: torch.device, quick: bool = False) -> dict[str, object]:
    """Operations per second of n x n bf16 products on random numbers, the best of the sizes.

    Each size: the median of ten rounds of ten products, after three to warm up.
    """
    found = {}
    for n in (256,) if quick else (4096, 8192, 16384):
        generator = torch.Generator(place).manual_seed(0)
        a, b = (
            torch.randn(n, n, device=place, generator=generator).to(torch.bfloat16)
            for _ in range(2)
        )
        out = torch.empty_like(a)

        def ten(a: Tensor = a, b: Tensor = b, out: Tensor = out) -> None:
            for _ in range(10):
                torch.mm(a, b, out=out)

        ten()
        seconds = statistics.median(timed(ten, place) for _ in range(3 if quick else 10))
        found[n] = 10 * 2 * n**3 / seconds
    return {
        "peak_flops": max(found.values()),
        "teraflops": {n: round(rate / TERA, 4 if quick else 1) for n, rate in found.items()},
    }


# --- attention ----------------------------------------------------------------------------------


class AttentionOps(TorchDispatchMode):
    """Notes the names of the attention operators that run inside the `with` block."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if "attention" in name and name not in self.names:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def attention_facts(place: torch.device, quick: bool = False) -> dict[str, object]:
    """Which kernel attends in the network, and how long each one takes.

    `operators` ran in an attention block of `image_a` at 32 x 32 positions (512 channels, heads of
    64), forward and backward, under bf16 autocast. `milliseconds`, for forward and backward of the
    operator alone, by backend, "chosen" being PyTorch's own choice; or why it does not run.
    """
    batch, side, channels = (1, 8, 64) if quick else (16, 32, 512)
    backend, why = backend_report(place)
    block = AttentionBlock(channels, 1, 64).to(place)
    x = torch.randn(batch, channels, side, side, device=place)
    with AttentionOps() as seen:
        with torch.autocast(place.type, dtype=torch.bfloat16):
            out = block(x.requires_grad_())
        out.float().square().mean().backward()
    shape = (batch, channels // 64, side * side, 64)
    q, k, v = (
        torch.randn(shape, device=place, dtype=torch.bfloat16, requires_grad=True)
        for _ in range(3)
    )

    def both() -> None:
        attention(q, k, v).sum().backward()

    milliseconds: dict[str, float | str] = {}
    for name in (None, *BACKENDS):
        try:
            with warnings.catch_warnings(), use_backend(name):
                warnings.simplefilter("ignore")  # PyTorch explains every refusal at length
                both()
                took = statistics.median(timed(both, place) for _ in range(3 if quick else 20))
            milliseconds[name or "chosen"] = round(1000 * took, 3)
        except RuntimeError as error:
            milliseconds[name or "chosen"] = f"does not run: {str(error).splitlines()[0][:80]}"
    return {
        "backend": backend,
        "reason": why,
        "operators": seen.names,
        "on": f"(B, H, N, D) = {shape}",
        "milliseconds": milliseconds,
    }
