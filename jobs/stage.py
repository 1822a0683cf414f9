"""The stage contract: a config class, a plan of units, a `run_rank` that skips what is done, and a summary.

A stage module ends with `STAGE = Stage(...)`. Stage modules import torch inside `run_rank` only, so that planning,
status and submission start quickly and need no GPU stack on the login node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

from jobs.yaml_file import ConfigError
from slurm.cluster import Cluster
from slurm.files import Output, digest, read_json
from slurm.markers import Marker, Sizes, first_difference, missing_output, read_marker, why_not_done
from slurm.run_folder import RunFolder, StageFolder

if TYPE_CHECKING:
    from jobs.rank import Rank

FORMAT = 2  # of markers and outputs; raising it makes everything stale


# A path a user writes: relative ones start at the project root. Control characters would end up in scripts and logs.
PathText = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=1000)]


class StageConfig(BaseModel):
    """Base of the stage configs.

    Fields marked `operational` do not change what comes out; those marked `final` change only what is made at the end
    of all units, which are not redone for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def fingerprint(self, *, of_unit: bool = False) -> dict[str, Any]:
        marks = ("operational", "final") if of_unit else ("operational",)
        left_out = {
            name
            for name, info in type(self).model_fields.items()
            if isinstance(info.json_schema_extra, dict) and any(mark in info.json_schema_extra for mark in marks)
        }
        return self.model_dump(mode="json", exclude=left_out)


OPERATIONAL: dict[str, Any] = {"json_schema_extra": {"operational": True}}
FINAL: dict[str, Any] = {"json_schema_extra": {"final": True}}

Unit = dict[str, Any]  # one piece of a stage's work, as JSON: what it is made from, never who makes it


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The units of a stage whose work is too long to be spelled out in them, and files that do so.

    A launch stores the files, named relative to the stage folder, for the ranks to read; units hold their hashes.
    """

    units: list[Unit]
    files: dict[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What a stage says once all its units are done."""

    figures: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)  # added to the units' counts
    outputs: tuple[Output, ...] = ()
    images_in: int | None = None  # None: the sum of the counts
    images_out: int | None = None  # None: the sum over the units


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a stage will take, for the dry run."""

    gpu_hours: float | None  # None where the config tells no throughput
    disk_bytes: int


def only_figures(run: Run, markers: Sequence[Marker]) -> Finish:
    """For stages of one unit: its figures are the stage's."""
    return Finish(figures=markers[0].figures if len(markers) == 1 else {})


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: its name, its config, what it reads, and its three functions."""

    name: str
    title: str  # one line for people
    config: type[StageConfig]
    needs: Callable[[Run], tuple[str, ...]]  # names of the stages it reads
    plan: Callable[[Run], list[Unit] | Plan]
    run_rank: Callable[[Run, Rank], None]
    finish: Callable[[Run, Sequence[Marker]], Finish] = only_figures
    files: Callable[[Run], dict[str, str]] = lambda run: {}  # files from outside the run and their sha256
    forecast: Callable[[Run], str | None] = lambda run: None  # said before it starts, e.g. how long it will take
    final_files: Callable[[Run], dict[str, str]] = lambda run: {}  # those that only `finish` reads
    after: tuple[str, ...] = ()  # stages it waits for where both run, but can do without
    distributed: bool = False  # one job of world_size ranks instead of an array
    expected_images: Callable[[Run], int | None] = lambda run: None  # for progress and the dry run
    cost: Callable[[Run], Cost | None] = lambda run: None  # for the dry run; None: nobody has worked it out


class Run:
    """An experiment's config together with its run folder: what every stage function gets."""

    def __init__(self, *, config: Any, stages: dict[str, Stage], cluster: Cluster, root: Path) -> None:
        self.config = config
        self.stages = stages
        self.cluster = cluster
        self.root = root  # project root: relative paths of the config start here
        self.folder = RunFolder(self.path(config.runs) / config.name)
        self.recorded = False  # plans and file hashes as the last launch wrote them down, for tools that only look
        self._hashes: dict[str, dict[str, str]] = {}
        self.planned = False  # plans as the launch stored them, for ranks: the sources are listed once
        self._plans: dict[str, Plan] = {}

    @property
    def seed(self) -> int:
        seed: int = self.config.seed
        return seed

    @cached_property
    def chain(self) -> tuple[Stage, ...]:
        """The stages this config asks for, in order."""
        return tuple(stage for name, stage in self.stages.items() if self.asks_for(name))

    def asks_for(self, stage: str) -> bool:
        """Whether the stage is part of this run: its section is there, and no given file makes it needless."""
        return self.section(stage) is not None and not (stage == "train-embedder" and self.config.embedder.weights)

    def section(self, stage: str) -> Any:
        """The stage's part of the config, None where the config does not ask for it."""
        return getattr(self.config, stage.replace("-", "_"))

    def path(self, text: str) -> Path:
        return (self.root / Path(text).expanduser()).absolute()

    def given_file(self, field: str, text: str, *, give: str) -> Path:
        """A file that a field of the config names.

        Raises:
            ConfigError: it is not there.
        """
        path = self.path(text)
        if not path.is_file():
            raise ConfigError(f"{field}: got {path}, no such file; give {give} or remove it")
        return path

    def stage_folder(self, stage: str) -> StageFolder:
        return self.folder.stage(stage)

    def plan(self, stage: str) -> list[Unit]:
        """The stage's units of work; planned once per process, the source is listed once."""
        return self._plan(stage).units

    def plan_files(self, stage: str) -> dict[str, bytes]:
        """The files that spell out the units, if this process made the plan."""
        return self._plan(stage).files

    def _plan(self, stage: str) -> Plan:
        if stage not in self._plans:
            written = read_json(self.stage_folder(stage).plan) if self.recorded or self.planned else None
            made = written["units"] if isinstance(written, dict) else self.stages[stage].plan(self)
            self._plans[stage] = made if isinstance(made, Plan) else Plan(units=made, files={})
        return self._plans[stage]

    def forget_plans(self) -> None:
        """Read them anew: another launch may have replaced them."""
        self._plans.clear()

    def fingerprint(self, stage: Stage, unit: Unit | None = None) -> dict[str, Any]:
        """Everything a unit's outputs depend on. Without a unit: everything the stage's summary depends on."""
        config = self.section(stage.name).fingerprint(of_unit=unit is not None)
        upstream = {name: self.outcome(name) for name in stage.needs(self)}
        work = {"unit": unit} if unit is not None else {"units": digest(self.plan(stage.name))}
        final = self._files(stage, final=True) if unit is None else {}
        return {
            "format": FORMAT,
            "seed": self.seed,
            stage.name: config,
            "inputs": upstream,
            "files": self._files(stage),
            **({"final_files": final} if final else {}),
            **work,
        }

    def _files(self, stage: Stage, *, final: bool = False) -> dict[str, str]:
        hashed = stage.final_files if final else stage.files
        if not self.recorded:
            return hashed(self)
        kind = "final_files" if final else "files"
        summary = read_json(self.stage_folder(stage.name).summary)
        if isinstance(summary, dict):
            files: dict[str, str] = summary["fingerprint"].get(kind, {})
            return files
        key = f"{stage.name}/{kind}"
        if key not in self._hashes:  # who looks again and again does not hash the weights again and again
            self._hashes[key] = hashed(self)
        return self._hashes[key]

    def outcome(self, stage: str) -> str:
        """A digest of all outputs of a finished stage, "" while it is not finished."""
        summary = read_json(self.stage_folder(stage).summary)
        return summary["outcome"] if isinstance(summary, dict) else ""

    def outputs(self, stage: str, *, prefix: str = "", suffix: str = "") -> list[Path]:
        """The published files of a finished stage whose names fit, in name order."""
        folder = self.stage_folder(stage)
        summary = read_json(folder.summary) or {"outputs": []}
        names = sorted(output["name"] for output in summary["outputs"])
        return [folder.output(name) for name in names if name.startswith(prefix) and name.endswith(suffix)]

    def output_record(self, stage: str, name: str) -> dict[str, Any]:
        """Name, bytes, sha256 of one published file, as the stage's summary has it."""
        summary = read_json(self.stage_folder(stage).summary) or {"outputs": []}
        found: dict[str, Any] = next(output for output in summary["outputs"] if output["name"] == name)
        return found

    def unit_states(self, stage: Stage) -> list[str | None]:
        """For each unit of the stage: None if done, else why not."""
        folder = self.stage_folder(stage.name)
        common = self.fingerprint(stage, {})
        return [
            why_not_done(folder, number, fingerprint={**common, "unit": unit})
            for number, unit in enumerate(self.plan(stage.name))
        ]

    def why_not_finished(self, stage: Stage) -> str | None:
        """None if every unit is done and the summary certifies the present config and inputs; else the first reason."""
        reason = next((reason for reason in self.unit_states(stage) if reason is not None), None)
        return reason or self.why_not_summarized(stage)

    def why_not_summarized(self, stage: Stage, *, sizes: Sizes | None = None) -> str | None:
        """None if the summary certifies the present config and inputs, and its files are there; else the reason."""
        folder = self.stage_folder(stage.name)
        summary = read_json(folder.summary)
        if not isinstance(summary, dict):
            return "no summary"
        changed = first_difference(summary["fingerprint"], self.fingerprint(stage))
        if changed:
            return f"stale: {changed}"
        return missing_output(tuple(Output(**output) for output in summary["outputs"]), sizes=sizes or Sizes(folder))

    def markers(self, stage: str) -> list[Marker]:
        folder = self.stage_folder(stage)
        found = (read_marker(folder, number) for number in range(len(self.plan(stage))))
        return [marker for marker in found if marker is not None]
