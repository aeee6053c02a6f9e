"""Folders in, numbers out: as pytorch-fid's command, cached, cropped and never stretched."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from PIL import Image

from messi_lib.evaluation import features, report
from messi_lib.evaluation.features import Extractor, extract, load_extractor
from messi_lib.evaluation.frechet import frechet_distance
from messi_lib.evaluation.kernel import kid
from messi_lib.evaluation.report import centre_square, evaluate_folders, nearest


def image(seed: int, shape=(40, 40)) -> np.ndarray:
    """A smooth random image: noise has no crop that matters."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC))


def folder(path, seeds, shape=(40, 40), suffix="png"):
    path.mkdir()
    for seed in seeds:
        Image.fromarray(image(seed, shape)).save(path / f"{seed}.{suffix}")
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MESSI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MESSI_DEVICE", "cpu")


@pytest.fixture
def pair(tmp_path):
    return folder(tmp_path / "a", range(6)), folder(tmp_path / "b", range(20, 25), suffix="PNG")


def test_every_number_is_named_after_its_extractor(pair):
    result = evaluate_folders(*pair, "random-conv")
    a = extract(np.stack([image(s) for s in range(6)]))
    b = extract(np.stack([image(s) for s in range(20, 25)]))
    assert result["fid_random-conv"] == pytest.approx(frechet_distance(a, b), rel=1e-9)
    value, error = kid(a, b)
    assert result["kid_random-conv"] == pytest.approx(value, rel=1e-9)
    assert result["kid_random-conv_se"] == pytest.approx(error, rel=1e-9)
    assert (result["n_a"], result["n_b"], result["shared"]) == (6, 5, 0)
    assert "fid" not in result and not any("inception" in key for key in result)
    assert result["weights"] == "random, seed 0" and result["weights_sha256"] == "He seed 0"
    assert result["crop"] == "none, all images have 40x40 px"
    assert any("biased" in note for note in result["warnings"])


def test_a_folder_against_itself(pair):
    result = evaluate_folders(pair[0], str(pair[0]), "random-conv")
    assert result["fid_random-conv"] < 1e-9 and result["shared"] == 6


def test_features_are_cached_by_content(pair, monkeypatch):
    calls = []
    real = Extractor.__call__

    def counted(self, images, *rest):
        calls.append(len(images))
        return real(self, images, *rest)

    monkeypatch.setattr(Extractor, "__call__", counted)
    first = evaluate_folders(*pair, "random-conv")
    assert sum(calls) == 11 and first["cached"] == [False, False]
    again = evaluate_folders(*pair, "random-conv")
    assert sum(calls) == 11 and again["cached"] == [True, True]
    assert again["fid_random-conv"] == first["fid_random-conv"]

    Image.fromarray(image(99)).save(pair[0] / "3.png")  # another photo under an old name
    changed = evaluate_folders(*pair, "random-conv")
    assert sum(calls) == 17 and changed["cached"] == [False, True]
    assert changed["fid_random-conv"] != first["fid_random-conv"]
    evaluate_folders(*pair, "random-conv", size=20)  # another crop
    assert sum(calls) == 28
    for stored in (report.runs.cache_dir() / "features").iterdir():
        stored.write_bytes(stored.read_bytes()[:90])  # torn
    torn = evaluate_folders(*pair, "random-conv")
    assert torn["cached"] == [False, False]
    assert torn["fid_random-conv"] == changed["fid_random-conv"]


def test_mixed_sizes_are_cropped_and_never_stretched(tmp_path):
    a, b = folder(tmp_path / "a", range(5)), folder(tmp_path / "b", range(10, 14), (40, 70))
    result = evaluate_folders(a, b, "random-conv")
    assert result["crop"] == "centre square, resized to 40 px, the smallest side of all images"
    cropped = np.stack([image(s, (40, 70))[:, 15:55] for s in range(10, 14)])
    wanted = frechet_distance(extract(np.stack([image(s) for s in range(5)])), extract(cropped))
    assert result["fid_random-conv"] == pytest.approx(wanted, rel=1e-9)
    assert "smallest image has 40 px" in result["warnings"][0]
    sized = evaluate_folders(a, b, "random-conv", size=32)
    assert sized["crop"] == "centre square, resized to 32 px"
    with pytest.raises(ValueError, match="size=0"):
        evaluate_folders(a, b, "random-conv", size=0)


def test_exif_orientation_counts(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(image(1, (40, 70))).save(tmp_path / "x.jpg", exif=turned)
    assert report.photo_size(tmp_path / "x.jpg") == (70, 40)


def test_centre_square_keeps_proportions():
    pixels = np.zeros((30, 90, 3), np.uint8)
    pixels[10:20, 40:50] = 255
    small = centre_square(pixels, 60)[..., 0] > 127
    assert small.any(0).sum() == small.any(1).sum() == 20


def test_uniform_but_odd_sizes_are_warned_about(tmp_path):
    wide = folder(tmp_path / "w", range(3), (40, 60)), folder(tmp_path / "v", range(5, 8), (40, 60))
    notes = evaluate_folders(*wide, "random-conv")["warnings"]
    assert any("squeezes 60x40 to a square" in note for note in notes)
    large = (
        folder(tmp_path / "l", range(3), (320, 320)),
        folder(tmp_path / "k", [5, 6, 7], (320, 320)),
    )
    notes = evaluate_folders(*large, "random-conv")["warnings"]
    assert any("without antialiasing" in note for note in notes)


def test_what_cannot_be_evaluated_is_named(pair, tmp_path):
    alone = folder(tmp_path / "alone", [1])
    with pytest.raises(ValueError, match=r"alone holds 1 image\(s\).*3 or more"):
        evaluate_folders(pair[0], alone, "random-conv")
    with pytest.raises(FileNotFoundError, match="absent"):
        evaluate_folders(pair[0], tmp_path / "absent", "random-conv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no photos"):
        evaluate_folders(tmp_path / "empty", pair[0], "random-conv")
    with pytest.raises(ValueError, match="unknown extractor"):
        evaluate_folders(*pair, "vgg")
    (pair[1] / "broken.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="broken.png is no readable image"):
        evaluate_folders(*pair, "random-conv")


def test_copies_are_refused_as_files_and_as_pixels(pair):
    copy = pair[1] / "copy.png"
    copy.write_bytes((pair[1] / "21.PNG").read_bytes())
    with pytest.raises(ValueError, match="1 of 6 images are copies.*21.PNG.*copy.png"):
        evaluate_folders(*pair, "random-conv")
    Image.fromarray(image(21)).save(copy, compress_level=0)  # other bytes, the same picture
    with pytest.raises(ValueError, match="1 of 6 images are copies.*21.PNG.*copy.png"):
        evaluate_folders(*pair, "random-conv")
    copy.unlink()
    assert evaluate_folders(*pair, "random-conv")["n_b"] == 5


@pytest.mark.filterwarnings("ignore:Matrix is singular")  # four images, 192 features
def test_equals_the_command_of_pytorch_fid(tmp_path, monkeypatch):
    """The same random weights in both: all of the path from file to number is compared."""
    from pytorch_fid import fid_score, inception

    inner = features._fid_network()
    features._he_init(inner, features.torch.Generator().manual_seed(0))
    monkeypatch.setattr(
        inception, "load_state_dict_from_url", lambda url, progress: inner.state_dict()
    )
    root = scipy.linalg.sqrtm  # SciPy 1.18 removed the argument that pytorch-fid passes
    monkeypatch.setattr(fid_score.linalg, "sqrtm", lambda matrix, disp=True: (root(matrix), None))
    pair = folder(tmp_path / "c", range(4)), folder(tmp_path / "d", range(30, 33))
    paths = [str(path) for path in pair]
    wanted = fid_score.calculate_fid_given_paths(paths, 4, "cpu", 192, num_workers=0)
    ours = evaluate_folders(*pair, load_extractor("random-inception", dim=192))
    assert ours["fid_random-inception"] == pytest.approx(wanted, rel=1e-3)


def test_nearest_finds_planted_copies():
    generator = np.random.default_rng(3)
    train, made = generator.standard_normal((30, 16)), generator.standard_normal((4, 16))
    made[2] = train[17]
    distances, indices = nearest(made, train, k=3)
    assert distances.shape == indices.shape == (4, 3)
    assert indices[2, 0] == 17 and distances[2, 0] == 0 and distances[2, 1] > 1
    assert (np.diff(distances, axis=1) >= 0).all()
    wanted = np.linalg.norm(made[0] - train, axis=1)
    assert indices[0].tolist() == np.argsort(wanted)[:3].tolist()
    with pytest.raises(ValueError, match="k=31"):
        nearest(made, train, k=31)
