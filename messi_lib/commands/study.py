"""The command that runs chapter 06's study."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..profiles import FusionStudyConfig
from .models import config_of

if TYPE_CHECKING:
    from ..fusion.arms import Tools
    from ..fusion.trials import Photos

GROW = 0.06  # of the holes, as a share of the person's longer side: part of the study
HELD_OUT = 100_000  # index of the first drawn photo that no arm learns from


@dataclass(frozen=True, kw_only=True)
class StudyFusion(FusionStudyConfig):
    """Does the segmenter's latent help the generator? Arms by seeds, a table.

    Run the same command again to go on with it; its files are in runs/RUN.
    """

    run: str = "study_fusion"  # name of the study: its folder in runs/
    profile: str  # smoke, laptop, overnight, gpu
    segmenter: Path | None = None  # its encoder is read; None: the one that ships

    def __call__(self) -> int:
        from ..consistency.train import starting
        from ..fusion.report import figure, summary, table
        from ..fusion.trials import check_study, run_study
        from ..runs import Run, atomic_path, atomic_write, to_json
        from ..segmentation.infer import load_segmenter

        config = config_of(self, FusionStudyConfig)
        check_study(config)
        size = starting(config.start).image_size
        segmenter = load_segmenter(self.segmenter)
        photos = drawn_photos(config.images, size), drawn_photos(config.held_out, size, HELD_OUT)
        folder = Run(self.run).folder
        results = run_study(config, folder, *photos, segmenter, study_tools())
        if len(results) < len(config.arms) * config.seeds:
            print(f"stopped after {len(results)} runs; the same command goes on")
            return 0
        made = summary(config, results)
        text = table(config, made)
        atomic_write(folder / "study.json", json.dumps(to_json(made), indent=2) + "\n")
        atomic_write(folder / "study.txt", text + "\n")
        with atomic_path(folder / "study.png") as path:
            figure(config, made).savefig(path, format="png", dpi=150)
        print(f"{text}\n{folder}: study.txt, study.json, study.png")
        return 0


def study_tools() -> Tools:
    """What the study's arms take from the room of inpainting."""
    from ..fusion.arms import Tools
    from ..inpainting.conditional import condition_of
    from ..inpainting.seam import measure
    from ..inpainting.solvers import solve

    return Tools(solve, condition_of, lambda pixels, hole: measure(pixels, hole).badness)


def drawn_photos(n: int, size: int, first: int = 0, seed: int = 7) -> Photos:
    """`n` drawn photos of the number 10 and his outlines, grown, as holes."""
    import numpy as np
    import torch
    from tqdm import tqdm

    from ..data.pitch import subject_scene
    from ..fusion.trials import Photos
    from ..images import to_tensor
    from ..inpainting.holes import make_holes

    indices = range(first, first + n)
    drawn = tqdm(indices, desc="drawing photos", disable=n < 200 or None)
    scenes = [subject_scene(seed, index, size) for index in drawn]
    holes = [
        make_holes([scene.persons[scene.number10]], GROW, 0.0)[0].full(scene.image.shape[:2])
        for scene in scenes
    ]
    images = to_tensor(np.stack([scene.image for scene in scenes]))
    return Photos(images, torch.from_numpy(np.stack(holes))[:, None])
