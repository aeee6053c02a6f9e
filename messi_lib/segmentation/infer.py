"""From a photo of any size to its people, at the photo's own resolution.

The photo is made to fit the model's square without squeezing it, and what is scaled back up are the
logits: a mask that was thresholded small would come back in blocks.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from messi_lib.images import to_tensor
from messi_lib.profiles import SegmentationConfig
from messi_lib.runs import device, weights_dir
from messi_lib.segmentation import edges
from messi_lib.segmentation.model import KIND, PersonSegmenter, upsample
from messi_lib.segmentation.people import MIN_AREA, Person, fill_holes, people_from, union
from messi_lib.training.checkpoints import load_weights


def embedded_weights() -> Path:
    """Where the segmenter that ships with the repository lies."""
    return weights_dir() / "segmenter.safetensors"


def _tuples(value):
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def config_from_json(text: str, source: str) -> SegmentationConfig:
    """The configuration stored beside weights, lists as tuples again.

    Raises:
        ValueError: no JSON object, or fields that this version does not know.
    """
    try:
        fields = {key: _tuples(value) for key, value in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{source}: its configuration is no JSON object ({error})") from error
    known = {field.name for field in dataclasses.fields(SegmentationConfig)}
    if fields.keys() - known:
        raise ValueError(
            f"{source} was made by another version: unknown settings "
            f"{sorted(fields.keys() - known)}; export it again"
        )
    return SegmentationConfig(**fields)


def load_segmenter(path: Path | str | None = None) -> PersonSegmenter:
    """The network of a file written by `train.export_segmenter`, on `runs.device()`, in eval mode.

    Args:
        path: None: the segmenter that ships with the repository.

    Raises:
        FileNotFoundError: no such file; says how to make one.
        ValueError: a file of another kind, or damaged.
    """
    path = embedded_weights() if path is None else Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"segmenter weights {path} are missing: train with `messi train segmentation --profile "
            f"overnight --run NAME`, then `messi export segmentation --run NAME --out {path}`"
        )
    state, metadata = load_weights(path)
    if metadata.get("kind") != KIND or "config" not in metadata:
        raise ValueError(
            f"{path} holds {metadata.get('kind', 'weights of unknown kind')}, not a segmenter: "
            "give a file written by `messi export segmentation`"
        )
    config = config_from_json(metadata["config"], str(path))
    # The file has the encoder's weights too: nothing is to be fetched.
    model = PersonSegmenter(dataclasses.replace(config, pretrained=False, pretrained_file=""))
    model.config = config
    try:
        model.load_state_dict({name: value.float() for name, value in state.items()})
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path} does not fit its own configuration: {detail}") from error
    # Channels last: convolutions on a CPU take two thirds of the time.
    return model.to(device(), memory_format=torch.channels_last).eval()


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What was found in one photo."""

    person: np.ndarray  # bool (H, W): union of `people`
    score: np.ndarray  # float32 (H, W): probability of a person, before any cleaning
    people: list[Person]  # numbered by size, the largest first


@dataclass(frozen=True)
class Letterbox:
    """How a photo lies in the model's square: its scaled size and its top left corner there."""

    height: int
    width: int
    top: int
    left: int

    @classmethod
    def of(cls, height: int, width: int, size: int) -> Letterbox:
        """The longest side fills the square of `size`; the rest is centred."""
        longest = max(height, width)
        scaled_h = max(1, round(height * size / longest))
        scaled_w = max(1, round(width * size / longest))
        return cls(scaled_h, scaled_w, (size - scaled_h) // 2, (size - scaled_w) // 2)

    def put(self, pixels: np.ndarray, size: int) -> np.ndarray:
        """uint8 (H, W, 3) -> uint8 (size, size, 3), antialiased, continued by reflection."""
        small = np.asarray(
            # reducing_gap: a cheap first reduction by whole numbers, for large photos
            Image.fromarray(pixels).resize(
                (self.width, self.height), Image.Resampling.BICUBIC, reducing_gap=3.0
            )
        )
        bottom, right = size - self.height - self.top, size - self.width - self.left
        # NumPy reflects again and again where the bars are wider than the photo.
        return np.pad(small, ((self.top, bottom), (self.left, right), (0, 0)), mode="symmetric")

    def cut(self, square: torch.Tensor) -> torch.Tensor:
        """The photo's part of maps (..., size, size)."""
        return square[..., self.top : self.top + self.height, self.left : self.left + self.width]


class Segmenter:
    """Finds the people of photos.

    Args:
        source: a network, a file written by `train.export_segmenter`, or None for the segmenter
            that ships with the repository.
        threshold: probability above which a pixel belongs to a person.
        min_area: people smaller than this share of the photo are left out, and enclosed gaps
            smaller than that are filled.
        size: longest side in pixels at which the network sees a photo; None: the one for which it
            was made. More shows smaller people and costs more time.
        refine: let the edges follow those of the photo (see `edges`).
        mirror: look at the mirrored photo too and take the mean of both logits: twice the time.

    Raises:
        FileNotFoundError, ValueError: as `load_segmenter`, an impossible threshold, or a size that
            the encoder does not take.
    """

    def __init__(
        self,
        source: PersonSegmenter | Path | str | None = None,
        threshold: float = 0.5,
        min_area: float = MIN_AREA,
        size: int | None = None,
        refine: bool = False,
        mirror: bool = False,
    ):
        if not 0 < threshold < 1:
            raise ValueError(f"threshold={threshold}: choose a probability between 0 and 1")
        is_model = isinstance(source, PersonSegmenter)
        self.model = source if is_model else load_segmenter(source)
        self.threshold = threshold
        self.min_area = min_area
        self.refine, self.mirror = refine, mirror
        made_for = self.model.config.image_size
        self.size = made_for if size is None else size
        if not 32 <= self.size <= 4096:
            raise ValueError(f"size={size}: choose 32 to 4096 pixels")
        if self.size != made_for and self.model.encoder.fixed_size:
            raise ValueError(
                f"size={size}: {self.model.config.encoder} takes images of {made_for} px only"
            )

    @torch.no_grad()
    def logits(self, pixels: np.ndarray) -> torch.Tensor:
        """uint8 (H, W, 3) -> logits float32 (H, W) on the CPU, bicubic from the model's size.

        The model is left in the mode (training or evaluation) in which it came.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(f"expected a photo uint8 (H,W,3), got {pixels.dtype} {pixels.shape}")
        size = self.size
        box = Letterbox.of(*pixels.shape[:2], size)
        image = to_tensor(box.put(pixels, size)).to(next(self.model.parameters()).device)
        if self.mirror:
            image = torch.cat([image, image.flip(-1)])
        was_training = self.model.training
        self.model.eval()
        logits = self.model(image)
        self.model.train(was_training)
        if logits.shape[-1] != size:
            logits = upsample(logits, 4)[..., :size, :size]
        if self.mirror:
            logits = (logits[:1] + logits[1:].flip(-1)) / 2
        # Only the photo's own part is scaled up: memory is one float per pixel of the photo.
        part = box.cut(logits).float().cpu()
        return F.interpolate(part, pixels.shape[:2], mode="bicubic", align_corners=False)[0, 0]

    def __call__(self, pixels: np.ndarray) -> Segmentation:
        """Find the people of one photo.

        Args:
            pixels: uint8 (H, W, 3), any size and proportions.
        """
        score = self.logits(pixels).sigmoid_().numpy()
        if self.refine:
            score = edges.refine(pixels, score)
        person = score > self.threshold
        people = people_from(fill_holes(person, self.min_area), self.min_area, score)
        return Segmentation(union(people, person.shape), score, people)
