"""What a generator's training shows of itself: sample grids and FID over time.

Both are drawn from the averaged weights, with noise of their own, so that watching changes nothing.
"""

from __future__ import annotations

import copy

import numpy as np
from torch import Tensor

from ..images import grid, write_png
from ..profiles import ConsistencyConfig
from ..runs import Run, seed_generator
from ..training.ema import PowerEMA
from .bank import Bank
from .denoiser import Denoiser
from .noise import karras_sigmas
from .ode import sample_ode
from .recipes import stage_of

BEST = "best.safetensors"  # in the run's checkpoints: the average with the lowest KID
MIDDLE = 0.8  # noise level of the second step: found by trying, see chapter 03
GRID = 32  # samples in a picture
EDM_STEPS = 10  # of Heun's method, while the network is a diffusion model


class Watch:
    """Called by the loop at every logged line; draws and measures when it is time.

    Args:
        photos: uint8 (N, S, S, 3), what FID and KID compare with: the first `config.fid_images`.

    Raises:
        ValueError: fewer photos than `fid_images`, or copies among them. Other errors as
            `evaluation.load_extractor`, for instance when its weights cannot be had: before the
            training begins.
    """

    def __init__(self, run: Run, config: ConsistencyConfig, photos: np.ndarray):
        for name in ("sample_every", "fid_every"):
            every = getattr(config, name)
            if every < 0 or every % config.log_every:
                raise ValueError(f"{name}={every}: give a multiple of log_every={config.log_every}")
        self.run, self.config = run, config
        self.shadow: Denoiser | None = None
        self.extractor = None
        if config.fid_every:
            from ..evaluation.features import load_extractor
            from ..evaluation.generator import check_sets
            from ..evaluation.store import MemoryStore

            if len(photos) < config.fid_images:
                raise ValueError(
                    f"fid_images={config.fid_images} but {len(photos)} photos: lower it, copies "
                    "would falsify the FID"
                )
            self.photos = photos[: config.fid_images]
            check_sets(self.photos, None, config.fid_images, [1])
            self.extractor, self.known = load_extractor("inception"), MemoryStore()

    def __call__(self, line: dict, denoiser: Denoiser, ema: PowerEMA) -> None:
        step, config = line["step"], self.config
        show = _due(step, config.sample_every, config.steps)
        measure = _due(step, config.fid_every, config.steps)
        if not (show or measure):
            return
        if self.shadow is None:
            self.shadow = copy.deepcopy(denoiser).requires_grad_(False)
        self.shadow.load_state_dict(ema.weights)
        self.shadow.eval()
        if show:
            picture = grid(self.draw(0, GRID, step), columns=8)
            write_png(picture, self.run.samples / f"step-{step:08d}.png")
            self.run.picture("samples", picture, step)
        if measure:
            line.update(self.measure(step))
            self.run.log(**{key: value for key, value in line.items() if key != "time"})

    def draw(self, start: int, count: int, step: int) -> Tensor:
        """Samples start, ..., start + count - 1, (count, C, S, S) in [-1, 1].

        As the network makes them best at this stage; the same noise each time.
        """
        if stage_of(self.config, step - 1) < 0:
            generator = seed_generator(self.config.seed, "watch", start)
            return sample_ode(self.shadow, count, karras_sigmas(EDM_STEPS), generator)
        return Bank(self.shadow, self.config.seed, {2: [self.config.sigma_max, MIDDLE]})(
            start, count, 2
        )

    def measure(self, step: int) -> dict[str, float]:
        """FID and KID of the average; the best one by KID is kept."""
        from ..evaluation.generator import evaluate_generator
        from .train import export_denoiser

        measured = evaluate_generator(
            lambda start, count, _: self.draw(start, count, step),
            self.photos,
            n=self.config.fid_images,
            steps=[EDM_STEPS if stage_of(self.config, step - 1) < 0 else 2],
            extractor=self.extractor,
            cache=self.known,
            cache_generated=False,
            audits=False,
        )
        rows = {row["metric"]: row for row in measured["rows"]}
        result = {metric: rows[metric]["value"] for metric in ("fid", "kid")}
        known = self.run.metrics()
        if result["kid"] < known.get("best_kid", float("inf")):
            path, state = self.run.checkpoints / BEST, self.shadow.state_dict()
            notes = {"step": str(step), "kid": f"{result['kid']:.4f}"}
            export_denoiser(path, self.config, state, notes)
            self.run.metrics(best_step=step, best_kid=result["kid"], best_fid=result["fid"])
        print(
            f"step {step}  KID {result['kid']:.4f} +- {rows['kid']['se']:.4f}  "
            f"FID[{rows['fid']['counts']}] {result['fid']:.1f} +- {rows['fid']['se']:.1f}  "
            f"({measured['seconds']['all']:.0f} s)",
            flush=True,
        )
        return result


def _due(step: int, every: int, last: int) -> bool:
    return bool(every) and (step % every == 0 or step == last)
