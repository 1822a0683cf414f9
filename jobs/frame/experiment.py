"""The experiment file: one section per stage, checked as a whole before anything runs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model

from jobs.frame.errors import ConfigError
from jobs.frame.methods import DEFAULT, find_method
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import PathText, StageConfig
from jobs.frame.unit import Unit
from jobs.frame.yaml_file import parse_yaml, read_yaml
from slurm.cluster import ArrayResources, Cluster, TrainResources
from slurm.files import publish
from slurm.run_folder import RunFolder

LOCAL_CLUSTER = "configs/cluster/local.yaml"  # of the project root; what runs use unless told otherwise

MAX_SHOWN = 60  # characters of a refused value

ModelT = TypeVar("ModelT", bound=BaseModel)
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]


class EmbedderConfig(StageConfig):
    """A recognition net: E_id, or one that judges."""

    weights: PathText | None = Field(
        None,
        description=(
            "Weights file of a recognition net to take, safetensors or a plain state dict. null: for E_id, "
            "the net that the stage train-embedder makes; for a judge, E_id."
        ),
    )
    color: Literal["RGB", "BGR"] | None = Field(
        None,
        description=(
            "Channel order that the net was trained on, for weights files that do not record it: RGB for "
            "insightface's, BGR for AdaFace's."
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
        description="Method that makes the faces; an installed package may bring others than the built-in one.",
    )
    seed: int = Field(
        1,
        ge=0,
        lt=2**63,
        description=(
            "Seed of everything random in the run: splits, noise, initial weights, orders. Another seed makes "
            "everything stale."
        ),
    )
    runs: PathText = Field(
        "runs",
        description=(
            "Folder of all runs; relative paths start at `root`. The run folder holds private faces: only its "
            "owner can read it."
        ),
    )
    root: PathText | None = Field(
        None,
        description=(
            "Folder where relative paths start. null: the folder that holds the folder `configs` that the "
            "file lies in, else the file's own folder."
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
        """The section of a stage, None where the file has none."""
        found: StageConfig | None = getattr(self, stage.replace("-", "_"))
        return found


@cache
def experiment_of(method: str) -> type[ExperimentBase]:
    """The experiment file of a method.

    Raises:
        ConfigError: there is no such method.
    """
    sections = {
        name.replace("-", "_"): (stage.config | None, Field(None, alias=name, description=_sentence(stage.title)))
        for name, stage in find_method(method).chain.items()
    }
    return create_model("Experiment", __base__=ExperimentBase, **sections)  # type: ignore[call-overload]


def _sentence(title: str) -> str:
    """A stage's title as the description of its section."""
    return f"{title[0].upper()}{title[1:]}{'' if title.endswith('?') else '.'}"


def load_run(config: Path, *, overrides: Sequence[str] = (), cluster: Path | None = None) -> Run:
    """The run that a config file, `key=value` overrides and a cluster file describe; nothing is written.

    Raises:
        ConfigError: anything in them that is unknown, of the wrong type, or impossible.
    """
    fields = _read(config)
    for field, value in _parse_overrides(overrides):
        _set(fields, field, value)
    method = fields.get("method", DEFAULT)
    if not isinstance(method, str):
        raise ConfigError(f"{config}: method: got {method!r}, allowed: the name of a method")
    experiment = _validate(experiment_of(method), fields, source=str(config))
    root = Path(experiment.root).expanduser() if experiment.root else _project_root(config)
    if cluster is None and (root / LOCAL_CLUSTER).exists():
        cluster = root / LOCAL_CLUSTER
    stages = find_method(method).chain
    site = _site(cluster, stages=stages) if cluster else Cluster()
    run = Run(config=experiment, method=find_method(method), cluster=site, root=root.absolute())
    _check_chain(run)
    return run


def _read(config: Path, *, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The fields of a config file, over those of the file that its `base:` names, relative to it.

    Raises:
        ConfigError: the files name each other in a circle, or `base` is no text.
    """
    if config.absolute() in above:
        raise ConfigError(f"{config}: base: names a file that is based on it; allowed: another one")
    fields = read_yaml(config)
    base = fields.pop("base", None)
    if base is None:
        return fields
    if not isinstance(base, str):
        raise ConfigError(f"{config}: base: got {base!r}, allowed: the path of a config file")
    return _merged(_read(config.parent / base, above=(*above, config.absolute())), fields)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Sections are merged field by field and taken away by `null`; anything else, lists too, is replaced."""
    merged = dict(under)
    for name, value in over.items():
        below = under.get(name)
        if isinstance(below, dict) and value is None:
            del merged[name]
        else:
            merged[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _site(path: Path, *, stages: Mapping[str, Stage[Unit]]) -> Cluster:
    """The cluster file, with what it says of single stages checked against what such a stage may ask for."""
    site = _validate(Cluster, read_yaml(path), source=str(path))
    for name, fields in site.stages.items():
        if name not in stages:
            raise ConfigError(f"{path}: stages.{name}: unknown stage; allowed: {', '.join(stages)}")
        model: type[BaseModel] = TrainResources if stages[name].distributed else ArrayResources
        _validate(model, fields, source=f"{path}: stages.{name}")
    return site


def save_run(run: Run) -> None:
    """Put the resolved config and cluster into the run folder, which is all that ranks and tools read."""
    fields = run.config.model_dump(mode="json", by_alias=True)
    config = {name: value for name, value in fields.items() if value is not None} | {"root": str(run.root)}
    for path, value in (
        (run.folder.config, config),
        (run.folder.cluster, run.cluster.model_dump(mode="json", exclude_unset=True)),
    ):
        publish(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode(), replace=True)


def load_run_folder(folder: Path) -> Run:
    """The run as it was last launched, from its folder."""
    return load_run(RunFolder(folder).config, cluster=RunFolder(folder).cluster)


def _project_root(config: Path) -> Path:
    """The folder that holds the `configs` folder the file lies in; for a file elsewhere, the file's own folder."""
    parents = config.absolute().parents
    return next((parent.parent for parent in parents if parent.name == "configs"), parents[0])


def _parse_overrides(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    parsed: dict[str, Any] = {}
    for text in overrides:
        field, equals, value = text.partition("=")
        if not equals or not field:
            raise ConfigError(f"{text!r}: got no field=value; write for example generate.steps=10")
        if field in parsed:
            raise ConfigError(f"{field}: overridden twice on the command line; give it once")
        parsed[field] = parse_yaml(value, source=field)
    return list(parsed.items())


def _set(fields: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        if fields.get(parent) is None:
            fields[parent] = {}
        fields = fields[parent]
        if not isinstance(fields, dict):
            raise ConfigError(f"{dotted}: {parent} is no section; override {parent} as a whole")
    fields[last] = value


def _validate(model: type[ModelT], fields: dict[str, Any], *, source: str) -> ModelT:
    try:
        # Through JSON in strict mode: lists may become tuples, whole numbers floats, and nothing else is converted.
        return model.model_validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_one_line(error, model, fields)}") from None


def _one_line(error: ValidationError, model: type[BaseModel], fields: dict[str, Any]) -> str:
    details = error.errors(include_url=False)
    first = details[0]
    field = ".".join(str(part) for part in first["loc"])
    settable = ".".join(str(part) for part in takewhile(lambda part: isinstance(part, str), first["loc"]))
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _names_at(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"allowed: {', '.join(known)}"
        return f"{field}: unknown field; {hint}{more}"
    if first["type"] == "missing":
        return f"{field}: is missing; add it{more}"
    if first["type"] == "value_error":  # a rule about several fields; its text says the rest
        return f"{field}.{first['msg'].removeprefix('Value error, ')}; change it in the file{more}"
    allowed = first["msg"].removeprefix("Input should be ")
    got = repr(first["input"])
    got = got if len(got) <= MAX_SHOWN else f"{got[:MAX_SHOWN]}..."
    return f"{field}: got {got}, allowed: {allowed}; change it in the file or with {settable}=...{more}"


def _names_at(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """The field names a section accepts, for the hint after an unknown one."""
    schema = model.model_json_schema(by_alias=True)
    node: Any = schema
    for part in (*path, None):
        while isinstance(node, dict) and ("$ref" in node or "anyOf" in node or "allOf" in node):
            if "$ref" in node:
                node = schema["$defs"][node["$ref"].rpartition("/")[2]]
            else:
                node = next(iter(node.get("anyOf") or node["allOf"]))
        if part is not None:
            node = (
                (node.get("properties") or {}).get(part) or node.get("items") or node.get("additionalProperties") or {}
            )
    return sorted(node.get("properties") or [])


def _check_chain(run: Run) -> None:
    for stage in run.chain:
        stage.check(run)
        for needed in stage.needs(run):
            if not run.asks_for(needed):
                raise ConfigError(f"{stage.name}: needs the stage {needed}; add a section `{needed}:` to the config")
