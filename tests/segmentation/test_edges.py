"""The guided filter against its definition, and what it does to a blurred mask."""

import numpy as np
import pytest

from messi_lib.segmentation.edges import guided_filter, refine
from messi_lib.segmentation.infer import Segmenter

from .toys import bright


def by_definition(guide, values, radius, epsilon):
    """He et al., eq. 4 to 8, window by window (reflected at the border)."""
    pad = radius
    g, v = (np.pad(a.astype(np.float64), pad, mode="symmetric") for a in (guide, values))
    height, width = guide.shape
    slope, offset = np.empty((2, height, width))
    for y in range(height):
        for x in range(width):
            gw, vw = (a[y : y + 2 * pad + 1, x : x + 2 * pad + 1] for a in (g, v))
            slope[y, x] = (np.mean(gw * vw) - gw.mean() * vw.mean()) / (gw.var() + epsilon)
            offset[y, x] = vw.mean() - slope[y, x] * gw.mean()
    a, b = (np.pad(m, pad, mode="symmetric") for m in (slope, offset))
    return np.array(
        [
            [
                a[y : y + 2 * pad + 1, x : x + 2 * pad + 1].mean() * guide[y, x]
                + b[y : y + 2 * pad + 1, x : x + 2 * pad + 1].mean()
                for x in range(width)
            ]
            for y in range(height)
        ]
    )


@pytest.mark.parametrize("radius, epsilon", [(1, 1e-3), (2, 1e-2), (3, 1e-1)])
def test_guided_filter_equals_its_definition(radius, epsilon):
    rng = np.random.default_rng(radius)
    guide, values = rng.random((2, 12, 17)).astype(np.float32)
    given = guided_filter(guide, values, radius, epsilon)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, by_definition(guide, values, radius, epsilon), atol=1e-4)


@pytest.mark.parametrize("height, width, stride", [(150, 131, 4), (129, 64, 3), (67, 200, 2)])
def test_coefficients_of_a_coarser_grid(height, width, stride):
    """He and Sun 2015, algorithm 2, in one piece: what is finished in strips has no seams."""
    import cv2

    rng = np.random.default_rng(stride)
    guide, values = rng.random((2, height, width)).astype(np.float32)
    fill = ((0, -height % stride), (0, -width % stride))
    low = [
        np.pad(a, fill, mode="edge").reshape(-(-height // stride), stride, -1, stride).mean((1, 3))
        for a in (guide, values)
    ]
    radius, epsilon = 2, 1e-2

    def mean(a):
        return cv2.blur(a, (2 * radius + 1,) * 2, borderType=cv2.BORDER_REFLECT)

    g, v = (mean(a) for a in low)
    slope = (mean(low[0] * low[1]) - g * v) / (mean(low[0] ** 2) - g * g + epsilon)
    offset = v - slope * g
    size = low[0].shape[1] * stride, low[0].shape[0] * stride
    a, b = (cv2.resize(mean(m), size)[:height, :width] for m in (slope, offset))
    given = guided_filter(guide, values, radius * stride, epsilon, stride)
    np.testing.assert_allclose(given, a * guide + b, atol=1e-4)


def test_the_coarser_grid_changes_little():
    guide, values = soft(disc(), 5) * 0.5 + 0.2, soft(disc(shift=4), 21)
    exact = guided_filter(guide, values, 12, 1e-3)
    assert np.abs(guided_filter(guide, values, 12, 1e-3, stride=4) - exact).mean() < 0.005


def test_what_is_linear_in_the_guide_stays_and_flat_guides_only_smooth():
    guide = np.random.default_rng(0).random((20, 20)).astype(np.float32)
    np.testing.assert_allclose(guided_filter(guide, 0.2 + 0.5 * guide, 2, 0), 0.2 + 0.5 * guide,
                               atol=2e-3)  # fmt: skip
    values = np.zeros((20, 20), np.float32)
    values[:, 10:] = 1
    flat = guided_filter(np.full_like(values, 0.5), values, 2, 1e-3)
    assert 0 < flat[10, 8] < flat[10, 11] < 1


def disc(height=200, width=300, shift=0):
    rows, columns = np.mgrid[:height, :width]
    return (rows - height / 2) ** 2 + (columns - width / 2 - shift) ** 2 < 60**2


def soft(person, radius=9):
    """A mask as a small network gives it: blurred by averaging."""
    import cv2

    return cv2.blur(person.astype(np.float32), (radius, radius))


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_a_blurred_mask_follows_the_edge_of_the_photo():
    person = disc()
    pixels = np.where(person[..., None], np.uint8(180), np.uint8(60)).repeat(3, 2)
    rough = soft(disc(shift=3), 15)  # and three pixels beside the truth
    fine = refine(pixels, rough)
    assert fine.dtype == np.float32 and fine.min() >= 0 and fine.max() <= 1
    before, after = iou(rough > 0.5, person), iou(fine > 0.5, person)
    assert before < 0.95 < 0.985 < after


def test_where_the_network_is_sure_nothing_changes():
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    score = soft(disc())
    fine = refine(pixels, score)
    sure = (score < 0.02) | (score > 0.98)
    assert (fine[sure] == score[sure]).all() and (fine[~sure] != score[~sure]).any()
    empty = np.zeros((200, 300), np.float32)
    assert (refine(pixels, empty) == empty).all()


def test_the_segmenter_refines_when_asked():
    pixels = np.full((160, 160, 3), 40, np.uint8)
    pixels[40:120, 50:110] = 220
    plain, fine = Segmenter(bright(64))(pixels), Segmenter(bright(64), refine=True)(pixels)
    assert (plain.score != fine.score).any()
    assert iou(fine.person, pixels[..., 0] > 128) >= iou(plain.person, pixels[..., 0] > 128)


@pytest.mark.parametrize(
    "guide, values, radius",
    [((4, 4), (4, 5), 1), ((4, 4), (4, 4), 0), ((4, 4, 3), (4, 4, 3), 1)],
)
def test_arrays_that_do_not_fit_are_refused(guide, values, radius):
    with pytest.raises(ValueError, match="expected float32|radius"):
        guided_filter(np.zeros(guide, np.float32), np.zeros(values, np.float32), radius, 1e-3)
    with pytest.raises(ValueError, match="expected a photo"):
        refine(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 4), np.float32))
