"""Solvers of `messi replace` compared, hole by hole: drawn scenes with known truth, and photos.

    python benchmarks/replace.py --out benchmarks/results/replace-DATE.jsonl
    python benchmarks/replace.py --coco FOLDER     # also photos with instances_person.json
    python benchmarks/replace.py --emoji FOLDER    # also cut-out people (RGBA), set on one another

Self-reconstruction: the number 10 of held-out drawn scenes is hidden and drawn again; the distance
to the truth is measured in the hole (pixels, and Inception features of the window). On photos of
other people there is no truth; the seam is measured (colour difference across the ring, gradient on
the contour), and KID of the windows to drawn photos of the number 10. All differences are paired,
with bootstrap intervals over photos. One line of JSON per table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from messi_lib.consistency.denoiser import Denoiser
from messi_lib.data.coco import decode, load_coco_people
from messi_lib.data.pitch import subject_scene
from messi_lib.data.subject import pitch_subject
from messi_lib.evaluation.features import load_extractor
from messi_lib.evaluation.kernel import kid
from messi_lib.fusion.study import paired_bootstrap
from messi_lib.images import resize, to_tensor, to_uint8
from messi_lib.inpainting.holes import crop_around
from messi_lib.inpainting.layer import LAYER, behind, flatten
from messi_lib.inpainting.seam import measure
from messi_lib.inpainting.weights import load_for
from messi_lib.inpainting.window import cut_region
from messi_lib.profiles import ReplaceConfig, preset
from messi_lib.replace import generate_patches, replace
from messi_lib.replace.fill import look_through

HELD_OUT = 900_000  # seeds from here on were seen by no training
SIDE = 256  # px of a drawn scene
WINDOW = 128  # px of a window for Inception, which enlarges it
COMMAND = """
import sys
from messi_lib.cli import main
code = main(sys.argv[1:])
print(open("/proc/self/status").read())
sys.exit(code)
"""
Case = tuple[np.ndarray, np.ndarray]  # pixels uint8 (H, W, 3), person bool (H, W)


class Blind(Denoiser):
    """A generator for holes that is told everything is hole: it knows its subject, not the photo.

    With `replacement` it is the control for `conditional`: the same weights, nothing told.
    """

    def __init__(self, denoiser: Denoiser):
        self.__dict__ = dict(denoiser.__dict__)  # the same modules, not copies
        self.condition_channels = 0

    def _beside(self, scaled: torch.Tensor, condition: None) -> torch.Tensor:
        nothing = scaled.new_tensor([0, 0, 0, 1])[None, :, None, None]
        return torch.cat([scaled, nothing.expand(len(scaled), -1, *scaled.shape[2:])], 1)


def pitch_cases(n: int, kit: str | None = None) -> Iterator[Case]:
    """Held-out drawn scenes and where the number 10 is, in one shirt or in any."""
    for index in range(n):
        scene = subject_scene(HELD_OUT, index, SIDE, kit=kit)
        yield scene.image, scene.persons[scene.number10]


def coco_cases(folder: Path, n: int) -> Iterator[Case]:
    """Photos and their largest annotated person."""
    photos = load_coco_people(folder / "instances_person.json", folder / "images")
    for photo in [photo for photo in photos if photo.outlines][:n]:
        regions = [decode(outline, photo.height, photo.width) for outline in photo.outlines]
        person = max(regions, key=lambda region: region.sum()).astype(bool)
        if person.sum() > 0.005 * person.size:
            yield photo.pixels(), person


def emoji_cases(folder: Path, n: int) -> Iterator[Case]:
    """Cut-out people, exact to the pixel, on the drawn places of the procedural world."""
    for index, path in enumerate(sorted(folder.rglob("*.webp"))[:n]):
        cutout = np.asarray(Image.open(path).convert("RGBA").resize((SIDE, SIDE)))
        back = subject_scene(HELD_OUT + 1, index, SIDE).image
        cover = cutout[..., 3:] / 255
        mixed = cutout[..., :3] * cover + back * (1 - cover)
        yield np.rint(mixed).astype(np.uint8), cover[..., 0] > 0.02


def window_of(pixels: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The box of a hole with some margin, WINDOW px: what is compared by its features."""
    rows, columns = crop_around(hole, max(4, max(hole.shape) // 50))
    side = to_tensor(pixels[rows, columns])
    return to_uint8(resize(side, WINDOW))[0]


def raw_ring(
    pixels: np.ndarray, hole: np.ndarray, windows: list, arm: dict, denoiser: Denoiser
) -> float:
    """Lab difference across the ring as the solver leaves it: before colours are matched.

    At the generator's size, each cell 4 px wide: the rings are one cell inside and one outside.
    """
    config = preset(ReplaceConfig, "laptop", **arm)
    patches = generate_patches(
        denoiser, pixels, hole, windows, config.steps, 1, config.draws, solver=config.solver
    )
    found = []
    size = denoiser.image_size
    known = look_through(pixels, hole, windows, size)
    for patch, seen, window in zip(patches, known, windows):
        region = cut_region(hole, window, size)[0, 0]
        if len(patch) == LAYER:
            patch = flatten(patch[None], behind(seen[None], region[None, None]))[0]
        region = region.numpy()
        image = to_uint8(patch[None])[0].repeat(4, 0).repeat(4, 1)
        found.append(measure(image, region.repeat(4, 0).repeat(4, 1)).lab)
    return float(np.nanmean(found))


def run(cases: Iterable[Case], arm: dict, truth: bool, features: Callable) -> dict:
    """One arm on all cases: numbers per case (float lists), and the windows."""
    arm = dict(arm)
    blind = arm.pop("blind", False)
    denoiser = Blind(load_for("conditional")) if blind else load_for(arm["solver"])
    numbers: dict[str, list[float]] = {}
    for name in ("ring", "raw_ring", "gradient", "seconds"):
        numbers[name] = []
    shown, wanted = [], []
    for pixels, person in cases:
        began = time.perf_counter()
        done = replace(pixels, hole=person, denoiser=denoiser, seed=1, **arm)
        numbers["seconds"].append(time.perf_counter() - began)
        numbers["raw_ring"].append(raw_ring(pixels, done.hole, done.windows, arm, denoiser))
        numbers["ring"].append(float(np.mean([seam.lab for seam in done.seams])))
        numbers["gradient"].append(float(np.mean([seam.gradient for seam in done.seams])))
        shown.append(window_of(done.pixels, done.hole))
        if truth:
            off = np.abs(done.pixels.astype(float) - pixels)[done.hole]
            numbers.setdefault("pixels", []).append(float(off.mean()) / 255)
            wanted.append(window_of(pixels, done.hole))
    seen = features(np.stack(shown))
    if truth:
        distance = np.linalg.norm(seen - features(np.stack(wanted)), axis=1)
        numbers["features"] = distance.tolist()
    return {"numbers": numbers, "seen": seen}


def original_seams(cases: Iterable[Case]) -> dict[str, float]:
    """The same two numbers where nothing was replaced: what no seam looks like."""
    seams = [measure(pixels, person, gap=2) for pixels, person in cases]
    return {
        "ring": round(float(np.nanmean([seam.lab for seam in seams])), 3),
        "gradient": round(float(np.nanmean([seam.gradient for seam in seams])), 3),
    }


def differences(numbers: dict, others: dict) -> dict[str, dict]:
    """Paired differences in percent of the others' mean, with intervals over the cases."""
    made = {}
    for metric in set(numbers) - {"seconds", "gradient"}:
        ours, theirs = (torch.tensor(n[metric]) for n in (numbers, others))
        known = torch.isfinite(ours) & torch.isfinite(theirs)
        found = paired_bootstrap(ours[known], theirs[known])
        made[metric] = {
            "percent": round(100 * found.mean / found.theirs, 1),
            "interval": [round(100 * v / found.theirs, 1) for v in (found.low, found.high)],
        }
    return made


def table(name: str, cases: list[Case], arms: list[dict], truth: bool, features: Callable) -> dict:
    """All arms on one set, each against the first."""
    subject = features(np.stack(list(pitch_subject(500, WINDOW, 7))))
    rows, first, blind = [], None, None
    for arm in arms:
        result = run(cases, arm, truth, features)
        numbers = result["numbers"]
        row: dict = {"arm": arm}
        for metric, values in numbers.items():
            middle = statistics.median if metric == "seconds" else statistics.fmean
            row[metric] = round(middle(v for v in values if np.isfinite(v)), 4)
        value, error = kid(subject, result["seen"])
        row["kid_to_subject"] = [round(value, 4), round(error, 4)]
        first = first or numbers
        if numbers is not first:
            row["against_first"] = differences(numbers, first)
        if blind:
            row["against_blind"] = differences(numbers, blind)
        blind = numbers if arm.get("blind") else blind
        rows.append(row)
        print(name, row, file=sys.stderr, flush=True)
    return {"table": name, "n": len(cases), "rows": rows, "untouched": original_seams(cases)}


def command(photo: Path, *more: str) -> dict[str, float]:
    """The whole command in a process of its own: wall seconds, and peak memory in GB.

    Args:
        more: further options of the command.
    """
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        code = [sys.executable, "-c", COMMAND, "replace", str(photo), "--out", out, *more]
        shown = subprocess.run(code, check=True, capture_output=True, text=True).stdout
        seconds = time.perf_counter() - began
        report = json.loads((Path(out) / "report.json").read_text())
    peak = int(shown.split("VmHWM:")[1].split()[0]) / 2**20  # of it alone: no process that forked
    inside = report[0]["seconds"]
    return {
        "photo_seconds": inside,
        "start_seconds": round(seconds - inside, 2),
        "stages": report[0]["stages"],
        "peak_gb": round(peak, 2),
    }


def by_solver(photo: Path, rounds: int, *more: str) -> dict[str, object]:
    """The whole command with the solver that fits the generator and with the older one, in turns.

    Returns:
        Medians of the command as it is, those of `replacement`, and the median of the rounds'
        ratios (layer over replacement) of the seconds for the photo.
    """
    arms: dict[str, list[dict]] = {"layer": [], "replacement": []}
    for _ in range(rounds):
        for solver, found in arms.items():
            found.append(command(photo, "--solver", solver, *more))
    middle = {
        solver: {
            name: round(statistics.median(one[name] for one in found), 2)
            for name in ("photo_seconds", "start_seconds", "peak_gb")
        }
        for solver, found in arms.items()
    }
    pairs = zip(arms["layer"], arms["replacement"])
    ratio = statistics.median(a["photo_seconds"] / b["photo_seconds"] for a, b in pairs)
    stages = arms["layer"][-1]["stages"]
    return {"rounds": rounds, **middle, "ratio": round(ratio, 2), "stages": stages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--coco", type=Path, help="folder with images/ and instances_person.json")
    parser.add_argument("--kit", help="the shirt that the generator for holes knows")
    parser.add_argument("--emoji", type=Path, help="folder of RGBA pictures of people")
    parser.add_argument("--photo", type=Path, help="640x480 photo with one person, for the times")
    parser.add_argument("--solvers", nargs="+", default=["replacement", "conditional", "layer"])
    parser.add_argument("--steps", type=int, nargs="*", default=[], help="of layer, instead")
    parser.add_argument("--out", type=Path, help="file to append to")
    options = parser.parse_args()
    arms = [{"solver": solver} for solver in options.solvers]
    if "replacement" in options.solvers:
        arms.insert(1, {"solver": "replacement", "blind": True})
    arms += [{"solver": "layer", "steps": steps} for steps in options.steps]
    network = load_extractor("inception")
    name = f"pitch, {options.kit}" if options.kit else "pitch"
    sets: list[tuple[str, list[Case], bool]] = [
        (name, list(pitch_cases(options.n, options.kit)), True)
    ]
    if options.coco:
        sets.append(("coco", list(coco_cases(options.coco, options.n)), False))
    if options.emoji:
        sets.append(("emoji", list(emoji_cases(options.emoji, options.n)), False))
    about = {
        "benchmark": "replace",
        "date": str(date.today()),
        "device": f"{torch.get_num_threads()} CPU threads",
        "defaults": {"steps": preset(ReplaceConfig, "laptop").steps},
    }

    def tell(line: dict) -> None:
        print(json.dumps(line), flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")

    for name, cases, truth in sets:
        tell(about | table(name, cases, arms, truth, network))
    if options.photo:
        tell(about | {"table": "command"} | command(options.photo))


if __name__ == "__main__":
    main()
