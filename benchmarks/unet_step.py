"""How long the UNet takes for a forward and backward pass, beside the same network in diffusers.

    python benchmarks/unet_step.py [--rounds 9] [--batch 16] [--threads 1] [--compile] [--memory]

Prints JSON lines. `unet_step`: medians in milliseconds of the processor's time (of all threads),
which a busy machine stretches less than the clock, and ratios, each the median of those of the
rounds: in every round all networks run, one after the other, on the same weights and images. The
network is that of the reference numbers: 32 pixels, 32 channels, multiples 1, 2, 2, two blocks per
level, attention at half and quarter size. `--compile` adds the compiled network (needs g++) and the
seconds of its first step. `--memory` prints what recomputation costs and saves: `unet_memory`,
megabytes kept for the backward pass and the ratio of times, with each level recomputed.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from datetime import date

import torch
from torch import Tensor, nn

from messi_lib.consistency.denoiser import build_denoiser
from messi_lib.consistency.interchange import to_diffusers
from messi_lib.consistency.unet import UNet
from messi_lib.profiles import ConsistencyConfig

CONFIG = ConsistencyConfig(
    image_size=32,
    patch=1,
    gate=False,
    model_channels=32,
    channel_mult=(1, 2, 2),
    num_res_blocks=2,
    attention_resolutions=(2, 4),
    num_head_channels=32,
    use_scale_shift_norm=True,
    resblock_updown=True,
)
Step = Callable[[], Tensor]


def networks() -> tuple[UNet, nn.Module]:
    """Ours and that of diffusers, with the same weights, none of them zero."""
    torch.manual_seed(0)
    denoiser = build_denoiser(CONFIG)
    for parameter in denoiser.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    theirs, _ = to_diffusers(denoiser)
    return denoiser.unet.train(), theirs.train()


def milliseconds(network: nn.Module, output: Step) -> float:
    """One forward and backward pass, in the processor's time."""
    network.zero_grad(set_to_none=True)
    began = time.process_time()
    output().square().mean().backward()
    return 1000 * (time.process_time() - began)


def in_turns(steps: dict[str, tuple[nn.Module, Step]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every network in every round, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, (network, output) in steps.items():
            took = milliseconds(network, output)
            if turn:
                times[name].append(took)
    return times


def ratio(one: list[float], other: list[float]) -> float:
    """How many times as long as `other` `one` takes."""
    return round(statistics.median(a / b for a, b in zip(one, other)), 3)


def compare(rounds: int, batch: int, compiled: bool) -> dict[str, object]:
    """Ours, theirs, both with channels-last maps and weights, and ours compiled."""
    ours, theirs = networks()
    x, t = torch.randn(batch, 3, 32, 32), 100 * torch.rand(batch)
    last = torch.channels_last
    x_last = x.contiguous(memory_format=last)
    ours_last = copy.deepcopy(ours).to(memory_format=last)
    theirs_last = copy.deepcopy(theirs).to(memory_format=last)
    steps: dict[str, tuple[nn.Module, Step]] = {
        "ours": (ours, lambda: ours(x, t)),
        "diffusers": (theirs, lambda: theirs(x, t).sample),
        "ours_channels_last": (ours_last, lambda: ours_last(x_last, t)),
        "diffusers_channels_last": (theirs_last, lambda: theirs_last(x_last, t).sample),
    }
    line: dict[str, object] = {}
    with torch.no_grad():
        expected = steps["ours"][1]()
        for name, (_, output) in steps.items():
            torch.testing.assert_close(output(), expected, atol=1e-4, rtol=1e-4, msg=name)
    if compiled:
        fast = copy.deepcopy(ours)
        fast.compile()
        steps["ours_compiled"] = (fast, lambda: fast(x, t))
        began = time.perf_counter()
        milliseconds(*steps["ours_compiled"])
        line["compile_seconds"] = round(time.perf_counter() - began, 1)
    times = in_turns(steps, rounds)
    line["ms"] = {name: round(statistics.median(values), 1) for name, values in times.items()}
    line["diffusers_over"] = {
        name: ratio(times["diffusers"], values)
        for name, values in times.items()
        if name != "diffusers"
    }
    return line


def kept_megabytes(unet: UNet, output: Step) -> float:
    """What one call keeps for the backward pass, besides the parameters."""
    kept = {}  # by storage, alive, so that no address comes twice

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output()
    for parameter in unet.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 1e6


def recompute(rounds: int, batch: int) -> dict[str, object]:
    """Megabytes and time with no level, with the largest maps, and with all levels recomputed."""
    ours, _ = networks()
    x, t = torch.randn(batch, 3, 32, 32), 100 * torch.rand(batch)
    steps: dict[str, tuple[nn.Module, Step]] = {}
    megabytes = {}
    for rates in ((), (1,), (1, 2, 4)):
        name = ",".join(map(str, rates)) or "none"
        unet = copy.deepcopy(ours)
        unet.checkpoint_rates = rates
        steps[name] = (unet, lambda unet=unet: unet(x, t))
        megabytes[name] = round(kept_megabytes(*steps[name]), 1)
    times = in_turns(steps, rounds)
    slower = {name: ratio(values, times["none"]) for name, values in times.items()}
    return {"kept_mb": megabytes, "time_over_none": slower}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="the compiled network as well")
    parser.add_argument("--memory", action="store_true", help="recomputation as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts = {"date": str(date.today()), "torch": torch.__version__, "threads": options.threads,
             "batch": options.batch, "rounds": options.rounds}  # fmt: skip
    line = compare(options.rounds, options.batch, options.compile)
    print(json.dumps({"benchmark": "unet_step"} | facts | line), flush=True)
    if options.memory:
        line = recompute(options.rounds, options.batch)
        print(json.dumps({"benchmark": "unet_memory"} | facts | line), flush=True)


if __name__ == "__main__":
    main()
