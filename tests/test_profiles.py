"""Configurations and presets: complete, valid, and strict about names and types."""

from __future__ import annotations

import dataclasses

import pytest

from messi_lib import profiles
from messi_lib.profiles import (
    PROFILES,
    ConsistencyConfig,
    FusionConfig,
    FusionStudyConfig,
    InpainterConfig,
    LayerConfig,
    ReplaceConfig,
    SegmentationConfig,
    current_profile,
    preset,
    unknown,
)

GENERATORS = (ConsistencyConfig, InpainterConfig, LayerConfig)
TRAINED = (SegmentationConfig, *GENERATORS, FusionConfig, FusionStudyConfig)
CONFIGS = (*TRAINED, ReplaceConfig)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_component_has_the_everyday_presets(config):
    for profile in ("smoke", "laptop", "overnight", "gpu"):
        assert isinstance(preset(config, profile), config)


@pytest.mark.parametrize("config", TRAINED)
def test_presets_are_sensible(config):
    steps = []
    for profile in ("smoke", "laptop", "overnight", "gpu"):
        made = preset(config, profile)
        steps.append(made.steps)
        assert 0 < made.log_every <= made.steps and 0 < made.save_every <= made.steps
        assert made.warmup < made.steps and 0 < made.lr < 0.1
        assert getattr(made, "images", made.batch) >= made.batch, "a batch must fit the data"
    assert steps == sorted(steps) and steps[0] <= 20, "smoke is small, then they grow"


def test_the_historical_generators_have_their_published_sizes():
    a, b = preset(ConsistencyConfig, "image_a"), preset(ConsistencyConfig, "image_b")
    assert (a.image_size, a.model_channels, a.batch) == (256, 256, 16)
    assert (b.image_size, b.model_channels, b.batch) == (512, 192, 4)
    segmenter = preset(SegmentationConfig, "image_a")
    assert segmenter.encoder == "hiera_base_224" and segmenter.tail is None


def test_the_generator_of_the_gpu_profile_works_at_256_pixels():
    assert preset(ConsistencyConfig, "gpu").image_size == 256
    assert preset(ConsistencyConfig, "gpu").model_channels == 128


def test_fields_can_be_replaced_and_nothing_else():
    made = preset(ConsistencyConfig, "smoke", steps=7, lr=1, flip=False)
    assert (made.steps, made.lr, made.flip) == (7, 1, False)
    plain = preset(ConsistencyConfig, "smoke")
    assert dataclasses.replace(made, steps=plain.steps, lr=plain.lr, flip=plain.flip) == plain


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"stepz": 1}, "unknown ConsistencyConfig field 'stepz' .did you mean 'steps'"),
        ({"steps": "10"}, "steps='10': expected int"),
        ({"steps": 1.5}, "steps=1.5: expected int"),
        ({"steps": True}, "steps=True: expected int"),
        ({"flip": 1}, "flip=1: expected bool"),
        ({"lr": "fast"}, "lr='fast': expected float"),
        ({"optimizer": 3}, "optimizer=3: expected str"),
    ],
)
def test_bad_overrides_are_errors(overrides, message):
    with pytest.raises(ValueError, match=message):
        preset(ConsistencyConfig, "smoke", **overrides)


def test_an_unknown_profile_names_the_valid_ones():
    with pytest.raises(ValueError, match="'smoek' .did you mean 'smoke'.*: use one of smoke"):
        preset(SegmentationConfig, "smoek")
    with pytest.raises(ValueError, match="unknown profile 'image_a'"):
        preset(ReplaceConfig, "image_a")
    assert str(unknown("fruit", "zzz", ["apple", "pear"])) == (
        "unknown fruit 'zzz': use one of apple, pear"
    )


def test_configurations_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset(ReplaceConfig, "smoke").steps = 3


def test_the_profile_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("MESSI_PROFILE", raising=False)
    assert current_profile() == "laptop"
    monkeypatch.setenv("MESSI_PROFILE", "")
    assert current_profile() == "laptop"
    for profile in PROFILES:
        monkeypatch.setenv("MESSI_PROFILE", profile)
        assert current_profile() == profile
    monkeypatch.setenv("MESSI_PROFILE", "full")
    with pytest.raises(ValueError, match="unknown profile 'full': use one of smoke"):
        current_profile()


def test_no_preset_belongs_to_nobody():
    assert set(profiles.PRESETS) == {config.__name__ for config in CONFIGS}
    for table in profiles.PRESETS.values():
        assert set(table) <= {*PROFILES, "historical", "default", "embedded", "scratch"}
