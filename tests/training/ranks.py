"""What two processes do in `test_distributed`; started by torch.distributed.run.

Each part leaves its outcome as `<part>-<rank>.json`, the trainings leave their run folders.
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from messi_lib.consistency.train import train_consistency
from messi_lib.profiles import ConsistencyConfig, TrainConfig, preset
from messi_lib.runs import Run
from messi_lib.segmentation.train import train_segmentation
from messi_lib.training.distributed import current
from messi_lib.training.loop import train
from tests.segmentation.toys import Squares, tiny_config

GENERATOR = preset(
    ConsistencyConfig, "smoke", image_size=8, model_channels=32, batch=8, microbatch=4, steps=20,
    log_every=1, save_every=10, dropout=0.2, ect_dropout=0.2, augment=0.3, optimizer="adam",
    channels_last=True,
)  # fmt: skip
SEGMENTER = tiny_config(
    batch=8, microbatch=2, steps=20, log_every=1, save_every=10, strong_augment=True
)
TOY = TrainConfig(steps=20, batch=4, lr=0.05, warmup=3, log_every=5, save_every=5)


def photos() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (24, 8, 8, 3), dtype=np.uint8)


def generator(folder: Path, config: ConsistencyConfig = GENERATOR):
    return train_consistency(Run("g", config, folder=folder), config, photos(), quiet=True)


def segmenter(folder: Path):
    run = Run("s", SEGMENTER, folder=folder)
    return train_segmentation(run, SEGMENTER, Squares(), quiet=True)


def toy(folder: Path, loss_fn, config: TrainConfig = TOY, after_step=None, first=0.0,
        batches=None, on_log=None):  # fmt: skip
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    with torch.no_grad():
        model[0].bias += first

    def batch_at(step, share=slice(None)):
        seen.append((step, share.start, share.stop))
        return torch.randn(4, 2, generator=torch.Generator().manual_seed(step))[share]

    seen: list = []
    run = Run("t", config, folder=folder)
    result = train(run, model, loss_fn, batches or batch_at, config, after_step=after_step,
                   on_log=on_log, quiet=True)  # fmt: skip
    return result, seen


def squares(model, batch, generator, step):
    return (model(batch).squeeze(1) - batch.sum(1)).square().mean(), {}


def refusal(action) -> str:
    try:
        action()
    except ValueError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    ranks = current()

    def tell(part: str, **facts) -> None:
        (folder / f"{part}-{ranks.rank}.json").write_text(json.dumps(facts))

    generator(folder / "generator")
    segmenter(folder / "segmenter")
    half = dataclasses.replace(GENERATOR, steps=10, horizon=20)
    generator(folder / "changed", half)

    result, seen = toy(folder / "shares", squares)
    tell("shares", seen=seen, weights=result.model[0].weight.tolist())

    # Made differently on each rank (an unseeded initialisation): sent once, before the first step.
    result, _ = toy(folder / "unseeded", squares, first=0.5 * ranks.rank)
    tell("unseeded", weights=result.model[0].bias.tolist())

    def broken(model, batch, generator, step):
        loss, stats = squares(model, batch, generator, step)
        return (loss * float("nan") if (step, ranks.rank) == (7, 1) else loss), stats

    tell("broken", error=refusal(lambda: toy(folder / "broken", broken)))

    def astray(model, step):
        if step == 6 and ranks.rank == 1:
            nn.init.constant_(model[0].bias, 3.0)

    tell("astray", error=refusal(lambda: toy(folder / "astray", squares, after_step=astray)))
    other = dataclasses.replace(TOY, lr=0.01 * (1 + ranks.rank))
    tell("config", error=refusal(lambda: toy(folder / f"c{ranks.rank}", squares, other)))
    odd = dataclasses.replace(TOY, batch=5)
    tell("odd", error=refusal(lambda: toy(folder / "odd", squares, odd)))

    def unread(step, share=slice(None)):
        if (step, ranks.rank) == (3, 1):
            raise ValueError("a photo cannot be read")
        return torch.zeros(4, 2)[share]

    def fails(line, model, ema):
        raise ValueError("the disk is full")

    for part, more in (("unread", {"batches": unread}), ("measured", {"on_log": fails})):
        tell(part, error=refusal(lambda m=more, p=part: toy(folder / p, squares, **m)))

    def idle():
        torch.manual_seed(0)
        model = nn.ModuleList([nn.Linear(2, 1), nn.Linear(3, 1)])
        one = lambda model, *rest: squares(model[0], *rest)  # noqa: E731
        run = Run("i", TOY, folder=folder / "idle")
        train(run, model, one, lambda step, share: torch.ones(4, 2)[share], TOY, quiet=True)

    tell("idle", error=refusal(idle))

    def ask(model, step):
        if step == 6 and ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    result, _ = toy(folder / "asked", squares, after_step=ask)
    tell("asked", step=result.step, stopped=result.stopped)
    result, _ = toy(folder / "asked", squares)
    tell("went_on", step=result.step, weights=result.model[0].weight.tolist())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
