"""Folders in which generators are shared: what is in them, their cards, and what is refused."""

from __future__ import annotations

import json
import os
import re

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from messi_lib.consistency.denoiser import load_denoiser
from messi_lib.consistency.hub import KIND, VERSION, from_pretrained, model_card, save_pretrained

from .played_hub import FILES, edit, error_of, images, snippet
from .toys import tiny_denoiser

# --- folders ------------------------------------------------------------------------------------


def test_a_folder_gives_the_same_images_bit_for_bit(tmp_path):
    denoiser = tiny_denoiser(1, sigma_max=60.0, model_channels=64, channel_mult=(0.5, 1)).eval()
    state = torch.random.get_rng_state()
    assert save_pretrained(denoiser, tmp_path / "new" / "player") == tmp_path / "new" / "player"
    loaded = from_pretrained(tmp_path / "new" / "player", device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state), "loading draws no random numbers"
    assert sorted(os.listdir(tmp_path / "new" / "player")) == FILES
    assert loaded.config == denoiser.config
    assert (loaded.sigma_max, loaded.patch, loaded.gate) == (60.0, 2, True)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(images(loaded), images(denoiser))
    stored = json.loads((tmp_path / "new" / "player" / "config.json").read_text())
    assert stored["kind"] == KIND and stored["format_version"] == VERSION
    direct = load_denoiser(tmp_path / "new" / "player" / "model.safetensors")
    assert torch.equal(images(direct.cpu()), images(denoiser)), "the file serves alone, too"


def test_half_precision_is_half_the_size(tmp_path, folder):
    denoiser = tiny_denoiser().eval()
    save_pretrained(denoiser, tmp_path / "half", half=True)
    state = load_file(tmp_path / "half" / "model.safetensors")
    assert {value.dtype for value in state.values()} == {torch.float16}
    loaded = from_pretrained(tmp_path / "half", device="cpu")
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    for key, value in denoiser.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.half().float()), key
    assert "half precision" in (tmp_path / "half" / "README.md").read_text()
    assert "half precision" not in (folder / "README.md").read_text()


def test_saving_again_replaces_and_anything_else_is_left_alone(tmp_path, folder):
    save_pretrained(tiny_denoiser(7).eval(), folder)
    loaded = from_pretrained(folder, device="cpu")
    assert torch.equal(images(loaded), images(tiny_denoiser(7).eval()))

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    broken = tiny_denoiser()
    next(broken.parameters()).data[0] = float("nan")
    assert "not finite" in error_of(ValueError, save_pretrained, broken, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    (folder / "notes.txt").write_text("mine")
    assert "notes.txt" in error_of(ValueError, save_pretrained, tiny_denoiser(), folder)
    (folder / "notes.txt").unlink()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    assert "'bert'" in error_of(ValueError, save_pretrained, tiny_denoiser(), folder)
    (tmp_path / "file").write_text("")
    assert "choose a new" in error_of(
        ValueError, save_pretrained, tiny_denoiser(), tmp_path / "file"
    )


def test_what_cannot_be_shared_is_refused(tmp_path):
    denoiser = tiny_denoiser()
    denoiser.boundary = False
    assert "boundary=False" in error_of(ValueError, save_pretrained, denoiser, tmp_path / "x")
    denoiser = tiny_denoiser()
    denoiser.config = None
    assert "configuration" in error_of(ValueError, save_pretrained, denoiser, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (dict(kind="somebody/else"), "'somebody/else', not"),
        (dict(kind=None, model_type="gpt2"), "'gpt2', not"),
        (dict(format_version=VERSION + 1), f"format version {VERSION + 1}.*update"),
        (dict(format_version=None), "format version None"),
        (dict(colour="blue"), r"unknown fields \['colour'\]"),
        (dict(image_size="16"), r"another type for \['image_size'\]"),
        (dict(scales="many"), r"another type for \['scales'\]"),
        (dict(gate=1, channel_mult=2), "another type for"),
        (dict(image_size=15), "image_size=15 must be a multiple"),
        (dict(patch=0), "describes no network"),
        (dict(sigma_max=3.0), "config.json and model.safetensors are of two models"),
        # the network of another configuration: 64 channels instead of 32
        (dict(model_channels=64), r"has other shapes of unet\.\S+, unet\.\S+, unet\.\S+$"),
        (dict(num_res_blocks=2), r"it lacks unet\.\S+, .*; has unknown unet\."),
    ],
)  # fmt: skip
def test_a_configuration_that_is_not_right_is_told(folder, changes, told):
    edit(folder, **changes)
    message = error_of(ValueError, from_pretrained, folder)
    assert re.search(told, message) and str(folder) in message


def test_a_damaged_folder_is_told(tmp_path, folder):
    state = load_file(folder / "model.safetensors")
    name, *_ = state
    for changed, told in (
        ({**state, "more": torch.zeros(1)}, "has unknown more"),
        ({key: value for key, value in state.items() if key != name}, f"lacks {name}"),
        ({**state, name: state[name].int()}, f"has integers in {name}"),
    ):
        save_file(changed, folder / "model.safetensors")
        assert told in error_of(ValueError, from_pretrained, folder)
    (folder / "model.safetensors").write_bytes(b"short")
    assert "no complete safetensors" in error_of(ValueError, from_pretrained, folder)
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors" in error_of(FileNotFoundError, from_pretrained, folder)
    (folder / "config.json").write_text("{")
    (folder / "model.safetensors").touch()
    assert "is no JSON" in error_of(ValueError, from_pretrained, folder)
    (folder / "config.json").unlink()
    assert "no config.json" in error_of(FileNotFoundError, from_pretrained, folder)
    assert "revision='v1'" in error_of(ValueError, from_pretrained, folder, revision="v1")
    assert "is a file" in error_of(ValueError, from_pretrained, folder / "model.safetensors")
    for missing in (tmp_path / "nowhere", "nowhere", "./owner/name", "a/b/c"):
        assert "owner/name" in error_of(FileNotFoundError, from_pretrained, missing)


# --- the card -----------------------------------------------------------------------------------


def test_the_card_has_the_header_of_the_hub_and_facts_of_the_configuration(folder):
    _, header, body = (folder / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(header)
    assert told["license"] == "mit" and told["library_name"] == "messi-anything"
    assert told["pipeline_tag"] == "unconditional-image-generation"
    assert "consistency-model" in told["tags"]
    assert re.findall("^#+ .*", body, re.M) == [
        "# player", "## What", "## How to use", "## Architecture", "## Training", "## Limits",
        "## Licence",
    ]  # fmt: skip
    denoiser = tiny_denoiser()
    count = sum(p.numel() for p in denoiser.parameters())
    for fact in (
        f"{count:,} parameters in float32: {count * 4 / 1e6:.1f} MB",
        "16 x 16 pixels", "8 x 8 patches of 2 x 2", "32, 64", "Attention at 4 x 4;",
        "12 steps with batch 8: 96 images", "8 steps EDM, then 4 steps easy", "in 2 stages",
        "radam, learning rate 0.0003", "0.002 to 80, sigma_data 0.5", "No measurement",
    ):  # fmt: skip
        assert fact in body, fact


def test_sections_of_the_caller_stand_before_the_limits_or_in_place_of_ours():
    given = {"Measured": "FID 12.5 {not a field}", "Training": "By hand.", "Limits": "- Many."}
    text = model_card(tiny_denoiser(), "x", sections=given)
    assert re.findall("^## (.*)", text, re.M) == [
        "What", "How to use", "Architecture", "Training", "Measured", "Limits", "Licence",
    ]  # fmt: skip
    assert "FID 12.5 {not a field}" in text and "By hand." in text and "- Many." in text
    assert "steps EDM" not in text and "No measurement" not in text
    for bad in ({"": "x"}, {"two\nlines": "x"}, {"number": 3}):
        assert "heading" in error_of(ValueError, model_card, tiny_denoiser(), "x", sections=bad)


def test_a_diffusion_model_says_that_it_is_one(tmp_path, monkeypatch):
    denoiser = tiny_denoiser(objective="edm")
    text = model_card(denoiser, "x")
    assert "- diffusion-model\n" in text and "many calls" in text
    save_pretrained(denoiser, tmp_path / "x")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(snippet(text), names)
    assert "ode" in names and names["images"].shape == (4, 3, 16, 16)


def test_no_folder_of_this_machine_is_in_the_files(tmp_path):
    teacher = "/somewhere/private/edm.safetensors"
    denoiser = tiny_denoiser(objective="cd", teacher=teacher, scales=(4, 8))
    folder = save_pretrained(denoiser, tmp_path / "x")
    assert all(b"private" not in path.read_bytes() for path in folder.iterdir())
    config = from_pretrained(folder, device="cpu").config
    assert config.teacher == "edm.safetensors" and config.scales == (4, 8)


def test_the_example_of_the_card_works_beside_the_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    names: dict = {}
    exec(snippet((folder / "README.md").read_text()), names)
    assert names["images"].shape == (4, 3, 16, 16)
    assert (folder.parent / "samples.png").stat().st_size > 0


def test_the_card_of_a_generator_for_holes_says_so():
    card = model_card(tiny_denoiser(channels=4, condition_channels=4), "figure")
    assert "image-to-image" in card and "messi replace photo.jpg" in card
    assert "unconditional" not in card and "nothing tells it" not in card
