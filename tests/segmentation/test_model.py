"""The segmenter: historical counts, resolutions, frozen parts, sizes it takes and refuses."""

import pytest
import torch

from messi_lib.profiles import SegmentationConfig, preset
from messi_lib.segmentation.model import (
    PersonSegmenter,
    Tail,
    count_table,
)

RESNET = {
    "encoder": "test_resnet",
    "encoder_args": (("out_indices", (1, 2, 3, 4)),),
    "block_heads": 4,
}


def build(**changes) -> PersonSegmenter:
    torch.manual_seed(0)
    return PersonSegmenter(preset(SegmentationConfig, "smoke", **changes))


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_historical_counts():
    config = preset(SegmentationConfig, "historical", pretrained=False)
    with torch.device("meta"):
        table = count_table(PersonSegmenter(config))
    assert table["encoder"] == {"parameters": 50_846_592, "trainable": 0}
    assert table["blocks"] == {"parameters": 70_878_720, "trainable": 70_878_720}
    # "about 53 million" of the historical write-up: encoder and feature pyramid, without blocks
    assert table["encoder"]["parameters"] + table["head"]["parameters"] == 52_986_496
    assert table["total"]["parameters"] == 123_865_473


@pytest.mark.parametrize("channels, count", [((16, 8), 9_385), ((32, 16), 32_849)])
def test_tail_costs_nine_to_thirty_three_thousand_parameters(channels, count):
    assert sum(p.numel() for p in Tail(128, *channels).parameters()) == count


def test_counts_add_up_to_the_whole_model():
    model = build(freeze_encoder=True)
    table = count_table(model)
    assert table["total"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert table["encoder"]["trainable"] == 0 < table["encoder"]["parameters"]
    assert table["head"]["trainable"] == table["head"]["parameters"]


def test_logits_come_at_full_resolution_with_tail_and_at_a_quarter_without():
    assert build()(images(2, 3, 64, 64)).shape == (2, 1, 64, 64)
    assert build(tail=None)(images(2, 3, 64, 64)).shape == (2, 1, 16, 16)


def test_the_tail_sees_single_pixels_and_the_quarter_does_not_resolve_them():
    model = build().eval()
    image = images(1, 3, 64, 64)
    changed = image.clone()
    changed[..., 30, 33] = -changed[..., 30, 33]
    maps = model.features(image)
    quarter = model.head(maps)
    with torch.no_grad():
        here = model.tail(quarter, model.normalise(image))
        there = model.tail(quarter, model.normalise(changed))
    rows = (here - there).abs()[0, 0].amax(1).nonzero().flatten()
    assert 30 in rows and len(rows) < 16, "the RGB shortcut must act locally"


def test_normalisation_is_the_encoders_on_zero_to_one():
    grey = build().normalise(torch.zeros(1, 3, 64, 64))[0, :, 0, 0]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(grey, (0.5 - mean) / std), "ImageNet's, for Hiera"
    white = lite(pretrained=False).normalise(torch.ones(1, 3, 64, 64))
    assert torch.allclose(white, torch.ones(())), "EfficientNet-Lite0 takes [-1, 1]"


def lite(**changes) -> PersonSegmenter:
    config = preset(SegmentationConfig, "overnight", image_size=64, fpn_dim=16, **changes)
    return PersonSegmenter(config)


def test_frozen_parts_keep_their_weights_and_pretrained_ones_their_statistics():
    model = lite(frozen=("conv_stem", "blocks.1"))
    network = model.encoder.network
    assert not network.conv_stem.weight.requires_grad
    assert not any(p.requires_grad for p in network.blocks[1].parameters())
    assert all(p.requires_grad for p in network.blocks[0].parameters())
    mean = network.bn1.running_mean.clone()
    model.train()(images(2, 3, 64, 64)).mean().backward()
    assert model.head.training and not model.encoder.training
    assert torch.equal(network.bn1.running_mean, mean)
    with pytest.raises(ValueError, match="blocks.9"):
        lite(frozen=("blocks.9",))


def test_a_frozen_encoder_stays_in_eval_mode_without_gradients():
    model = build(freeze_encoder=True).train()
    assert model.training and model.head.training
    assert not any(part.training for part in model.encoder.modules())
    model(images(1, 3, 64, 64)).mean().backward()
    assert all(p.grad is None and not p.requires_grad for p in model.encoder.parameters())
    assert all(p.grad is not None for p in model.blocks.parameters())
    assert not any(m.requires_grad for m in model.features(images(1, 3, 64, 64)))


def test_a_free_encoder_trains():
    model = build().train()
    assert all(part.training for part in model.encoder.modules())
    model(images(1, 3, 64, 64)).mean().backward()
    assert all(p.grad is not None for p in model.encoder.parameters())


def test_features_are_four_maps_for_fusion():
    shapes = [tuple(m.shape) for m in build().features(images(2, 3, 64, 64))]
    assert shapes == [(2, 32, 16, 16), (2, 64, 8, 8), (2, 128, 4, 4), (2, 256, 2, 2)]


def test_blocks_change_the_result():
    assert len(build(blocks=0).blocks) == 0 and len(build(blocks=3).blocks) == 3
    image = images(1, 3, 64, 64)
    model = build(blocks=1).eval()
    with torch.no_grad():
        before = model(image)
        model.blocks[0].mlp.fc2.bias.add_(1.0)
        assert not torch.allclose(before, model(image))


@pytest.mark.parametrize("tail, shape", [((16, 8), (50, 75)), (None, (13, 19))])
def test_sides_that_are_no_multiple_of_32_are_padded_and_unpadded(tail, shape):
    model = build(**RESNET, tail=tail).eval()
    image = images(1, 3, 50, 75)
    padded = torch.nn.functional.pad(image, (0, 21, 0, 14), mode="reflect")
    with torch.no_grad():
        logits, whole = model(image), model(padded)
    assert logits.shape[-2:] == shape
    assert torch.allclose(logits, whole[..., : shape[0], : shape[1]], atol=1e-5)


def test_fixed_encoders_are_padded_too_but_take_one_size_only():
    model = build(image_size=50)
    assert model.encoder_size == 64 and model(images(1, 3, 50, 50)).shape[-2:] == (50, 50)
    with pytest.raises(ValueError, match="built for 50x50 images, got 64x64"):
        model(images(1, 3, 64, 64))


@pytest.mark.parametrize(
    "image, message",
    [
        (torch.zeros(3, 64, 64), "expected float images"),
        (torch.zeros(1, 4, 64, 64), "expected float images"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "expected float images"),
    ],
)
def test_other_inputs_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        build()(image)


def test_images_too_small_to_pad_are_refused():
    with pytest.raises(ValueError, match="too small"):
        build(**RESNET)(torch.zeros(1, 3, 16, 64))


def test_impossible_configurations_are_refused():
    with pytest.raises(ValueError, match="block_heads=7"):
        build(block_heads=7)
    with pytest.raises(ValueError, match="out_indices"):
        build(encoder="test_resnet", encoder_args=())
