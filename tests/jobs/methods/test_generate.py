"""Requests, identities and generated tars: in one process where possible, else through the command."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from safetensors.torch import save_file

from cemiface.weights import read_weights
from jobs.command.info import info
from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run
from jobs.methods.cemiface.generate.face_generator import pipelined
from jobs.methods.cemiface.generate.plan import GenerateFaces
from jobs.methods.cemiface.generate.requests import SimilarityRequest, requests_of
from jobs.methods.cemiface.identities.plan import MakeIdentities
from jobs.stages.shared.curves import curve_of
from shards.images.source_mark import mark_of, without_mark
from shards.tars.shard_set import ShardSet

from ..commands import Project

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture
def project(tiny_run: Any, tmp_path: Path) -> Project:
    return Project.copy_of(tiny_run, tmp_path / "project")


def test_plain_values_are_taken_in_turn() -> None:
    config = GenerateFaces(images_per_identity=5, similarity=(0.0, 1.0))
    found = requests_of(config, range(3, 5), identities=9, seed=1)
    assert found[0] == SimilarityRequest(identity=3, index=0, similarity=0.0)
    assert [request.similarity for request in found] == [0, 1, 0, 1, 0] * 2
    assert [one.identity for one in found] == [3] * 5 + [4] * 5


def test_a_mixture_is_the_same_for_any_cut_into_blocks() -> None:
    parts = [{"low": 0, "high": 0, "weight": 0.7}, {"low": 0.2, "high": 0.6, "interval": 0.1, "weight": 0.3}]
    config = GenerateFaces.model_validate({"images_per_identity": 7, "mixture": parts})
    whole = requests_of(config, range(20), identities=20, seed=1)
    assert whole == [
        request
        for first in range(20)
        for request in requests_of(config, range(first, first + 1), identities=20, seed=1)
    ]
    assert 0.6 < Counter(request.similarity for request in whole)[0.0] / len(whole) < 0.8
    assert whole != requests_of(config, range(20), identities=20, seed=2)


def test_the_last_identities_may_get_few_images() -> None:
    """The paper's 1.2M set."""
    run = load_run(CONFIGS / "casia_1.2m.yaml")
    assert run.stages["generate"].expected_images(run) == 1_200_000
    config, people = run.section(GenerateFaces), run.section(MakeIdentities).count
    counts = Counter(one.identity for one in requests_of(config, range(19_998, 20_003), identities=people, seed=1))
    assert list(counts.values()) == [50, 50, 5, 5, 5]


def test_items_come_when_the_next_one_is_made() -> None:
    made: list[int] = []
    behind = pipelined(made.append(item) or item for item in range(3))  # type: ignore[func-returns-value]
    assert next(behind) == 0
    assert made == [0, 1]
    assert list(behind) == [1, 2]


def test_the_curve_is_mean_and_spread_by_what_was_asked() -> None:
    curve = curve_of([(0.5, 0.2), (0.0, 0.1), (0.5, 0.4)], asked="m")
    assert curve == [
        {"m": 0.0, "mean": 0.1, "std": 0.0, "images": 1},
        {"m": 0.5, "mean": 0.3, "std": 0.1, "images": 2},
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "files"}, "faces: got None with source: files"),
        ({"faces": "somewhere"}, "faces: got somewhere with source: denoiser"),
        ({"quotas": {"a": 1.0}}, "quotas: attributes and quotas belong together"),
        ({"quotas": {"a": 0.5, "b": 0.4}, "attributes": "a.tsv"}, "quotas: got a sum of 0.9000"),
        ({"solver": "adams", "eta": 1.0}, "eta: got 1.0 with solver: adams"),
    ],
)
def test_contradictory_fields_of_identities_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MakeIdentities.model_validate(fields)


@pytest.mark.parametrize("source", ["{source: real, count: 3}", "{source: files, faces: faces, count: 3}"])
def test_copies_of_inquiry_faces_of_real_people_are_refused(tiny_run: Any, source: str) -> None:
    overrides = [f"identities={source}", "generate.inquiry_copies=5"]
    run = load_run(tiny_run.config, overrides=overrides)
    with pytest.raises(ConfigError, match="no real photo is ever written"):
        run.ledger.plan("generate")


@pytest.mark.parametrize("source", ["{source: real, count: 3}", "{source: files, faces: faces, count: 3}"])
def test_a_set_of_real_people_is_not_published_without_a_ground_for_it(project: Project, source: str) -> None:
    done = project.run("publish", f"identities={source}")
    assert done.returncode != 0
    assert "identities.consent: got nothing with source" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_net_of_unknown_origin_is_refused_before_anything_is_generated(project: Project) -> None:
    tensors, metadata = read_weights(project.runs / "train-embedder" / "recognition.safetensors")
    del metadata["lineage"]
    save_file(tensors, project.root / "given.safetensors", metadata=metadata)
    name = "unknown origin: embedder.weights"
    given = "embedder={weights: given.safetensors}"
    done = project.run("all", given)
    assert done.returncode != 0
    assert f"data that the audit does not compare the set with: {name}" in done.stderr
    assert "embed: " not in done.stdout + done.stderr  # nothing was started
    accept = f'audit.accept_unchecked=["{name}"]'
    without_terms = project.run("plan", given, accept)
    assert f"publish.governance.real_data: no terms of {name}" in without_terms.stdout
    terms = f'[{{name: shard.faces, basis: a, agreement: b}}, {{name: "{name}", basis: not determined, agreement: c}}]'
    accepted = project.run("plan", given, accept, f"publish.governance.real_data={terms}")
    assert accepted.returncode == 0, accepted.stderr


def test_inquiry_faces_of_real_people_are_among_what_the_audit_compares_with(tiny_run: Any) -> None:
    files = "identities={source: files, faces: faces, count: 3}"
    run = load_run(tiny_run.config, overrides=[files])
    assert run.method.real_faces(run) == (("identities", "inquiries.tar"),)
    assert "identities" in run.stages["fingerprint"].needs(run)
    assert run.ledger.plan("fingerprint").units[-1].as_json() == {"stage": "identities", "faces": "inquiries.tar"}
    synthetic = load_run(tiny_run.config, overrides=[files.replace("count", "faces_are: synthetic, count")])
    assert synthetic.method.real_faces(synthetic) == ()


def test_a_block_of_candidates_without_one_readable_file_leaves_the_others(project: Project) -> None:
    shutil.copytree(project.root / "faces", project.root / "others")
    (project.root / "others" / "no-image").mkdir()
    (project.root / "others" / "no-image" / "0.jpg").write_bytes(b"no image")
    fields = "identities={source: files, faces: others, count: 6, candidates: 41, block: 1, max_cosine: 1.0}"
    done = project.run("identities", fields)
    assert done.returncode == 0, done.stderr
    summary = project.summary("identities")
    assert summary["figures"]["candidates"] == 40
    assert len(project.files("identities/candidates-*.h5")) == 40
    assert len(project.files("identities/candidates-*.tar")) == 40


def test_identities_of_files_by_quota_and_copies_of_synthetic_inquiry_faces(project: Project) -> None:
    """Files, attributes and copies in one go; attributes that come later redo the choice and nothing else."""
    fields = (
        "identities={source: files, faces: faces, faces_are: synthetic, count: 6, candidates: 40, block: 15, "
        "max_cosine: 1.0, attributes: groups.tsv, quotas: {a: 0.5, b: 0.5}}"
    )
    refused = project.run("identities", fields)
    assert refused.returncode == 1
    assert "identities.attributes: got" in refused.stderr
    assert "no such file" in refused.stderr
    candidates = project.files("identities/candidates-*")
    assert len(candidates) == 9  # of three blocks a tar, its index and the embeddings

    groups = {f"candidate-{number:07d}": "ab"[number % 2] for number in range(4, 40)}
    (project.root / "groups.tsv").write_text("".join(f"{key}\t{group}\n" for key, group in groups.items()))
    done = project.run("identities", fields)
    assert done.returncode == 0, done.stderr
    assert project.files("identities/candidates-*") == candidates
    summary = project.summary("identities")
    assert summary["figures"]["groups"] == {"a": 3, "b": 3}
    assert sum(summary["counts"].values()) == summary["images_in"] == 40
    inquiries = ShardSet([project.runs / "identities" / "inquiries.tar"])
    assert {record["origin"] for record in inquiries.records()} == {"synthetic"}
    assert all(record["file"].startswith("person-") for record in inquiries.records())

    done = project.run("generate", fields, "generate.inquiry_copies=2", "generate.solver=adams")
    assert done.returncode == 0, done.stderr
    assert project.summary("generate")["images_out"] == 6 * (4 + 2)
    tars = ShardSet(sorted((project.runs / "generate").glob("synthetic-*.tar")))
    copies = [row for row, record in enumerate(tars.records()) if "copy_of" in record]
    assert len(copies) == 12
    assert {without_mark(tars.jpeg(row)) for row in copies} == {inquiries.jpeg(row) for row in range(6)}
    assert all(mark_of(tars.jpeg(row)) for row in copies)


def test_info_gives_the_figures_of_the_paper_configs() -> None:
    found = info(load_run(CONFIGS / "casia_0.5m.yaml"))
    assert found["denoiser"]["parameters"] == 93_563_910
    assert found["denoiser"]["gmacs"] == pytest.approx(38.4, abs=0.05)
    assert found["recognition"]["parameters"] / 1e6 == pytest.approx(43.81, abs=0.01)
    assert found["recognition"]["gmacs"] == pytest.approx(6.32, abs=0.005)
    assert (found["images"], found["shards"]) == (500_000, 50)
    assert info(load_run(CONFIGS / "casia_1.0m.yaml"))["images"] == 1_000_000


def test_info_prints_json(project: Project) -> None:
    done = project.run("info", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["denoiser"]["image_size"] == 16


@pytest.mark.parametrize("path", sorted((CONFIGS / "ablations").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_ablation_is_a_small_change_of_a_paper_config(path: Path) -> None:
    run, base = load_run(path), load_run(CONFIGS / "casia_0.5m.yaml")
    assert run.chain == base.chain or {stage.name for stage in run.chain} == {stage.name for stage in base.chain}
    assert run.root == base.root
    assert run.config != base.config.model_copy(update={"name": run.config.name})
    assert run.config.name == path.stem


@pytest.mark.parametrize("config", ["casia_0.5m", "casia_1.0m", "casia_1.2m"])
def test_the_costs_of_the_paper_configs_are_known_before_they_run(config: str) -> None:
    run = load_run(CONFIGS / f"{config}.yaml")
    costs = {name: run.stages[name].cost(run) for name in ("train-diffusion", "identities", "generate")}
    assert all(cost and cost.gpu_hours and cost.disk_bytes for cost in costs.values())
    assert costs["train-diffusion"].gpu_hours == pytest.approx(16, rel=0.01)  # type: ignore[union-attr]
