from __future__ import annotations

import pytest
from pydantic import ValidationError

from cemiface.diffusion.config import DiffusionConfig


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        (DiffusionConfig, {"beta_start": 0.5}, "beta_end: got 0.02; allowed: at least beta_start 0.5"),
        (DiffusionConfig, {"timesteps": 1}, "timesteps"),
        (DiffusionConfig, {"schedule": "cosine"}, "schedule"),
    ],
)
def test_impossible_values_are_refused_with_field_and_allowed_values(model, fields, message):
    with pytest.raises(ValidationError) as refusal:
        model.model_validate(fields)
    assert message in str(refusal.value)
