"""People who touch, told apart by their faces; and holes painted over them, shared out."""

import numpy as np
import pytest
from red_people import find_red, scene

from messi_lib.segmentation.apart import ByFaces, share_out, tell_apart
from messi_lib.segmentation.infer import Segmentation
from messi_lib.segmentation.people import people_from, union

SHAPE = (100, 140)


def region(*boxes, shape=SHAPE):
    made = np.zeros(shape, bool)
    for y0, x0, y1, x1 in boxes:
        made[y0:y1, x0:x1] = True
    return made


def face(x, y, side):
    """A face with its centre at (x, y)."""
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2, 0.9]


def apart(person, *faces, least=0.0):
    return tell_apart(people_from(person, 0.0), np.array(faces, np.float32).reshape(-1, 5), least)


def test_two_faces_share_a_region_down_the_middle():
    pair = region((20, 40, 90, 80))
    left, right = sorted(apart(pair, face(50, 26, 10), face(70, 26, 10)), key=lambda p: p.box[1])
    assert left.box == (20, 40, 90, 60) and right.box == (20, 60, 90, 80)
    assert left.area == right.area == left.inside.sum() == 70 * 20
    assert left.shape == SHAPE and left.score == 1.0


def test_a_larger_face_has_the_larger_body():
    pair = region((20, 40, 90, 80))
    large, small = apart(pair, face(50, 30, 16), face(70, 26, 8))
    assert large.area > 1.4 * small.area and large.box[1] == 40
    assert np.array_equal(large.region | small.region, pair)


@pytest.mark.parametrize(
    "faces",
    [
        [],
        [face(50, 26, 10)],
        [face(50, 26, 10), face(70, 26, 3)],  # far behind, or printed on a shirt
        [face(50, 26, 10), face(110, 26, 10)],  # somebody else's
        [face(50, 26, 10), face(-5, 26, 10), face(50, 99.5, 10)],  # beside the region
    ],
)
def test_with_one_face_of_their_own_people_stay_as_they_were(faces):
    person = region((20, 40, 90, 80))
    (same,) = apart(person, *faces)
    (before,) = people_from(person, 0.0)
    assert same.box == before.box and np.array_equal(same.inside, before.inside)


def test_specks_are_no_people():
    person = region((20, 40, 90, 80), (20, 80, 24, 105))
    assert len(apart(person, face(60, 30, 40), face(97, 22, 16))) == 1
    pair = region((20, 40, 90, 80)), face(50, 26, 10), face(70, 26, 10)
    assert len(apart(*pair, least=0.09)) == 2 and len(apart(*pair, least=0.11)) == 1


def test_parts_are_together_what_was_there_and_sorted_by_size():
    rng = np.random.default_rng(0)
    for _ in range(20):
        person = region(
            *((y, x, y + 40, x + 30) for y, x in rng.integers((0, 0), (60, 110), (4, 2)))
        )
        faces = [face(x, y, s) for x, y, s in rng.uniform((0, 0, 4), (140, 100, 20), (12, 3))]
        parts = apart(person, *faces)
        assert np.array_equal(union(parts, SHAPE), person)
        assert sum(part.area for part in parts) == person.sum()
        assert [p.area for p in parts] == sorted((p.area for p in parts), reverse=True)
        for part in parts:
            assert part.inside.any(1)[[0, -1]].all() and part.inside.any(0)[[0, -1]].all()


def test_a_large_photo_is_shared_out_like_a_small_one():
    small = apart(region((20, 40, 90, 80)), face(50, 30, 16), face(70, 26, 8))
    scale = 20
    big = region((400, 800, 1800, 1600), shape=(2000, 2800))
    large = apart(big, face(1000, 600, 320), face(1400, 520, 160))
    for a, b in zip(small, large):
        assert b.area / scale**2 == pytest.approx(a.area, rel=0.06)


class TestByFaces:
    """Around a finder; faces are looked for only where there may be several."""

    PAIR, SLIM = scene((20, 40, 60, 40)), scene((10, 40, 70, 20))

    def test_it_tells_apart_what_the_finder_found(self):
        asked = []

        def faces(pixels):
            asked.append(pixels)
            return np.array([face(50, 26, 10), face(70, 26, 10)], np.float32)

        found = ByFaces(find_red, faces)(self.PAIR)
        assert len(found.people) == 2 and asked[0] is self.PAIR
        plain = find_red(self.PAIR)
        assert np.array_equal(found.person, plain.person)
        assert np.array_equal(found.score, plain.score)

    def test_somebody_alone_costs_nothing(self):
        def never(pixels):
            raise AssertionError("nobody has to be told apart here")

        assert len(ByFaces(find_red, never)(self.SLIM).people) == 1
        nobody = Segmentation(np.zeros((9, 9), bool), np.zeros((9, 9), np.float32), [])
        assert ByFaces(lambda _: nobody, never)(np.zeros((9, 9, 3), np.uint8)) is nobody

    def test_the_real_face_finder_sees_no_faces_in_red_boxes(self):
        assert len(ByFaces(find_red)(self.PAIR).people) == 1


class TestSharedOut:
    PAIR = region((20, 40, 90, 60), (20, 60, 90, 80))

    def people(self):
        return apart(self.PAIR, face(50, 26, 10), face(70, 26, 10))

    def test_a_hole_over_two_people_is_two(self):
        hole = region((15, 35, 95, 90))  # painted with a broad brush
        parts = list(share_out(hole, self.people()))
        assert len(parts) == 2 and np.array_equal(parts[0] | parts[1], hole)
        assert not (parts[0] & parts[1]).any()
        assert all((part >= one.region).all() for part, one in zip(parts, self.people()))

    @pytest.mark.parametrize("hole", [region((20, 40, 90, 60)), region((20, 0, 60, 20))])
    def test_other_holes_stay_whole(self, hole):
        (same,) = share_out(hole, self.people())
        assert np.array_equal(same, hole)

    def test_parts_that_do_not_touch_are_shared_out_for_themselves(self):
        hole = self.PAIR | region((0, 100, 30, 120))
        parts = list(share_out(hole, self.people()))
        assert len(parts) == 3 and np.array_equal(np.logical_or.reduce(parts), hole)
        assert not list(share_out(np.zeros(SHAPE, bool), self.people()))
