"""IoU and Boundary IoU against slow references, and the corner cases of empty regions."""

import cv2
import numpy as np
import pytest
import torch

from messi_lib.segmentation.metrics import Accumulator, band_width, boundary_iou, inner_band, iou


def blobs(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Some ellipses, or none; they may touch the border."""
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(generator.integers(0, 4)):
        centre = (int(generator.integers(0, width)), int(generator.integers(0, height)))
        axes = tuple(int(a) for a in generator.integers(1, max(2, min(height, width) // 3), 2))
        cv2.ellipse(canvas, centre, axes, float(generator.integers(0, 180)), 0, 360, 1, -1)
    return canvas.astype(bool)


def slow_iou(pred, target, ignore) -> float:
    both = either = 0
    for y in range(pred.shape[0]):
        for x in range(pred.shape[1]):
            if not ignore[y, x]:
                both += bool(pred[y, x]) and bool(target[y, x])
                either += bool(pred[y, x]) or bool(target[y, x])
    return both / either if either else 1.0


def published_band(region: np.ndarray, share: float) -> np.ndarray:
    """`mask_to_boundary` of the paper's code: zero border, d erosions with a 3x3 kernel."""
    height, width = region.shape
    iterations = max(1, int(round(share * np.sqrt(height**2 + width**2))))
    padded = cv2.copyMakeBorder(region.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=iterations)
    return region & ~eroded[1:-1, 1:-1].astype(bool)


def masks(count: int):
    generator = np.random.default_rng(0)
    for _ in range(count):
        height, width = (int(n) for n in generator.integers(9, 40, 2))
        yield tuple(blobs(generator, height, width) for _ in range(3))


def test_iou_equals_a_slow_reference_on_200_random_masks():
    for pred, target, ignore in masks(200):
        given = iou(*(torch.from_numpy(m) for m in (pred, target, ignore)))
        assert given.shape == (1,) and float(given) == slow_iou(pred, target, ignore)


@pytest.mark.parametrize("share", [0.02, 0.005, 0.1])
def test_boundary_iou_equals_the_published_definition_on_200_random_masks(share):
    for pred, target, _ in masks(200):
        bands = [published_band(region, share) for region in (pred, target)]
        wanted = slow_iou(*bands, np.zeros_like(pred))
        given = boundary_iou(torch.from_numpy(pred), torch.from_numpy(target), share=share)
        assert float(given) == wanted


def test_band_has_the_published_width_at_256_px():
    assert band_width(256, 256) == 7 and band_width(256, 256, 0.005) == 2
    square = torch.zeros(1, 60, 60, dtype=torch.bool)
    square[:, 10:50, 10:50] = True
    assert int(inner_band(square, 3).sum()) == 40**2 - 34**2


def test_the_border_of_the_photo_cuts_regions():
    everything = torch.ones(1, 20, 20, dtype=torch.bool)
    assert int(inner_band(everything, 2).sum()) == 20**2 - 16**2


def test_blocky_edges_cost_boundary_iou_more_than_iou():
    """Post-mortem 7: a mask thresholded at a quarter of the size, repeated to blocks."""
    rows, columns = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    target = ((rows - 128) ** 2 / 100**2 + (columns - 128) ** 2 / 60**2 < 1)[None]
    small = torch.nn.functional.avg_pool2d(target[None].float(), 4) > 0.5
    blocky = torch.nn.functional.interpolate(small.float(), scale_factor=4)[0] > 0.5
    assert float(iou(blocky, target)) > 0.97
    assert float(boundary_iou(blocky, target)) < 0.85
    assert float(boundary_iou(blocky, target, share=0.005)) < 0.5


def test_empty_regions():
    none, some = torch.zeros(1, 8, 8, dtype=torch.bool), torch.ones(1, 8, 8, dtype=torch.bool)
    assert float(iou(none, none)) == 1 and float(boundary_iou(none, none)) == 1
    assert float(iou(some, none)) == 0 and float(boundary_iou(none, some)) == 0
    assert float(iou(some, none, some)) == 1


def test_accumulator_tells_the_mean_from_the_whole():
    counts = Accumulator()
    target = torch.zeros(2, 1, 10, 10, dtype=torch.bool)
    target[0, :, :, :8] = True
    target[1, :, 0, 0] = True
    pred = target.clone()
    pred[1] = False
    counts.add(pred[:1], target[:1])
    counts.add(pred[1:], target[1:])
    result = counts.result()
    assert result["mean_iou"] == 0.5 and result["accumulated_iou"] == pytest.approx(80 / 81)
    assert result["n_images"] == 2 and 0 < result["boundary_iou_2pct"] < 1
    assert result["mean_iou_95"] == pytest.approx(1.96 * 0.5**0.5 / 2**0.5), "values 1 and 0"
    assert counts.result([0])["mean_iou"] == 1 and counts.result([1])["mean_iou"] == 0
    with pytest.raises(ValueError, match="no image"):
        Accumulator().result()


@pytest.mark.parametrize(
    "pred", [torch.zeros(1, 8, 8), torch.zeros(1, 8, 9, dtype=torch.bool), torch.zeros(8).bool()]
)
def test_wrong_regions_are_refused(pred):
    with pytest.raises(ValueError, match="expected bool like target"):
        iou(pred, torch.zeros(1, 8, 8, dtype=torch.bool))
