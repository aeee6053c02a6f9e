"""From a region to numbered people, and back; holes."""

import numpy as np
import pytest
from scipy import ndimage

from messi_lib.segmentation.people import fill_holes, people_from, union


def region_of(*boxes, shape=(40, 50)) -> np.ndarray:
    region = np.zeros(shape, dtype=bool)
    for y0, x0, y1, x1 in boxes:
        region[y0:y1, x0:x1] = True
    return region


def test_people_are_numbered_by_size_with_box_area_and_score():
    region = region_of((1, 1, 5, 5), (10, 10, 30, 20), (0, 40, 2, 50))
    score = np.where(region, 0.6, 0.1).astype(np.float32)
    score[10:20, 10:20] = 0.9
    people = people_from(region, 0.0, score)
    assert [one.box for one in people] == [(10, 10, 30, 20), (0, 40, 2, 50), (1, 1, 5, 5)]
    assert [one.area for one in people] == [200, 20, 16]
    assert people[0].score == pytest.approx(0.75) and people[1].score == pytest.approx(0.6)
    assert people[0].share == 200 / 2000
    assert people_from(region, 0.0)[0].score == 1.0


def test_equal_sizes_keep_the_reading_order():
    region = region_of((20, 30, 24, 34), (5, 30, 9, 34), (5, 2, 9, 6))
    boxes = [one.box[:2] for one in people_from(region)]
    assert boxes == [(5, 2), (5, 30), (20, 30)]


def test_small_regions_are_left_out_and_the_limit_is_a_share_of_the_photo():
    region = region_of((0, 0, 10, 10), (20, 20, 22, 30))
    assert len(people_from(region, 0.01)) == 2
    assert len(people_from(region, 0.011)) == 1
    assert people_from(np.zeros((5, 5), bool)) == []


def test_corners_join_and_each_region_is_whole():
    region = region_of((5, 5, 10, 10), (10, 10, 15, 15))
    (one,) = people_from(region)
    assert one.box == (5, 5, 15, 15) and one.area == 50
    assert np.array_equal(one.region, region)


def test_people_and_union_are_inverse_on_random_regions():
    generator = np.random.default_rng(0)
    for _ in range(20):
        region = ndimage.gaussian_filter(generator.standard_normal((37, 53)), 2) > 0.05
        people = people_from(region, 0.0)
        labels, count = ndimage.label(region, np.ones((3, 3)))
        assert len(people) == count
        assert sorted(one.area for one in people) == sorted(np.bincount(labels.ravel())[1:])
        assert np.array_equal(union(people, region.shape), region)
        assert sum(one.region.astype(int) for one in people).max(initial=0) <= 1


def test_union_of_none_is_empty_and_other_photos_are_refused():
    assert not union([], (4, 4)).any()
    people = people_from(region_of((1, 1, 5, 5)))
    with pytest.raises(ValueError, match="does not fit"):
        union(people, (40, 51))


def test_small_enclosed_holes_are_filled_and_large_or_open_ones_stay():
    region = region_of((5, 5, 35, 45))
    region[10:12, 10:12] = False  # 4 pixels: a hole
    region[15:30, 20:40] = False  # 300 pixels: grass between the legs
    region[30:36, 7] = False  # open to the outside
    filled = fill_holes(region, 0.01)
    assert filled[10:12, 10:12].all()
    assert not filled[15:30, 20:40].any() and not filled[30:36, 7].any()
    assert np.array_equal(filled, fill_holes(filled, 0.01))


def test_holes_at_the_border_are_no_holes():
    region = np.ones((20, 20), dtype=bool)
    region[0, 5] = region[10, 10] = False
    filled = fill_holes(region, 0.5)
    assert filled[10, 10] and not filled[0, 5]


def test_holes_joined_by_a_corner_only_are_two():
    region = np.ones((20, 20), dtype=bool)
    region[5, 5] = region[6, 6] = False
    assert fill_holes(region, 2 / 400).all()


def test_filling_equals_scipy_where_every_hole_counts():
    generator = np.random.default_rng(1)
    for _ in range(20):
        region = ndimage.gaussian_filter(generator.standard_normal((37, 53)), 1.5) > 0
        assert np.array_equal(fill_holes(region, 0.999), ndimage.binary_fill_holes(region))


@pytest.mark.parametrize("region", [np.zeros((4, 4)), np.zeros((4, 4, 1), bool)])
def test_other_arrays_are_refused(region):
    for function in (people_from, fill_holes):
        with pytest.raises(ValueError, match="bool"):
            function(region)
    with pytest.raises(ValueError, match="min_area=2"):
        people_from(np.zeros((4, 4), bool), 2)
    with pytest.raises(ValueError, match="score"):
        people_from(np.zeros((4, 4), bool), 0.0, np.zeros((4, 5)))
