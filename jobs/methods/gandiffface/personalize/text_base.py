"""A Stable Diffusion folder as the base of a run, for plans: imports neither torch nor diffusers."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pydantic import Field

from cemiface.errors import ModelError
from cemiface.gandiff.personal.config import PersonalConfig
from cemiface.gandiff.text.model_folder import ModelFolder, check_model_folder
from cemiface.gandiff.text.text_base_cost import BaseCost, Hours, Plan, folder_cost, gpu_hours
from cemiface.gandiff.text.text_config import TEXT_PERSONAL, TextBaseConfig
from jobs.frame.run import Run
from jobs.frame.stage_config import LINE_PATTERN, PathText, StageConfig
from slurm.files import digest, sha256_of

FIELD = "personalize.text_base"
TEXT_BASE = "text_base"  # in the figures of personalize: name and hash of the folder
PACKAGES = ("diffusers", "transformers")


class StableDiffusion(TextBaseConfig):
    """A Stable Diffusion folder, and how it is used."""

    folder: PathText = Field(
        description=(
            "Stable Diffusion 1.5, 2.1 or XL in diffusers' format, safetensors only (docs/stable-diffusion.md). The "
            "suite fetches nothing."
        )
    )


class BaseSource(StageConfig):
    """Where a Stable Diffusion folder is from, for card, report and lineage."""

    license: str = Field(
        min_length=1, max_length=200, pattern=LINE_PATTERN, description="License or terms of the weights."
    )
    origin: str = Field(
        min_length=1, max_length=200, pattern=LINE_PATTERN, description="Who made the weights, or an address."
    )
    trained_on: str = Field(
        "",
        max_length=200,
        pattern=LINE_PATTERN,
        description=(
            "Name of the data set that the weights were trained on, for the lineage. Empty: unknown. The audit has to "
            "be told to accept either."
        ),
    )


def with_text_defaults(tuning: object) -> object:
    """A section `tuning` as it was written, with the defaults for text bases where it sets nothing."""
    if not isinstance(tuning, dict):
        return tuning
    defaults = TEXT_PERSONAL.model_dump(exclude_unset=True)
    lora = tuning.get("lora", {})
    merged = {**defaults["lora"], **lora} if isinstance(lora, dict) else lora
    return {**defaults, **tuning, "lora": merged}


def folder_of(run: Run, given: StableDiffusion) -> ModelFolder:
    """The checked folder.

    Raises:
        ModelError: it is missing or refused, its nets do not make the image size, or the packages are not installed.
    """
    missing = next((name for name in PACKAGES if find_spec(name) is None), None)
    if missing:
        raise ModelError(
            f"{FIELD}: needs {missing}, which is not installed; run pip install 'cemiface-batch[diffusers]'"
        )
    try:
        folder = check_model_folder(run.path(given.folder))
        folder.check_image_size(given.image_size)
    except ModelError as error:
        raise ModelError(f"{FIELD}: {error}") from None
    return folder


def folder_hash(folder: ModelFolder) -> str:
    """A hash of what is loaded from the folder."""
    found = {}
    for file in folder.files:
        stat = file.stat()
        found[file.relative_to(folder.path).as_posix()] = _hash(file, stat.st_size, stat.st_mtime_ns)
    return digest(found)


@cache
def _hash(file: Path, size: int, changed: int) -> str:
    """Of a file of this size and time of change: gigabytes, which a launch asks for more than once."""
    return sha256_of(file)


def cost_of(folder: ModelFolder, given: StableDiffusion) -> BaseCost:
    return folder_cost(folder, image_size=given.image_size)


def hours_of(
    cost: BaseCost,
    given: StableDiffusion,
    tuning: PersonalConfig,
    *,
    people: int,
    portraits: int,
    pictures: int = 0,
    steps: int = 1,
    guided: bool = False,
    remade: float = 0.0,
) -> Hours:
    """GPU hours on an A100; arguments as those of `cemiface.gandiff.text.text_base_cost.Plan`."""
    return gpu_hours(
        cost,
        Plan(
            people=people,
            pictures=pictures,
            portraits=2 * max(1, portraits - tuning.held_out),  # with their mirror images
            tuning=tuning,
            steps=steps,
            guided=guided,
            remade=remade,
            recompute=given.recompute,
        ),
    )
