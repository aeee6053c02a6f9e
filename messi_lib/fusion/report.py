"""What a study found: a table, one sentence and one figure that follow its numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..profiles import FusionStudyConfig
from .study import Difference, paired_bootstrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = {"hole": "error in the hole", "seam": "seam"}


def numbers(results: list[dict], arm: str, what: str) -> Tensor | None:
    """(seeds, photos) of one arm, NaN where a photo has none; None for an arm without."""
    rows = [r[what] for r in sorted(results, key=lambda r: r["seed"])
            if r["arm"] == arm and what in r]  # fmt: skip
    if not rows:
        return None
    return torch.tensor([[math.nan if x is None else x for x in row] for row in rows])


def compare(results: list[dict], ours: str, theirs: str, metric: str) -> Difference:
    """Paired bootstrap over photos and seeds, of the photos that have a number in both arms.

    Raises:
        ValueError: arms of different seeds, fewer than 8 photos.
    """
    return _difference(numbers(results, ours, metric), numbers(results, theirs, metric))


def _difference(a: Tensor, b: Tensor) -> Difference:
    if a.shape == b.shape:
        kept = torch.isfinite(a).all(0) & torch.isfinite(b).all(0)
        a, b = a[:, kept], b[:, kept]
    return paired_bootstrap(a, b)


def summary(config: FusionStudyConfig, results: list[dict]) -> dict:
    """All that is reported: per arm its means, its difference from "none", its swap probe."""
    arms = {}
    for arm in config.arms:
        mine = [r for r in results if r["arm"] == arm]
        entry = {"parameters": mine[0]["parameters"], "seeds": len(mine)}
        for metric in config.metrics:
            values = numbers(results, arm, metric)
            entry[metric] = float(values[torch.isfinite(values)].mean())
            if arm != "none":
                entry[f"{metric}_against_none"] = compare(results, arm, "none", metric)
        last = [values[-1] for r in mine for values in r["openings"].values() if values]
        entry["opening"] = sum(last) / len(last) if last else None
        swapped = numbers(results, arm, "donor_swapped")
        if swapped is not None:
            own, donor = numbers(results, arm, "hole"), numbers(results, arm, "donor")
            entry["is_read"] = _difference(numbers(results, arm, "swapped"), own)
            entry["leak"] = _difference(swapped, donor)
        arms[arm] = entry
    primary = compare(results, *config.primary, config.metrics[0])
    return {"arms": arms, "primary": primary, "finding": finding(config, primary)}


def finding(config: FusionStudyConfig, primary: Difference) -> str:
    """The answer to the question that was fixed beforehand, also when it is "no effect"."""
    metric = config.metrics[0]
    return primary.sentence(*config.primary, WORDS[metric])


def table(config: FusionStudyConfig, made: dict) -> str:
    """Text of `summary`: one line per arm."""
    metrics = config.metrics
    head = f"{'arm':<13} {'trained':>10}" + "".join(
        f" {metric:>8} {'against none (95 %)':>25}" for metric in metrics
    )
    lines = [head + f" {'opening':>8} {'swapped':>12}"]
    for arm, entry in made["arms"].items():
        line = f"{arm:<13} {entry['parameters']:>10,}"
        for metric in metrics:
            line += f" {entry[metric]:>8.4f} {_interval(entry.get(f'{metric}_against_none')):>25}"
        opening = entry["opening"]
        line += f" {'' if opening is None else f'{opening:.2g}':>8}"
        lines.append(f"{line} {_leak(entry.get('leak')):>12}")
    return "\n".join([*lines, "", made["finding"]])


def _interval(found: Difference | None) -> str:
    if found is None:
        return ""
    return f"{found.mean:+.4f} ({found.low:+.4f} {found.high:+.4f})"


def _leak(found: Difference | None) -> str:
    """Whether what is drawn follows another photo's latents, towards that photo."""
    if found is None:
        return ""
    return "follows" if found.clear and found.mean < 0 else "stays"


def figure(config: FusionStudyConfig, made: dict) -> Figure:
    """Every arm's difference from "none" with its interval; the finding is the title."""
    import textwrap

    from matplotlib.figure import Figure

    metric = config.metrics[0]
    arms = [arm for arm in made["arms"] if arm != "none"]
    picture = Figure(figsize=(7, 1.6 + 0.35 * len(arms)), layout="constrained")
    axes = picture.subplots()
    for row, arm in enumerate(reversed(arms)):
        found = made["arms"][arm][f"{metric}_against_none"]
        mean, low, high = (100 * x / found.theirs for x in (found.mean, found.low, found.high))
        colour = "#888" if not found.clear else "#4a8" if mean < 0 else "#c44"
        axes.errorbar(mean, row, xerr=[[mean - low], [high - mean]], fmt="o", color=colour,
                      capsize=4)  # fmt: skip
    axes.set_yticks(range(len(arms)), arms[::-1])
    axes.set_ylim(-0.6, len(arms) - 0.4)
    axes.axvline(0, color="k", lw=0.8)
    axes.set_xlabel(f"{WORDS[metric]}, % against none (95 % interval; left is better)")
    axes.set_title("\n".join(textwrap.wrap(made["finding"], 88)), fontsize=9)
    return picture
