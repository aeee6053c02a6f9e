"""What a generator's training shows of itself: sample grids and FID over time.

Both are drawn from the averaged weights, with noise of their own, so that watching changes nothing.
"""

from __future__ import annotations

import copy
import time

import numpy as np
import torch

from ..images import grid, to_uint8, write_png
from ..profiles import ConsistencyConfig
from ..runs import Run, seed_generator
from ..training.ema import PowerEMA
from .denoiser import Denoiser
from .noise import karras_sigmas
from .ode import sample_ode
from .recipes import stage_of
from .sampling import sample_multistep

BEST = "best.safetensors"  # in the run's checkpoints: the average with the lowest KID
MIDDLE = 0.8  # noise level of the second step: found by trying, see chapter 03
GRID = 32  # samples in a picture
EDM_STEPS = 10  # of Heun's method, while the network is a diffusion model
BATCH = 50


class Watch:
    """Called by the loop at every logged line; draws and measures when it is time.

    Args:
        photos: uint8 (N, S, S, 3), what FID and KID compare with: the first `config.fid_images`.

    Raises:
        ValueError: fewer photos than `fid_images`. Other errors as `evaluation.load_extractor`, for
            instance when its weights cannot be had: before the training begins.
    """

    def __init__(self, run: Run, config: ConsistencyConfig, photos: np.ndarray):
        for name in ("sample_every", "fid_every"):
            every = getattr(config, name)
            if every < 0 or every % config.log_every:
                raise ValueError(f"{name}={every}: give a multiple of log_every={config.log_every}")
        self.run, self.config = run, config
        self.shadow: Denoiser | None = None
        self.extractor = self.real = None
        if config.fid_every:
            from ..evaluation.features import extract, load_extractor

            if len(photos) < config.fid_images:
                raise ValueError(
                    f"fid_images={config.fid_images} but {len(photos)} photos: lower it, copies "
                    "would falsify the FID"
                )
            self.extractor = load_extractor("inception")
            self.real = extract(photos[: config.fid_images], self.extractor)

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
            picture = grid(self.draw(GRID, step), columns=8)
            write_png(picture, self.run.samples / f"step-{step:08d}.png")
            self.run.picture("samples", picture, step)
        if measure:
            line.update(self.measure(step))
            self.run.log(**{key: value for key, value in line.items() if key != "time"})

    def draw(self, n: int, step: int) -> torch.Tensor:
        """Samples (n, C, S, S) in [-1, 1] as the network makes them best at this stage."""
        parts = []
        for start in range(0, n, BATCH):
            generator = seed_generator(self.config.seed, "watch", start)
            count = min(BATCH, n - start)
            if stage_of(self.config, step - 1) < 0:
                sigmas = karras_sigmas(EDM_STEPS)
                parts.append(sample_ode(self.shadow, count, sigmas, generator))
            else:
                sigmas = [self.config.sigma_max, MIDDLE]
                parts.append(sample_multistep(self.shadow, count, sigmas, generator))
        return torch.cat(parts)

    def measure(self, step: int) -> dict[str, float]:
        """FID and KID of the average; the best one by KID is kept."""
        from ..evaluation.features import extract
        from ..evaluation.frechet import frechet_distance
        from ..evaluation.kernel import kid
        from .train import export_denoiser

        began = time.perf_counter()
        drawn = to_uint8(self.draw(self.config.fid_images, step))
        features = extract(drawn, self.extractor)
        value, error = kid(features, self.real)
        result = {"fid": float(frechet_distance(features, self.real)), "kid": value}
        known = self.run.metrics()
        if value < known.get("best_kid", float("inf")):
            path, state = self.run.checkpoints / BEST, self.shadow.state_dict()
            export_denoiser(path, self.config, state, {"step": str(step), "kid": f"{value:.4f}"})
            self.run.metrics(best_step=step, best_kid=value, best_fid=result["fid"])
        print(
            f"step {step}  KID {value:.4f} +- {error:.4f}  FID {result['fid']:.1f} of "
            f"{self.config.fid_images} images  ({time.perf_counter() - began:.0f} s)",
            flush=True,
        )
        return result


def _due(step: int, every: int, last: int) -> bool:
    return bool(every) and (step % every == 0 or step == last)
