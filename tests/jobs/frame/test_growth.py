"""A config field that is added later leaves finished work valid, where it declares the value that means "as before"."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, create_model

from jobs.frame.experiment import load_run
from jobs.frame.methods import DEFAULT, find_method
from jobs.frame.stage_config import StageConfig, as_before, final, operational

ROOT = Path(__file__).parents[3]
CHAIN = find_method(DEFAULT).chain
STAGES = pytest.mark.parametrize("stage", CHAIN)

# What the fields without a default are set to.
GIVEN: dict[str, dict[str, Any]] = {
    "shard": {"faces": "faces"},
    "convert-benchmarks": {"sources": {"lfw": {"bin": "lfw.bin"}}},
    "study-sets": {"compare": {"real": {"sets": ("real",)}, "synthetic": {"sets": ("synthetic",)}}},
    "publish": {"set_name": "set", "creator": "us", "license": "MIT", "consent": "given"},
}

# Digests of the fingerprints of all sections of a config, as the version before `as_before` (commit ba10a7f) computes
# them. They change with the config file itself. Where they change although no config did, all finished work of older
# runs becomes stale: that needs a new FORMAT and a line in the changelog, not new digests alone.
GOLDEN = {
    "casia_0.5m": "d9d4e2edbd266d5f",
    "casia_1.0m": "3d47693db9348558",
    "casia_1.2m": "b6c8f8932f96abbe",
    "demo": "e93cd4f3917ecf89",
    "demo_nets": "8f7ac901fee5d966",
    "lfw": "2f0db9b14cb958d5",
    "lfw40": "c8aafafb326c01bf",
    "lfw48": "1112bdee28cc4ba4",
    "lfw_cosine": "76feeb8aae02d569",
    "lfw_view2": "424963405660aa46",
    "study_groups": "7dbcf57021115301",
    "study_m": "bb030ba43ec49e28",
    "two_methods": "bc1cd47d9f032821",
}


def grown(stage: str, *, value: Any, before: Any) -> StageConfig:
    """The stage's config, of a version that has one more field."""
    added = {"added_later": (type(before), Field(before, json_schema_extra=as_before(before)))}
    model = create_model("Grown", __base__=CHAIN[stage].config, **added)  # type: ignore[call-overload]
    config: StageConfig = model(**GIVEN.get(stage, {}), added_later=value)
    return config


def fingerprints(config: StageConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """That of the stage and that of its units."""
    return config.fingerprint(), config.fingerprint(of_unit=True)


@STAGES
@pytest.mark.parametrize(
    ("before", "other"),
    [(False, True), ("mean", "median"), (0, 3), (0.5, 0.25), ((1, 2), (1,)), ({}, {"a": 1})],
    ids=["bool", "text", "whole number", "number", "list", "mapping"],
)
def test_a_field_added_to_a_stage_counts_only_at_another_value(stage: str, before: Any, other: Any) -> None:
    old = CHAIN[stage].config(**GIVEN.get(stage, {}))
    assert fingerprints(grown(stage, value=before, before=before)) == fingerprints(old)
    for changed, unchanged in zip(
        fingerprints(grown(stage, value=other, before=before)), fingerprints(old), strict=True
    ):
        assert changed == unchanged | {"added_later": json.loads(json.dumps(other))}


class Old(BaseModel):
    kept: int = 1
    workers: int = Field(2, json_schema_extra=operational())


class New(Old):
    added_later: str = Field("as it was", json_schema_extra=as_before("as it was"))


@STAGES
def test_a_field_added_to_a_model_inside_counts_only_at_another_value(stage: str) -> None:
    def config(one: Old) -> StageConfig:
        kind = type(one)
        fields = {
            "alone": (kind, one),
            "several": (tuple[kind, ...], (one, one)),
            "named": (dict[str, kind], {"a": one}),
        }
        model = create_model("Nested", __base__=CHAIN[stage].config, **fields)  # type: ignore[call-overload]
        made: StageConfig = model(**GIVEN.get(stage, {}))
        return made

    assert fingerprints(config(New())) == fingerprints(config(Old()))
    changed = config(New(added_later="new")).fingerprint()
    old = Old().model_dump()
    new = {**old, "added_later": "new"}
    assert config(Old()).fingerprint().items() >= {"alone": old, "several": [old, old], "named": {"a": old}}.items()
    assert changed.items() >= {"alone": new, "several": [new, new], "named": {"a": new}}.items()


def test_a_field_of_the_finish_may_be_added_too() -> None:
    class Grown(StageConfig):
        added_later: int = Field(0, json_schema_extra=final() | as_before(0))

    assert fingerprints(Grown()) == ({}, {})
    assert fingerprints(Grown(added_later=1)) == ({"added_later": 1}, {})


def test_a_field_that_declares_nothing_makes_finished_work_stale() -> None:
    class Grown(StageConfig):
        added_later: int = 0

    assert Grown().fingerprint() == {"added_later": 0}


def test_every_config_has_its_digest() -> None:
    """Those of the method that there was then."""
    paths = [path for path in (ROOT / "configs").glob("*.yaml") if load_run(path).method.name == "cemiface"]
    assert sorted(GOLDEN) == sorted(path.stem for path in paths)


@pytest.mark.parametrize("name", GOLDEN)
def test_fingerprints_are_those_of_the_version_before(name: str) -> None:
    run = load_run(ROOT / "configs" / f"{name}.yaml")
    sections = {stage: run.config.section(stage) for stage in CHAIN}
    found = {stage: fingerprints(section) for stage, section in sections.items() if section is not None}
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]
    assert digest == GOLDEN[name]
