"""The embed stage: which vector is the center of an identity."""
# ruff: noqa: N802

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from shards.embeddings.centers import similarity_to_center
from shards.embeddings.embeddings import open_merged

from ..commands import Project


@pytest.fixture
def project(tiny_run: Any, tmp_path: Path) -> Project:
    return Project.copy_of(tiny_run, tmp_path / "project")


def test_centers_may_be_the_weight_rows_that_e_id_was_trained_with(project: Project) -> None:
    means = open_merged(project.runs / "embed" / "embeddings.h5")
    features = means.features[:]
    done = project.run("embed", "embed.centers=classifier")
    assert done.returncode == 0, done.stderr
    rows = open_merged(project.runs / "embed" / "embeddings.h5")
    assert (rows.keys, rows.classes) == (means.keys, means.classes)
    np.testing.assert_array_equal(rows.features[:], features)
    with safe_open(project.runs / "train-embedder" / "classifier.safetensors", framework="numpy") as file:
        weight = file.get_tensor("weight")
    np.testing.assert_allclose(rows.centers, weight / np.linalg.norm(weight, axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(
        rows.similarity, similarity_to_center(rows.features[:], rows.labels, rows.centers), atol=1e-6
    )
    assert project.summary("embed")["figures"]["centers"] == "classifier"


def test_B44_a_classifier_that_is_not_there_is_refused_before_anything_is_embedded(project: Project) -> None:
    before = project.files("embed/*")
    refused = project.run("embed", "embed.centers=classifier", "embed.classifier=nowhere.safetensors")
    assert refused.returncode == 1
    assert "embed.classifier: got " in refused.stderr
    assert "no such file; give the classifier E_id was trained with" in refused.stderr
    assert project.files("embed/*") == before
