"""A subject of one's own, judged: what was kept, the generator, the layer, its figures in photos.

    messi data subject PHOTOS --out CURATED
    messi train consistency --profile overnight --run subject --photos CURATED --image-size 64
    messi train layer --profile overnight --run subject-layer --photos CURATED --crops-per-photo 8
    messi evaluate generator --run subject --real CURATED --out JUDGED
    python benchmarks/subject.py --curated CURATED --judged JUDGED --run subject \\
        --layer subject-layer --into COCO --out benchmarks/results/subject-DATE.jsonl

Numbers and settings only: no photo, and nothing that shows one. The layer is judged twice. In
photos of other people (`--into`, with `instances_person.json`), KID of the windows to photos of the
subject, before and after, beside the drawn figure that ships. And in photos of the subject that
were held out: are the figures copies of the training's (`evaluation/memorisation.py`)? One line of
JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from record import facts
from replace import WINDOW, coco_cases, window_of

from messi_lib import runs
from messi_lib.commands.inpainter import FINE, largest_person
from messi_lib.commands.photos import read_subject
from messi_lib.consistency.denoiser import Denoiser
from messi_lib.consistency.train import load_run, stored_config
from messi_lib.data.cutouts import photo_cutouts
from messi_lib.data.subject import photos_of
from messi_lib.evaluation.features import load_extractor
from messi_lib.evaluation.kernel import kid
from messi_lib.evaluation.memorisation import audit, pixel_vectors
from messi_lib.images import to_tensor, to_uint8
from messi_lib.inpainting.conditional import conditional_sigmas
from messi_lib.inpainting.layer import draw_layer, flatten, layer_of
from messi_lib.inpainting.self_masks import AROUND, self_mask
from messi_lib.inpainting.weights import load_for
from messi_lib.profiles import ReplaceConfig, preset
from messi_lib.replace import replace
from messi_lib.segmentation.infer import Segmenter

SETTINGS = (
    "image_size", "patch", "model_channels", "channel_mult", "batch", "lr", "lr_schedule",
    "edm_fraction", "ect_stages", "ema_std", "start",
)  # fmt: skip
HOLES = 4  # drawn for each photo that was held out


def settings_of(run: str) -> dict:
    """What a run was, and how far it came."""
    denoiser, step = load_run(runs.runs_dir() / run)
    config = stored_config(runs.runs_dir() / run)
    about = {name: getattr(config, name) for name in SETTINGS}
    about["start"] = Path(config.start).name if config.start else ""
    parameters = sum(p.numel() for p in denoiser.parameters())
    return about | {"steps": step, "images_seen": step * config.batch, "parameters": parameters}


def curation(folder: Path) -> dict:
    """Counts of `messi data subject`: photos, kept ones by split, reasons of those left out."""
    with (folder / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if row["verdict"] == "keep"]
    gone = Counter(re.split("[:;]", row["reasons"])[0] for row in rows if row["verdict"] != "keep")
    splits = Counter(row["split"] for row in kept)
    return {"photos": len(rows), "kept": len(kept)} | dict(splits) | {"left_out": dict(gone)}


def judged(folder: Path) -> dict:
    """The numbers of `messi evaluate generator`, and its audits without the pairs."""
    result = json.loads(next(folder.glob("*.json")).read_text())
    audits = [
        {name: value for name, value in entry.items() if name != "closest"}
        for entry in result["memorisation"]
    ]
    names = ("n_real", "n_holdout", "n_generated", "flagged", "warnings")
    return {"rows": result["rows"], "audits": audits} | {name: result[name] for name in names}


def figures_in(cases: list, denoiser: Denoiser | None) -> np.ndarray:
    """Windows around the largest person of each photo, with that person, or with a figure."""
    shown = []
    for pixels, person in cases:
        done = replace(pixels, hole=person, denoiser=denoiser or load_for("layer"), seed=1)
        shown.append(window_of(pixels if denoiser is None else done.pixels, done.hole))
    return np.stack(shown)


def likeness(cases: list, subject: np.ndarray, arms: dict[str, Denoiser | None]) -> dict:
    """KID of windows to photos of the subject, with its jackknife error, by who is in them."""
    network = load_extractor("inception")
    real = network(subject)
    found = {name: kid(real, network(figures_in(cases, who))) for name, who in arms.items()}
    return {name: [round(value, 4), round(error, 4)] for name, (value, error) in found.items()}


def on_grey(layers: torch.Tensor) -> np.ndarray:
    """Layers as pictures, uint8 `(N,S,S,3)`: what is compared is the figure, not its place."""
    return to_uint8(flatten(layers, torch.zeros_like(layers[:, :3])))


def copies(denoiser: Denoiser, train: np.ndarray, holdout: np.ndarray) -> dict:
    """Figures drawn into holes of photos held out: are they those of the training?

    Args:
        train, holdout: cut-outs, uint8 `(N,S,S,4)`.
    """
    drawn = []
    steps = preset(ReplaceConfig, "laptop").steps
    for number, cutout in enumerate(np.repeat(holdout, HOLES, 0)):
        rng = np.random.default_rng(number)
        other = holdout[(number // HOLES - 1) % len(holdout)]
        hole = self_mask(cutout[..., 3] > 0, rng, other[..., 3] > 0, shares=AROUND)
        image = to_tensor(np.ascontiguousarray(cutout[..., :3]))
        drawn.append(
            draw_layer(
                denoiser, image, torch.from_numpy(hole)[None, None],
                conditional_sigmas(steps, denoiser), [runs.seed_generator(number, "copies")],
            ).cpu()
        )  # fmt: skip
    pictures = (on_grey(torch.cat(drawn)), on_grey(layer_of(train)), on_grey(layer_of(holdout)))
    (made, _), (learnt, flipped), (unseen, _) = map(pixel_vectors, pictures)
    found = audit(made, learnt, unseen, space="pixels", train_flipped=flipped)
    names = ("n_generated", "n_train", "n_holdout", "share_close", "close_low", "close_high")
    names += ("holdout_close", "share_below", "z_u", "z_drawn", "flagged")
    return {name: runs.to_json(getattr(found, name)) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curated", type=Path, required=True)
    parser.add_argument("--run", required=True, help="run of the generator of pictures")
    parser.add_argument("--judged", type=Path, required=True, help="--out of evaluate generator")
    parser.add_argument("--layer", required=True, help="run of the generator of layers")
    parser.add_argument("--into", type=Path, required=True, help="photos of other people, COCO")
    parser.add_argument("--n", type=int, default=64, help="photos of other people")
    parser.add_argument("--out", type=Path, help="file to append to")
    options = parser.parse_args()

    denoiser, _ = load_run(runs.runs_dir() / options.layer)
    finder = Segmenter()
    sets = []
    for part in (options.curated, photos_of(options.curated, "test")):
        images, _ = read_subject(part, FINE, "person")
        sets.append(images)
    cutouts = [
        photo_cutouts(images, lambda crop: largest_person(finder(crop)), denoiser.image_size)
        for images in sets
    ]
    subject = to_uint8(torch.nn.functional.avg_pool2d(to_tensor(np.array(sets[0])), FINE // WINDOW))
    cases = list(coco_cases(options.into, options.n))
    arms = {"the people themselves": None, "drawn figure": load_for("layer"), "subject": denoiser}
    line = {"benchmark": "subject", **facts()} | {
        "curation": curation(options.curated),
        "generator": {"settings": settings_of(options.run), **judged(options.judged)},
        "layer": {
            "settings": settings_of(options.layer),
            "n": len(cases),
            "kid_to_subject": likeness(cases, subject, arms),
            "copies": copies(denoiser, *cutouts),
        },
    }
    text = json.dumps(runs.to_json(line))
    print(text)
    if options.out:
        with options.out.open("a") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
