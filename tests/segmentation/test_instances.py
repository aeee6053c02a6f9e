"""Mask R-CNN as a segmenter: the same answers, people apart, errors with a remedy."""

import numpy as np
import pytest
import torch

from messi_lib import runs
from messi_lib.segmentation import instances
from messi_lib.segmentation.infer import Segmenter
from messi_lib.segmentation.instances import InstanceSegmenter, build_detector
from messi_lib.segmentation.people import person_of


def rectangle(y0, x0, y1, x1, height=60, width=80):
    mask = torch.zeros(1, height, width)
    mask[:, y0:y1, x0:x1] = 0.9
    return mask


def answers(*found):
    """A detector that says what it is told: (label, score, mask)."""

    def detector(images):
        assert images[0].shape == (3, 60, 80) and 0 <= images[0].min() <= images[0].max() <= 1
        labels, scores, masks = zip(*found) if found else ((), (), ())
        stacked = torch.stack(masks) if masks else torch.zeros(0, 1, 60, 80)
        return [{"labels": torch.tensor(labels), "scores": torch.tensor(scores), "masks": stacked}]

    return detector


PHOTO = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def test_touching_people_are_two_the_larger_first():
    detector = answers((1, 0.8, rectangle(10, 10, 40, 30)), (1, 0.95, rectangle(5, 28, 55, 60)))
    found = InstanceSegmenter(detector)(PHOTO)
    assert [one.box for one in found.people] == [(5, 28, 55, 60), (10, 10, 40, 30)]
    assert [one.score for one in found.people] == pytest.approx([0.95, 0.8])
    assert found.person.sum() == 30 * 20 + 50 * 32 - 30 * 2, "united by or"
    assert found.person.dtype == bool and found.score.dtype == np.float32
    assert ((found.score > 0.5) == found.person).all()


def test_other_things_doubtful_people_and_specks_are_left_out():
    detector = answers(
        (17, 0.99, rectangle(0, 0, 30, 30)),
        (1, 0.4, rectangle(0, 40, 30, 70)),
        (1, 0.99, rectangle(50, 50, 52, 52)),
    )
    found = InstanceSegmenter(detector, min_area=0.01)(PHOTO)
    assert found.people == [] and not found.person.any()
    assert InstanceSegmenter(answers())(PHOTO).people == []


def test_a_person_in_two_parts_is_one():
    region = np.zeros((20, 20), bool)
    region[2:5, 2:5] = region[10:12, 15:18] = True
    person = person_of(region, 0.9)
    assert person.box == (2, 2, 12, 18) and person.area == 15
    assert (person.region == region).all()
    assert person_of(np.zeros((3, 3), bool), 1.0) is None


def test_the_real_network_answers_in_the_same_words():
    from torchvision.models.detection import maskrcnn_resnet50_fpn_v2

    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).eval()
    assert sum(p.numel() for p in model.parameters()) == 46_359_409
    model.transform.min_size, model.transform.max_size = (64,), 96  # quick
    model.rpn._post_nms_top_n["testing"] = 20
    found = InstanceSegmenter(model.to(runs.device()), min_score=0.0)(PHOTO)
    assert found.person.shape == (60, 80)


def test_the_command_line_opens_both_kinds(monkeypatch, capsys):
    monkeypatch.setattr(instances, "build_detector", lambda: answers())
    assert isinstance(instances.open_segmenter("maskrcnn"), InstanceSegmenter)
    assert "BSD-3" in capsys.readouterr().out, "the licence of what is used is said"
    with pytest.raises(ValueError, match="size=320"):
        instances.open_segmenter("maskrcnn", size=320)
    shipped = instances.open_segmenter(None, threshold=0.4)
    assert isinstance(shipped, Segmenter) and shipped.threshold == 0.4


def test_weights_that_cannot_be_had_are_said(tmp_path, monkeypatch):
    from torchvision.models import detection

    def offline(**arguments):
        raise OSError("network is unreachable")

    monkeypatch.setattr(detection, "maskrcnn_resnet50_fpn_v2", offline)
    with pytest.raises(FileNotFoundError, match="network is unreachable.*connect once"):
        build_detector()
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match="none.pth is missing"):
        build_detector(tmp_path / "none.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="holds no weights of maskrcnn"):
        build_detector(tmp_path / "other.pth")
    with pytest.raises(ValueError, match="threshold=1"):
        InstanceSegmenter(answers(), threshold=1)
    assert instances.NAME == "maskrcnn"
