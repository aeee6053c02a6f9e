"""Touching people told apart: torchvision's Mask R-CNN behind the interface of `infer.Segmenter`.

Our segmenter answers "is there a person at this pixel?"; two people who touch are one region. Mask
R-CNN (He et al. 2017, arXiv 1703.06870) answers for each person alone, at 46 million parameters.
Its weights come through torchvision (a download, once) or from a local file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from messi_lib.images import to_tensor
from messi_lib.runs import device
from messi_lib.segmentation.infer import Segmentation, Segmenter
from messi_lib.segmentation.people import MIN_AREA, person_of, union
from messi_lib.training.checkpoints import load_foreign

NAME = "maskrcnn"  # for `--segmenter maskrcnn`
PERSON = 1  # its label among COCO's categories
LICENCE = "torchvision's maskrcnn_resnet50_fpn_v2, trained on COCO 2017: BSD-3-Clause"

Detector = Callable[[list[Tensor]], list[dict[str, Tensor]]]


def build_detector(weights: Path | str | None = None) -> nn.Module:
    """`maskrcnn_resnet50_fpn_v2` in evaluation mode on `runs.device()`.

    Args:
        weights: a local state dict of it; None: torchvision's own, downloaded once.

    Raises:
        FileNotFoundError: the file is missing, or the download fails.
        ValueError: a file that holds other weights.
    """
    from torchvision.models import detection

    if weights is None:
        choice = detection.MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1
        try:
            model = detection.maskrcnn_resnet50_fpn_v2(weights=choice, progress=False)
        except Exception as error:  # no network, a full disk, a torn cache: one remedy for all
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise FileNotFoundError(
                f"weights of Mask R-CNN cannot be had ({reason}): connect once so that torchvision "
                f"can cache {Path(choice.url).name}, or use the segmenter that ships"
            ) from error
        return model.to(device()).eval()
    state = load_foreign(weights, "weights of Mask R-CNN")
    model = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{weights} holds no weights of maskrcnn_resnet50_fpn_v2: {reason}"
        ) from error
    return model.to(device()).eval()


class InstanceSegmenter:
    """Finds each person of a photo by themselves.

    Args:
        detector: None: `build_detector()`; or anything that takes a list of images float (3, H, W)
            in [0, 1] and answers as torchvision's detection models do.
        threshold: probability above which a pixel belongs to a person.
        min_area: people smaller than this share of the photo are left out.
        min_score: detections less certain than this are left out.

    Raises:
        FileNotFoundError: as `build_detector`. ValueError: impossible thresholds.
    """

    def __init__(
        self,
        detector: Detector | None = None,
        threshold: float = 0.5,
        min_area: float = MIN_AREA,
        min_score: float = 0.7,
    ):
        if not 0 < threshold < 1 or not 0 <= min_score < 1:
            raise ValueError(f"threshold={threshold}, min_score={min_score}: both between 0 and 1")
        self.detector = build_detector() if detector is None else detector
        self.threshold = threshold
        self.min_area = min_area
        self.min_score = min_score

    @torch.no_grad()
    def __call__(self, pixels: np.ndarray) -> Segmentation:
        """The people of one photo, uint8 (H, W, 3), the largest first; they may overlap."""
        image = (to_tensor(pixels)[0] + 1) / 2
        answer = self.detector([image.to(device())])[0]
        people = []
        score = np.zeros(pixels.shape[:2], np.float32)
        for label, certainty, mask in zip(answer["labels"], answer["scores"], answer["masks"]):
            if int(label) != PERSON or float(certainty) < self.min_score:
                continue
            probability = mask[0].float().cpu().numpy()
            person = person_of(probability > self.threshold, float(certainty))
            if person is not None and person.share >= self.min_area:
                people.append(person)
                np.maximum(score, probability, out=score)
        people.sort(key=lambda one: (-one.area, one.box))
        return Segmentation(union(people, pixels.shape[:2]), score, people)


def open_segmenter(
    source: Path | str | None = None,
    threshold: float = 0.5,
    min_area: float = MIN_AREA,
    size: int | None = None,
    refine: bool = False,
    mirror: bool = False,
) -> Segmenter | InstanceSegmenter:
    """The segmenter that a command line names.

    Args:
        source: a file written by `train.export_segmenter`, `maskrcnn`, or None: the one that ships.
        threshold, min_area: as in both classes.
        size, refine, mirror: as in `Segmenter`; Mask R-CNN has none of them.

    Raises:
        FileNotFoundError, ValueError: as the two classes.
    """
    if source is not None and str(source) == NAME:
        if size is not None or refine or mirror:
            raise ValueError(
                f"size={size}, refine={refine}, mirror={mirror}: {NAME} has none of them"
            )
        print(f"weights: {LICENCE}", flush=True)
        return InstanceSegmenter(threshold=threshold, min_area=min_area)
    return Segmenter(source, threshold, min_area, size, refine, mirror)
