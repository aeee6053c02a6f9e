import pytest
import torch

from messi_lib.fusion.sources import SOURCES, context_latents, encoded, latents_from
from messi_lib.profiles import SegmentationConfig, preset
from messi_lib.segmentation.model import PersonSegmenter


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(n=3, size=16):
    images = torch.rand(n, 3, size, size, generator=generator(1)) * 2 - 1
    hole = torch.zeros(n, 1, size, size, dtype=torch.bool)
    hole[:, :, 4:12, 5:10] = True
    return images, hole


@pytest.fixture(scope="module")
def segmenter() -> PersonSegmenter:
    torch.manual_seed(0)
    return PersonSegmenter(preset(SegmentationConfig, "smoke"))


def test_each_source_sees_what_it_says(segmenter):
    images, hole = problem()
    other = torch.rand(images.shape, generator=generator(2)) * 2 - 1
    inside, outside = torch.where(hole, other, images), torch.where(hole, images, other)
    sees = {"context": (False, True), "pose": (True, False), "everything": (True, True)}
    assert set(sees) == set(SOURCES)
    for source, (person, surroundings) in sees.items():
        plain = latents_from(source, segmenter, images, hole, 1)
        for changed, seen in ((inside, person), (outside, surroundings)):
            again = latents_from(source, segmenter, changed, hole, 1)
            assert torch.equal(again, plain) != seen, source


def test_pose_knows_no_hues_but_the_outline(segmenter):
    images, hole = problem()
    plain = latents_from("pose", segmenter, images, hole, 1)
    tinted = images.clone()
    tinted[:, 0] += 0.1 / 0.299  # as much light more in red ...
    tinted[:, 1] -= 0.1 / 0.587  # ... as less in green
    torch.testing.assert_close(
        latents_from("pose", segmenter, tinted, hole, 1), plain, atol=1e-4, rtol=1e-3
    )
    coarsest = segmenter.encoder.channels[3]
    assert plain.shape == (3, coarsest + 1, 2, 2)
    share = torch.nn.functional.avg_pool2d(hole.float(), 8)
    torch.testing.assert_close(plain[:, -1:], share)


def test_the_others_are_the_encoders_maps(segmenter):
    images, hole = problem()
    assert torch.equal(
        latents_from("context", segmenter, images, hole, 2),
        context_latents(segmenter, images, hole, 2),
    )
    assert torch.equal(
        latents_from("everything", segmenter, images, hole, 2), encoded(segmenter, images, 2)
    )
    with pytest.raises(ValueError, match="unknown source 'all': use one of context, pose"):
        latents_from("all", segmenter, images, hole, 2)
    with pytest.raises(ValueError, match="hole must be bool"):
        latents_from("pose", segmenter, images, hole.float(), 2)
