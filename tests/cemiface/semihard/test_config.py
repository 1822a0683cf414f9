from __future__ import annotations

import pytest
from pydantic import ValidationError

from cemiface.diffusion.config import UNetConfig
from cemiface.semihard.config import PRESETS, DenoiserConfig, LossConfig, MixturePart, SimilarityGrid, mixture_values


def test_a_preset_sets_its_fields_and_explicit_fields_override_it():
    config = DenoiserConfig.model_validate({"preset": "tiny32", "embedding": 128})
    assert (config.image_size, config.channels, config.embedding) == (32, 32, 128)
    assert config == DenoiserConfig.named("tiny32", embedding=128)


def test_defaults_match_the_paper():
    assert DenoiserConfig() == DenoiserConfig.named("paper112")
    assert LossConfig().weight == 0.05


def test_unet_presets_match_the_denoisers_without_the_condition():
    unet, denoiser = UNetConfig.named("small64"), DenoiserConfig.named("small64")
    assert dict(unet) == {name: getattr(denoiser, name) for name in UNetConfig.model_fields}


def test_the_fields_of_the_denoiser_keep_their_order():
    """They are dumped into the metadata of weights, whose bytes must not change."""
    assert " ".join(DenoiserConfig().model_dump()) == (
        "image_size channels multipliers blocks attention_levels head_channels skip_downsample_level "
        "embedding similarity_width condition_tokens identity_scale"
    )


@pytest.mark.parametrize("name", PRESETS)
def test_a_dumped_config_needs_no_preset(name):
    config = DenoiserConfig.named(name)
    assert "preset" not in config.model_dump()
    assert DenoiserConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        (DenoiserConfig, {"preset": "huge"}, "preset: got 'huge'; allowed: paper112, small64, tiny64, small32, tiny32"),
        (DenoiserConfig, {"channels": 100}, "channels: got 100; allowed: a multiple of 32"),
        (DenoiserConfig, {"image_size": 100}, "image_size: got 100; allowed: a multiple of 16"),
        (DenoiserConfig, {"attention_levels": (6,)}, "attention_levels: got 6; allowed: levels 0 to 5"),
        (DenoiserConfig, {"head_channels": 48}, "head_channels: got 48; allowed: a divisor of the 512 channels"),
        (DenoiserConfig, {"skip_downsample_level": 5}, "skip_downsample_level: got 5; allowed: null or a level"),
        (DenoiserConfig, {"multipliers": ()}, "multipliers"),
        (DenoiserConfig, {"chanels": 32}, "Extra inputs"),
        (LossConfig, {"weight": -1}, "weight"),
        (MixturePart, {"interval": None}, "interval: got None; allowed: a number"),
        (SimilarityGrid, {"low": 0.5, "high": 0.0}, "high: got 0.0; allowed: at least low 0.5"),
        (SimilarityGrid, {"high": 1.5}, "high"),
    ],
)
def test_impossible_values_are_refused_with_field_and_allowed_values(model, fields, message):
    with pytest.raises(ValidationError) as refusal:
        model.model_validate(fields)
    assert message in str(refusal.value)


def test_the_grid_has_both_ends():
    assert len(SimilarityGrid().values) == 101
    assert SimilarityGrid(low=0, high=1, interval=0.25).values == (0, 0.25, 0.5, 0.75, 1)
    assert SimilarityGrid(low=0, high=0).values == (0,)


def test_a_grid_whose_interval_does_not_divide_its_range_ends_below_high():
    """The paper's interval of 0.06 over [-1, 1]."""
    values = SimilarityGrid(interval=0.06).values
    assert (values[0], values[-1], len(values)) == (-1, 0.98, 34)


def test_a_mixture_keeps_its_proportions_in_every_identity():
    parts = (MixturePart(low=0, high=0, weight=3), MixturePart(low=0.5, high=1, interval=0.25, weight=1))
    for offset in (0.1, 0.5, 0.9):
        values = mixture_values(parts, count=12, offset=offset)
        assert values.count(0) == 9
        assert sorted(values)[9:] == [0.5, 0.75, 1]


def test_a_share_smaller_than_an_image_is_exact_on_average():
    parts = (MixturePart(low=0, high=0, weight=0.95), MixturePart(low=1, high=1, weight=0.05))
    offsets = [(index + 0.5) / 1000 for index in range(1000)]
    values = [value for offset in offsets for value in mixture_values(parts, count=5, offset=offset)]
    assert sum(values) / len(values) == pytest.approx(0.05, abs=1e-3)
