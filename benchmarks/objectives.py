"""Five objectives at equal compute: EDM, CT, CD, iCT and the default recipe (EDM, then ECT).

    python benchmarks/objectives.py --passes 6000          # 5 runs, about 15 minutes of a core each
    python benchmarks/objectives.py --passes 6000 --judge  # and then measure their images

Every objective may spend the same number of network evaluations per image of the batch
(`recipes.COST`: forward 1, backward 2): a step of EDM costs 3, one of ECT, CT and iCT 4, one of
CD 6. CD spends half of the budget on its teacher. Same network, same photos, same batch. CT and CD
use the optimiser and schedules of their paper (RAdam 4e-4, constant; squared error, since the
paper's LPIPS is no part of this repository), the others those of the preset `overnight`. Prints one
line of JSON per measurement. Run the same command again to go on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from datetime import date

import numpy as np
import torch

from messi_lib.consistency.denoiser import Denoiser, load_denoiser
from messi_lib.consistency.noise import karras_sigmas
from messi_lib.consistency.ode import sample_ode
from messi_lib.consistency.recipes import COST, passes
from messi_lib.consistency.sampling import sample_multistep, step_sigmas
from messi_lib.consistency.train import train_consistency
from messi_lib.data.subject import pitch_subject
from messi_lib.evaluation.features import extract, load_extractor
from messi_lib.evaluation.frechet import frechet_distance
from messi_lib.evaluation.kernel import kid
from messi_lib.images import to_uint8
from messi_lib.profiles import ConsistencyConfig, preset
from messi_lib.runs import Run, runs_dir, seed_generator

PUBLISHED = dict(optimizer="radam", lr=4e-4, lr_schedule="constant", target_rate=0.95)


def plan(budget: int, profile: str) -> dict[str, ConsistencyConfig]:
    """The configuration of each run, in the order in which they are made."""
    base = preset(ConsistencyConfig, profile)
    tuned = (1 - base.edm_fraction) * COST["ect"] + base.edm_fraction * COST["edm"]

    def of(objective: str, steps: float, **changes) -> ConsistencyConfig:
        return dataclasses.replace(base, objective=objective, steps=round(steps), **changes)

    teacher = str(runs_dir() / f"objective-teacher-{budget}" / "generator.safetensors")
    return {
        "ect": of("ect", budget / tuned),
        "ct": of("ct", budget / COST["ct"], **PUBLISHED),
        "ict": of("ict", budget / COST["ict"]),
        "edm": of("edm", budget / COST["edm"]),
        "teacher": of("edm", budget / 2 / COST["edm"]),
        "cd": of("cd", budget / 2 / COST["cd"], **PUBLISHED, teacher=teacher),
    }


def draw(denoiser: Denoiser, n: int, steps: int, how: str, middle: float) -> np.ndarray:
    """n images, uint8 (n, S, S, 3). Two steps go through sigma = `middle`."""
    images = []
    for start in range(0, n, 100):
        generator = seed_generator(0, "judge", start)
        count = min(100, n - start)
        if how == "heun":
            drawn = sample_ode(denoiser, count, karras_sigmas(steps), generator)
        else:
            sigmas = [80.0, middle] if steps == 2 else step_sigmas(steps, denoiser)
            drawn = sample_multistep(denoiser, count, sigmas, generator)
        images.append(to_uint8(drawn))
    return np.concatenate(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=6000, help="evaluations per image of a batch")
    parser.add_argument("--profile", default="overnight")
    parser.add_argument("--judge", action="store_true")
    parser.add_argument("--only", nargs="*", default=[], help="some of the objectives")
    parser.add_argument("--n", type=int, default=250, help="images per measurement")
    parser.add_argument("--middle", type=float, default=0.8, help="sigma of the second step")
    options = parser.parse_args()

    plans = plan(options.passes, options.profile)
    wanted = options.only or list(plans)
    config = plans["ect"]
    photos = pitch_subject(config.images, config.image_size, config.seed)
    for name, config in plans.items():
        if name in wanted:
            run = Run(f"objective-{name}-{options.passes}", config)
            result = train_consistency(run, config, photos)
            run.metrics(seconds=result.seconds, passes=passes(config))
    if not options.judge:
        return
    held_out = pitch_subject(options.n, config.image_size, config.seed + 1)
    extractor = load_extractor("inception")
    real = extract(held_out, extractor)
    facts = {"benchmark": "objectives", "date": str(date.today()),
             "torch": torch.__version__, "passes": options.passes,
             "batch": config.batch, "n": options.n, "size": config.image_size}  # fmt: skip
    for name in wanted:
        if name == "teacher":
            continue
        denoiser = load_denoiser(
            runs_dir() / f"objective-{name}-{options.passes}" / "generator.safetensors"
        )
        ways = [(n, "multistep") for n in (1, 2, 4, 40)] if name != "edm" else [(20, "heun")]
        for steps, how in ways:
            began = time.perf_counter()
            drawn = draw(denoiser, options.n, steps, how, options.middle)
            seconds = time.perf_counter() - began
            features = extract(drawn, extractor)
            value, error = kid(features, real)
            line = {**facts, "objective": name, "steps": steps, "sampler": how,
                    "kid": round(value, 4), "kid_error": round(error, 4),
                    "fid": round(float(frechet_distance(features, real)), 1),
                    "images_per_second": round(options.n / seconds, 1)}  # fmt: skip
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
