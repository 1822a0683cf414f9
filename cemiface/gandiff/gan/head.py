"""What the head of a generator's file says, for plans: imports no torch, and looks at no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from cemiface.errors import ModelError
from cemiface.gandiff.gan.config import GanConfig
from cemiface.gandiff.gan.stylegan.config import StyleGan2Config, StyleGan3Config

OWN = "gandiff"  # the suite's own architecture, in the metadata of the file
CONFIGS: dict[str, type[GanConfig] | type[StyleGan2Config] | type[StyleGan3Config]] = {
    OWN: GanConfig,
    "stylegan2": StyleGan2Config,
    "stylegan3": StyleGan3Config,
}


@dataclass(frozen=True, kw_only=True)
class GeneratorHead:
    """A generator's architecture and size of its pictures in pixels; license and origin if it was imported."""

    architecture: str
    image_size: int
    license: str | None
    origin: str | None


def generator_head(path: Path) -> GeneratorHead:
    """The head of a generator's file.

    Raises:
        ModelError: the file is missing, damaged or no generator.
    """
    if not path.is_file():
        raise ModelError(f"weights {path}: no such file")
    if path.suffix == ".pkl":
        raise ModelError(f"weights {path}: a pickle; convert it once: cemiface import-generator {path} --to FILE")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        architecture = metadata["architecture"]
        config = CONFIGS[architecture].model_validate_json(metadata["config"])
    except (SafetensorError, OSError, KeyError, ValidationError):
        raise ModelError(
            f"weights {path}: not a generator; give the file that train-gan or `cemiface import-generator` wrote"
        ) from None
    return GeneratorHead(
        architecture=architecture,
        image_size=config.image_size,
        license=metadata.get("license"),
        origin=metadata.get("origin"),
    )


def check_initial_gan(path: str | Path, config: GanConfig) -> None:
    """Refuse a generator or critic of another shape as the start of a training; reads the head of the file alone.

    Raises:
        ModelError: the file is missing, damaged, not of the suite's own GAN, or of one of another shape.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            found = GanConfig.model_validate_json((file.metadata() or {})["config"])
    except (SafetensorError, OSError, KeyError, ValidationError) as error:
        raise ModelError(f"weights {path}: not of this suite's GAN; give the files that train-gan wrote") from error
    other = next((name for name in GanConfig.model_fields if getattr(found, name) != getattr(config, name)), None)
    if other:
        raise ModelError(
            f"weights {path}: trained with {other} {getattr(found, other)}, here it is {getattr(config, other)}; give "
            "both the same"
        )
