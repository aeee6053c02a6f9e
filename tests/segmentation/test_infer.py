"""Photos of any size: nothing squeezed, masks at the photo's resolution, files that explain."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from messi_lib.profiles import SegmentationConfig, preset
from messi_lib.segmentation import infer
from messi_lib.segmentation.infer import Letterbox, Segmenter, config_from_json, load_segmenter
from messi_lib.segmentation.model import PersonSegmenter
from messi_lib.segmentation.people import union
from messi_lib.segmentation.train import export_segmenter

from .toys import bright, tiny_config


def photo(height: int, width: int, *boxes) -> np.ndarray:
    pixels = np.full((height, width, 3), 40, np.uint8)
    for y0, x0, y1, x1 in boxes:
        pixels[y0:y1, x0:x1] = 220
    return pixels


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (128, 128), (37, 61), (900, 100)])
def test_people_come_back_where_they_are_at_the_photo_resolution(shape):
    height, width = shape
    box = (height // 4, width // 3, height // 2, 2 * width // 3)
    found = Segmenter(bright(64))(photo(height, width, box))
    wanted = photo(height, width, box)[..., 0] > 128
    assert found.person.shape == found.score.shape == shape
    assert found.person.dtype == bool and found.score.dtype == np.float32
    assert iou(found.person, wanted) > 0.9
    assert len(found.people) == 1 and found.people[0].box == pytest.approx(box, abs=height // 40)


def test_the_model_sees_the_photo_unsqueezed_and_reflected_beyond_its_border():
    model = bright(64)
    pixels = photo(100, 200, (25, 80, 75, 120))  # 50 high, 40 wide
    Segmenter(model)(pixels)
    seen = model.seen[0, 0]
    assert model.seen.shape == (1, 3, 64, 64)
    inside = seen[16:48] > 0
    rows, columns = inside.any(1).sum(), inside.any(0).sum()
    assert float(rows / columns) == pytest.approx(50 / 40, rel=0.1)
    assert torch.equal(seen[:16], seen[16:32].flip(0)) and torch.equal(
        seen[48:], seen[32:48].flip(0)
    )


def test_an_extreme_panorama_still_fits():
    box = Letterbox.of(3, 1000, 64)
    square = box.put(np.zeros((3, 1000, 3), np.uint8), 64)
    assert square.shape == (64, 64, 3) and box.height == 1
    found = Segmenter(bright(64))(photo(4, 1000, (0, 400, 4, 600)))
    assert found.person[2, 500] and not found.person[2, 100]


def test_logits_are_scaled_up_and_not_a_thresholded_mask():
    """Post-mortem 7: thresholding first gives blocks of photo size / model size pixels."""
    rows, columns = np.mgrid[:512, :512]
    disc = (rows - 250) ** 2 + (columns - 260) ** 2 < 150**2
    pixels = np.where(disc[..., None], np.uint8(220), np.uint8(40)).repeat(3, axis=2)
    model = bright(32)
    ours = Segmenter(model)(pixels).person
    small = model(model.seen) > 0
    blocky = F.interpolate(small.float(), size=(512, 512), mode="nearest")[0, 0].numpy() > 0.5
    assert iou(ours, disc) > 0.985 > iou(blocky, disc) + 0.005


def test_a_model_without_tail_works_the_same():
    torch.manual_seed(0)
    model = PersonSegmenter(tiny_config(tail=None)).eval()
    assert model(torch.zeros(1, 3, 32, 32)).shape[-1] == 8
    segmenter = Segmenter(model)
    assert segmenter(photo(70, 50)).person.shape == (70, 50)
    image = photo(32, 32, (8, 8, 20, 20))
    with torch.no_grad():
        logits = model(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1)
    wanted = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)[0, 0]
    assert torch.allclose(segmenter.logits(image), wanted, atol=1e-4)


def test_specks_and_gaps_are_cleaned_and_the_union_of_people_is_the_person():
    pixels = photo(64, 64, (10, 10, 40, 30), (50, 50, 52, 52))
    pixels[20:22, 20:22] = 40
    found = Segmenter(bright(64), min_area=0.01)(pixels)
    assert len(found.people) == 1
    assert found.person[20:22, 20:22].all() and not found.person[50, 50]
    assert np.array_equal(found.person, union(found.people, (64, 64)))
    assert found.score[51, 51] > 0.5, "the score is what the network said"
    assert len(Segmenter(bright(64), min_area=0.0)(pixels).people) == 2


def test_threshold_is_a_probability():
    ramp = np.linspace(0, 255, 64).round().astype(np.uint8)
    pixels = np.tile(ramp[None, :, None], (64, 1, 3))
    model = bright(64)
    for threshold in (0.1, 0.5, 0.9):
        found = Segmenter(model, threshold=threshold, min_area=0.0)(pixels)
        assert np.array_equal(found.person, found.score > threshold)
    with pytest.raises(ValueError, match="threshold=1"):
        Segmenter(model, threshold=1)


def test_the_model_is_asked_in_eval_mode_and_left_as_it_was():
    model = bright(64).train()
    Segmenter(model)(photo(40, 40))
    assert not model.was_training and model.training


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(pixels):
    with pytest.raises(ValueError, match="uint8"):
        Segmenter(bright(64))(pixels)


def test_export_and_load_give_the_same_network(tmp_path):
    torch.manual_seed(0)
    model = PersonSegmenter(tiny_config())
    path = export_segmenter(model, tmp_path / "s.safetensors", {"run": "toy"}, half=False)
    loaded = load_segmenter(path)
    assert loaded.config == model.config and not loaded.training
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        # another memory layout sums in another order
        assert torch.allclose(loaded(image), model.eval()(image), atol=1e-5)
    half = load_segmenter(export_segmenter(model, tmp_path / "h.safetensors"))
    with torch.no_grad():
        assert torch.allclose(half(image), model(image), atol=0.05)
    assert next(half.parameters()).dtype == torch.float32


def test_weights_of_a_pretrained_encoder_load_without_fetching_it(tmp_path, monkeypatch):
    model = PersonSegmenter(tiny_config())
    model.config = tiny_config(pretrained=True, freeze_encoder=True)
    path = export_segmenter(model, tmp_path / "s.safetensors")

    def fetch(name):
        raise AssertionError("no download is needed: the file has the encoder's weights")

    monkeypatch.setattr("messi_lib.segmentation.encoder._download", fetch)
    loaded = load_segmenter(path)
    assert loaded.config.pretrained
    assert not any(p.requires_grad for p in loaded.encoder.parameters())


def test_missing_weights_say_how_to_make_them(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="messi train segmentation --profile overnight"):
        Segmenter(tmp_path / "absent.safetensors")
    monkeypatch.setattr(infer, "weights_dir", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="segmenter.safetensors are missing"):
        Segmenter()


def test_files_of_another_kind_and_other_versions_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"kind": "generator", "config": "{}"})
    with pytest.raises(ValueError, match="holds generator, not a segmenter"):
        load_segmenter(path)
    model = PersonSegmenter(tiny_config())
    model.config = tiny_config(fpn_dim=24)
    with pytest.raises(ValueError, match="does not fit its own configuration"):
        load_segmenter(export_segmenter(model, path))
    with pytest.raises(ValueError, match="another version.*colour"):
        config_from_json(json.dumps({"colour": 1}), "file")
    with pytest.raises(ValueError, match="no JSON object"):
        config_from_json("[1]", "file")


def test_the_size_at_which_a_photo_is_seen_can_be_chosen():
    config = preset(
        SegmentationConfig, "overnight", image_size=64, fpn_dim=16, pretrained=False
    )
    model = PersonSegmenter(config).eval()
    seen = []
    model.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape)))
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    assert Segmenter(model)(pixels).score.shape == (90, 120)
    assert Segmenter(model, size=100)(pixels).score.shape == (90, 120)
    assert seen == [(1, 3, 64, 64), (1, 3, 100, 100)]
    with pytest.raises(ValueError, match="takes images of 64 px only"):
        Segmenter(bright(64), size=96)
    with pytest.raises(ValueError, match="32 to 4096"):
        Segmenter(model, size=8)


def test_a_mirrored_photo_gets_the_mirrored_answer():
    config = preset(SegmentationConfig, "overnight", image_size=64, fpn_dim=16, pretrained=False)
    torch.manual_seed(0)
    model = PersonSegmenter(config).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    turned = np.ascontiguousarray(pixels[:, ::-1])
    plain, mirrored = Segmenter(model), Segmenter(model, mirror=True)
    logits, back = plain.logits(pixels), plain.logits(turned).flip(-1)
    assert not torch.allclose(logits, back, atol=1e-3), "the network itself knows left from right"
    assert torch.allclose(mirrored.logits(pixels), (logits + back) / 2, atol=1e-4)
    assert torch.allclose(mirrored.logits(turned).flip(-1), mirrored.logits(pixels), atol=1e-4)
