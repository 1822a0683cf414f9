"""What the head of a recognition net's weights file says. It imports no torch, and looks at no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from cemiface.errors import ModelError
from cemiface.recognition.config import FoldedConfig, RecognitionConfig
from cemiface.weights_head import read_head

NORMALIZATION = "[-1,1]"  # of the images every net here takes


def recognition_head(path: Path, *, color: Literal["RGB", "BGR"] | None = None) -> RecognitionConfig | None:
    """The net that a weights file describes; None if only the names of its tensors tell.

    Raises:
        ModelError: a file that no net can be loaded from, whatever its weights are: see `read_head`; one that describes
            something else; or one without a color order, if the caller gives none.
    """
    metadata = read_head(path)
    if "config" not in metadata:
        if color or metadata.get("color"):
            return None
        raise ModelError(
            f"weights {path}: without a color order, and a wrong one gives no error; give color: RGB (insightface's) "
            "or BGR (AdaFace's)"
        )
    stored = stored_config(metadata, path=path)
    check_inputs(stored, metadata=metadata, color=color, path=path)
    return stored


def check_inputs(
    config: RecognitionConfig, *, metadata: Mapping[str, str], color: str | None, path: str | Path
) -> None:
    """Refuse images in another order or range than the weights were trained on: it costs accuracy, not an error."""
    for source, color_order in (("the file", metadata.get("color")), ("color", color)):
        if color_order is not None and color_order != config.color:
            raise ModelError(
                f"weights {path}: {source} gives {color_order}, the net's config {config.color}; fix one of them"
            )
    normalization = metadata.get("normalization", NORMALIZATION)
    if normalization != NORMALIZATION:
        raise ModelError(f"weights {path}: got normalization {normalization}, allowed: {NORMALIZATION}")


def stored_config(metadata: Mapping[str, str], *, path: str | Path) -> RecognitionConfig:
    """The config in the metadata of a file; raises ModelError if it is none."""
    try:
        stored = json.loads(metadata["config"])
        if isinstance(stored, dict) and "net" not in stored:
            folded = FoldedConfig.model_validate(stored)
            return RecognitionConfig(net="mobilefacenet_folded", embedding=folded.dim, folded=folded)
        return RecognitionConfig.model_validate(stored)
    except (ValueError, RecursionError) as error:  # the latter: nested deeper than the parser goes
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ModelError(f"weights {path}: its metadata does not describe a recognition net: {reason}") from error
