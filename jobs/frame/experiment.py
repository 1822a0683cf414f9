"""The experiment file: read and checked as a whole before anything runs, and saved in the run folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from jobs.frame.config_file.fields import override_fields, override_value, read_fields, split_overrides
from jobs.frame.config_file.validation import is_text, validated
from jobs.frame.config_file.yaml_file import read_yaml
from jobs.frame.errors import ConfigError
from jobs.frame.experiment_config import experiment_of
from jobs.frame.methods import DEFAULT, find_method
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from slurm.cluster import ArrayResources, Cluster, TrainResources
from slurm.files import publish
from slurm.run_folder import RunFolder

SUBMITIT_PATTERNS = re.compile(r"%[jtAa]")

SLURM_PATTERNS = re.compile(r"%[0-9]*[%AabJjNnstux]|\\")

LOCAL_CLUSTER = "configs/cluster/local.yaml"  # of the project root; used if no cluster file is given


def load_run(config: Path, *, overrides: Sequence[str] = (), cluster: Path | None = None) -> Run:
    """The run that a config file, `key=value` overrides and a cluster file describe; nothing is written.

    Raises:
        ConfigError: anything in them that is unknown, of the wrong type, or impossible.
    """
    fields, texts = read_fields(config), split_overrides(overrides)
    name = fields.get("method", DEFAULT)
    if "method" in texts:
        name = override_value(texts["method"], field="method", is_text=True)
    if not isinstance(name, str):
        raise ConfigError(f"{config}: method: got {name!r}, allowed: the name of a method")
    method, model = find_method(name), experiment_of(name)
    override_fields(fields, texts, is_text=partial(is_text, model))
    experiment = validated(model, fields, source=str(config), overrides=True)
    root = Path(experiment.root).expanduser() if experiment.root else _project_root(config)
    if cluster is None and (root / LOCAL_CLUSTER).exists():
        cluster = root / LOCAL_CLUSTER
    site = _load_cluster(cluster, stages=method.chain) if cluster else Cluster()
    run = Run(config=experiment, method=method, cluster=site, root=root.absolute())
    _check_path(run)
    _check_chain(run)
    return run


def load_run_folder(folder: Path) -> Run:
    """The run as it was last launched, from its folder.

    Raises:
        ConfigError: the folder has no config, or it was changed to something impossible.
    """
    return load_run(RunFolder(folder).config, cluster=RunFolder(folder).cluster)


def save_run(run: Run) -> None:
    """Put the resolved config and cluster into the run folder, which is all that ranks and tools read."""
    _save(run.folder.config, _fields(run))
    save_cluster(run)


def save_cluster(run: Run) -> None:
    """Put the cluster alone into the run folder."""
    _save(run.folder.cluster, run.cluster.model_dump(mode="json", exclude_unset=True))


def fields_that_differ(run: Run) -> list[str]:
    """Fields of the config that are not as in the run folder, e.g. "generate.steps"; none without a saved config."""
    if not run.folder.config.exists():
        return []
    saved, given = _fields(load_run_folder(run.folder.root)), _fields(run)
    named = [(name, saved.get(name), given.get(name)) for name in sorted({*saved, *given} - {"root"})]
    different: list[str] = []
    for name, before, now in named:
        if isinstance(before, dict) and isinstance(now, dict):
            keys = sorted({*before, *now})
            different += [f"{name}.{key}" for key in keys if before.get(key) != now.get(key)]
        elif before != now:
            different.append(name)
    return different


def _fields(run: Run) -> dict[str, Any]:
    fields = run.config.model_dump(mode="json", by_alias=True)
    return {name: value for name, value in fields.items() if value is not None} | {"root": str(run.root)}


def _save(path: Path, value: Mapping[str, Any]) -> None:
    publish(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode(), replace=True)


def _load_cluster(path: Path, *, stages: Mapping[str, Stage[Unit]]) -> Cluster:
    """The cluster file; resources of single stages are checked against what such a stage may request."""
    site = validated(Cluster, read_yaml(path), source=str(path))
    for name, fields in site.stages.items():
        if name not in stages:
            raise ConfigError(f"{path}: stages.{name}: unknown stage; allowed: {', '.join(stages)}")
        model: type[BaseModel] = TrainResources if stages[name].distributed else ArrayResources
        validated(model, fields, source=f"{path}: stages.{name}")
    return site


def _project_root(config: Path) -> Path:
    """The folder that holds the `configs` folder the file lies in; for a file elsewhere, the file's own folder."""
    parents = config.absolute().parents
    return next((parent.parent for parent in parents if parent.name == "configs"), parents[0])


def _check_path(run: Run) -> None:
    """Refuse a path in which submitit or Slurm would replace something: jobs would look for their files elsewhere.

    With a backslash anywhere in the path, Slurm replaces nothing, so that all tasks would share one log.
    """
    patterns = SLURM_PATTERNS if run.cluster.executor == "slurm" else SUBMITIT_PATTERNS
    found = patterns.search(str(run.folder.root))
    if found is not None:
        raise ConfigError(
            f"runs: got {run.folder.root}, where {found[0]!r} stands for something else in paths of jobs; "
            f"allowed: a path without it; set `runs` to another folder"
        )


def _check_chain(run: Run) -> None:
    """Let each stage check the run, and refuse a chain without a stage that another one reads."""
    for stage in run.chain:
        stage.check(run)
        for needed in stage.needs(run):
            if not run.includes(needed):
                raise ConfigError(f"{stage.name}: needs the stage {needed}; add a section `{needed}:` to the config")
