from __future__ import annotations

import pytest
from pydantic import ValidationError

from cemiface.recognition.config import AugmentConfig, MarginConfig, RecognitionConfig


def test_the_default_margin_is_the_papers():
    assert (MarginConfig().kind, MarginConfig().scale, MarginConfig().margin) == ("cosface", 64, 0.4)


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        (RecognitionConfig, {"net": "ir18", "image_size": 100}, "image_size: got 100; allowed: a multiple of 16"),
        (RecognitionConfig, {"net": "ir34"}, "net"),
        (RecognitionConfig, {"net": "mobilefacenet_folded"}, "folded: got None; allowed: the layout"),
        (RecognitionConfig, {"net": "ir18", "folded": {}}, "folded: got a layout; allowed: null for ir18"),
        (RecognitionConfig, {"net": "mobilefacenet_folded", "folded": {"dim": 8}}, "embedding: got 512; allowed"),
        (
            RecognitionConfig,
            {"net": "mobilefacenet_folded", "folded": {}, "color": "BGR"},
            "color: got BGR; allowed: RGB",
        ),
        (MarginConfig, {"margin": 1.0}, "margin"),
        (MarginConfig, {"kind": "softmax"}, "kind"),
        (MarginConfig, {"sample_rate": 0}, "sample_rate"),
        (AugmentConfig, {"crop_area": (0.9, 0.5)}, "crop_area: got (0.9, 0.5); allowed: low above 0"),
        (AugmentConfig, {"erase_area": (0.0, 0.5)}, "erase_area: got (0.0, 0.5); allowed: low above 0"),
        (AugmentConfig, {"hue": 0.6}, "hue"),
    ],
)
def test_impossible_values_are_refused_with_field_and_allowed_values(model, fields, message):
    with pytest.raises(ValidationError) as refusal:
        model.model_validate(fields)
    assert message in str(refusal.value)
