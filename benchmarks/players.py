"""The long run of the preset `overnight`, judged: through training, by steps, by middle level.

    messi train consistency --profile overnight --run players
    python benchmarks/players.py --run players --kept runs/players/kept --out benchmarks/results

`--kept` is a folder of states that were copied while the run went on (a run itself keeps two).
Prints one line of JSON per measurement: KID (with its standard error) and FID of `--n` samples
against as many held-out drawn photos, Inception features. With `--out`, also sheets of samples.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from objectives import draw
from PIL import Image

from messi_lib.consistency.denoiser import Denoiser, build_denoiser
from messi_lib.consistency.sampling import sample_multistep
from messi_lib.consistency.train import load_run, stored_config
from messi_lib.data.subject import pitch_subject
from messi_lib.evaluation.features import extract, load_extractor
from messi_lib.evaluation.frechet import frechet_distance
from messi_lib.evaluation.kernel import kid
from messi_lib.images import grid
from messi_lib.runs import runs_dir, seed_generator
from messi_lib.training.checkpoints import load_weights


def kept_states(folder: Path, run: Path) -> dict[int, Denoiser]:
    """Step -> generator, from copied states."""
    config, found = stored_config(run), {}
    for path in sorted(folder.glob("state-*.safetensors")):
        tensors, metadata = load_weights(path)
        denoiser = build_denoiser(config)
        denoiser.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("ema.")})
        found[int(metadata["step"])] = denoiser.eval().requires_grad_(False)
    return found


def save_sheet(images: torch.Tensor, columns: int, path: Path) -> None:
    """A contact sheet as JPEG: noisy samples make large PNGs."""
    sheet = Image.fromarray(grid(images, columns=columns, scale=2))
    sheet.save(path, quality=80, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="players")
    parser.add_argument("--kept", type=Path, default=None)
    parser.add_argument("--n", type=int, default=250)
    parser.add_argument("--middle", type=float, default=0.8)
    parser.add_argument("--middles", type=float, nargs="*", default=[0.3, 0.8, 1.5, 2.5, 5.0])
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()

    folder = runs_dir() / options.run
    final, last = load_run(folder)
    states = kept_states(options.kept, folder) if options.kept else {}
    states[last] = final
    config = final.config
    extractor = load_extractor("inception")
    real = extract(pitch_subject(options.n, config.image_size, config.seed + 1), extractor)
    floor = extract(pitch_subject(options.n, config.image_size, config.seed + 2), extractor)
    facts = {"benchmark": "players", "date": str(date.today()),
             "torch": torch.__version__, "run": "overnight",
             "batch": config.batch, "n": options.n, "size": config.image_size}  # fmt: skip

    def judge(features: np.ndarray, **what) -> None:
        value, error = kid(features, real)
        scores = {"kid": round(value, 4), "kid_error": round(error, 4),
                  "fid": round(float(frechet_distance(features, real)), 1)}  # fmt: skip
        print(json.dumps({**facts, **what, **scores}), flush=True)

    def measure(table: str, denoiser: Denoiser, step: int, calls: int, how: str, mid: float):
        began = time.perf_counter()
        images = draw(denoiser, options.n, calls, how, mid)
        speed = round(options.n / (time.perf_counter() - began), 1)
        judge(extract(images, extractor), table=table, step=step, steps=calls, sampler=how,
              middle=mid, images_per_second=speed)  # fmt: skip

    judge(floor, table="floor")
    edm_ends = round(config.edm_fraction * config.steps)
    for step, denoiser in states.items():
        measure("training", denoiser, step, 2, "multistep", options.middle)
        if step == edm_ends:  # a diffusion model, and what it can do with many steps
            measure("training", denoiser, step, 20, "heun", options.middle)
    for calls in (1, 2, 4, 40):
        measure("steps", final, last, calls, "multistep", options.middle)
    for middle in options.middles:
        measure("middle", final, last, 2, "multistep", middle)
    if options.out is not None:
        rows = []
        for denoiser in states.values():
            generator = seed_generator(0, "sheet")
            rows.append(sample_multistep(denoiser, 12, [80.0, options.middle], generator))
        save_sheet(torch.cat(rows), 12, options.out / "players-training.jpg")
        drawn = sample_multistep(final, 96, [80.0, options.middle], seed_generator(1, "sheet"))
        save_sheet(drawn, 16, options.out / "players.jpg")


if __name__ == "__main__":
    main()
