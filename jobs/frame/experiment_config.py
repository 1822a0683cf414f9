"""The models of the experiment file: the fields of every experiment, and a section per stage of its method."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from jobs.frame.methods import DEFAULT, find_method
from jobs.frame.stage_config import PathText, StageConfig

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]


class EmbedderConfig(StageConfig):
    """A recognition net to embed with: E_id, or the net of the audit or of evaluate."""

    weights: PathText | None = Field(
        None,
        description=(
            "Weights file of a recognition net, safetensors or a plain state dict. null: for E_id, the net that the "
            "stage train-embedder trains; for the net of the audit or of evaluate, E_id."
        ),
    )
    color: Literal["RGB", "BGR"] | None = Field(
        None,
        description=(
            "Channel order that the net was trained on, for weights files that do not record it: RGB for those of "
            "insightface, BGR for those of AdaFace."
        ),
    )


class ExperimentBase(BaseModel):
    """The fields of every experiment; each stage of the method adds a section of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    name: Name = Field(
        description="Name of the run, whose folder is `runs`/`name`. Letters, digits, dots, dashes and underscores."
    )
    method: str = Field(
        DEFAULT,
        description="Method that makes the faces: a built-in one, or one of an installed package.",
    )
    seed: int = Field(
        1,
        ge=0,
        lt=2**63,
        description=(
            "Seed of everything random in the run: splits, noise, initial weights, orders. A changed seed makes "
            "all finished work stale."
        ),
    )
    runs: PathText = Field(
        "runs",
        description=(
            "Folder of all runs; relative paths start at `root`. A run folder holds private faces, so only its "
            "owner can read it."
        ),
    )
    root: PathText | None = Field(
        None,
        description=(
            "Folder where relative paths start. null: if the file is in a folder `configs`, the folder that holds "
            "`configs`; else the folder of the file."
        ),
    )
    embedder: EmbedderConfig = Field(
        EmbedderConfig(),
        description=(
            "E_id, the recognition net that guides the generator and measures similarity. Without weights, "
            "the stage train-embedder trains it on the real faces."
        ),
    )

    def section(self, stage: str) -> StageConfig | None:
        """The section of a stage of the method, None if the file has none."""
        found: StageConfig | None = getattr(self, _attribute(stage))
        return found


@cache
def experiment_of(method: str) -> type[ExperimentBase]:
    """The model of the experiment files of a method.

    Raises:
        ConfigError: there is no such method.
    """
    sections = {
        _attribute(name): (stage.config | None, Field(None, alias=name, description=sentence(stage.title)))
        for name, stage in find_method(method).chain.items()
    }
    # pydantic has no type for fields that are only known here.
    made: type[ExperimentBase] = create_model("Experiment", __base__=ExperimentBase, **sections)  # type: ignore[call-overload]
    return made


def _attribute(stage: str) -> str:
    return stage.replace("-", "_")


def sentence(title: str) -> str:
    """A title as a sentence, for descriptions."""
    return f"{title[0].upper()}{title[1:]}."
