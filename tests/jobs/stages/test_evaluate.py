"""Benchmarks converted and nets evaluated by the command on the tiny run; what is missing or broken ends it."""
# ruff: noqa: N802

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from cemiface.errors import ModelError
from cemiface.measures.inception import Inception
from cemiface.pixels import to_unit_range
from cemiface.recognition.nets import load_recognition
from jobs.frame.experiment import load_run_folder
from jobs.stages.shared.benchmarks import Benchmark, load_benchmark, verify
from jobs.stages.shared.verification import Verification
from shards.images.jpeg import decode_rgb
from shards.tars.shard_set import ShardSet
from shards.tars.subset import whole_identities
from tests.jobs.commands import Project
from tests.jobs.conftest import TinyRun

SECTION = """
convert-benchmarks:
  image_size: 16
  sources:
    drawn: {bin: drawn.bin}
    listed: {pairs: pairs.tsv, images: faces}
"""
FOLDS = 5


@pytest.fixture
def project(tiny_run: TinyRun, tmp_path: Path) -> Project:
    """The tiny run with two benchmarks out of its own held-out people: a `.bin` file, and a list over the folder."""
    copied = Project.copy_of(tiny_run, tmp_path / "copy")
    faces = ShardSet(sorted((copied.runs / "shard").glob("held-out-*.tar")))
    draw = np.random.default_rng(0)
    pairs = [tuple(draw.choice(len(faces), 2, replace=False)) for _ in range(40)]
    same = [bool(faces.labels[a] == faces.labels[b]) for a, b in pairs]
    jpegs = [faces.jpeg(int(row)) for pair in pairs for row in pair]
    (copied.root / "drawn.bin").write_bytes(pickle.dumps((jpegs, same)))
    lines = ["same\ta\tb\tfold"]
    for number, ((a, b), truth) in enumerate(zip(pairs, same, strict=True)):
        paths = [faces.record(int(row))["source"] for row in (a, b)]
        lines.append(f"{int(truth)}\t{paths[0]}\t{paths[1]}\t{number // 8}")
    (copied.root / "pairs.tsv").write_text("\n".join(lines) + "\n")
    config = copied.root / "configs" / "tiny.yaml"
    config.write_text(config.read_text().replace("evaluate: {}", f"evaluate: {{folds: {FOLDS}}}") + SECTION)
    return copied


def _by_hand(project: Project, weights: Path) -> list[float]:
    """The protocol once more, in plain loops: flip test, squared distances of unit vectors, 400 thresholds."""
    images, same = pickle.loads((project.root / "drawn.bin").read_bytes())
    net = load_recognition(weights)
    x = to_unit_range(np.stack([decode_rgb(image) for image in images]))
    with torch.inference_mode():
        features = (net(x) + net(x.flip(3))).double().numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    distance = np.square(features[::2] - features[1::2]).sum(1)
    truth, thresholds, each = np.array(same), np.arange(0, 4, 0.01), len(same) // FOLDS
    accuracies = []
    for fold in range(FOLDS):
        test = np.arange(len(truth)) // each == fold
        right = [((distance[~test] < threshold) == truth[~test]).mean() for threshold in thresholds]
        accuracies.append(((distance[test] < thresholds[int(np.argmax(right))]) == truth[test]).mean())
    return [float(accuracy) for accuracy in accuracies]


def test_B46_benchmarks_are_converted_once_and_verified_to_the_last_pair(project: Project) -> None:
    done = project.run("convert-benchmarks")
    assert done.returncode == 0, done.stderr
    converted = project.summary("convert-benchmarks")["figures"]
    assert {name: found["pairs"] for name, found in converted.items()} == {"drawn": 40, "listed": 40}
    assert converted["drawn"]["images"] <= 18  # each image once, however many pairs it is in

    done = project.run("evaluate")
    assert done.returncode == 0, done.stderr
    summary = project.summary("evaluate")
    expected = _by_hand(project, project.runs / "train-recognition" / "recognition.safetensors")
    found = {
        name: json.loads((project.runs / "evaluate" / f"verify-synthetic-{name}.json").read_text())["per_fold"]
        for name in ("drawn", "listed")
    }
    assert found["drawn"] == expected
    assert found["listed"] == pytest.approx(expected, abs=1 / 8)  # its images went through PNG, not JPEG

    figures = summary["figures"]
    assert set(figures["benchmarks"]) == {"drawn", "listed"}
    assert figures["benchmarks"]["drawn"]["synthetic"]["accuracy"] == pytest.approx(np.mean(expected))
    assert set(figures["average"]) == {"untrained", "embedder", "synthetic"}
    assert set(figures["verification"]) == {"untrained", "embedder", "synthetic"}  # on the held-out people
    assert set(figures["gaps"]) == {"drawn", "listed", "held-out"}
    for name, gaps in figures["gaps"].items():
        verified = figures["benchmarks"].get(name, figures["verification"])
        for other in ("untrained", "embedder"):
            gap = verified["synthetic"]["accuracy_exact"] - verified[other]["accuracy_exact"]
            assert gaps[other]["mean"] == pytest.approx(gap)
            assert gaps[other]["interval"][0] <= gap + 1e-9
            assert gaps[other]["interval"][1] >= gap - 1e-9
    for kind in ("real", "synthetic"):
        assert 0 <= figures["scores"][kind]["eer"] <= 1
        assert 0 < figures["scores"][kind]["uniqueness"] <= 1
    for differences in (figures["kl_synthetic_to_real"], figures["wasserstein_synthetic_to_real"]):
        assert min(differences.values()) >= 0
    assert figures["frechet_distance"] > 0

    # B46: fewer pairs than folds, before anything is embedded
    with pytest.raises(ModelError, match="benchmark drawn: got 40 pairs for 41 folds"):
        load_benchmark(load_run_folder(project.runs), "drawn", config=Verification(folds=41))
    with pytest.raises(ModelError, match="benchmark drawn: fold 1 of 40 has only non-mated pairs; allowed: both"):
        load_benchmark(load_run_folder(project.runs), "drawn", config=Verification(folds=40))

    (project.root / "drawn.bin").write_bytes((project.root / "drawn.bin").read_bytes() + b" ")
    assert "convert-benchmarks" in project.run("status").stdout
    assert "stale" in project.run("evaluate").stderr  # it will not measure on what is no longer the benchmark


def test_B46_folds_that_a_benchmark_does_not_have_are_refused_before_a_net_is_trained(project: Project) -> None:
    refused = project.run("all", "evaluate.folds=41")
    assert refused.returncode == 1
    assert "benchmark drawn: got 40 pairs for 41 folds; lower folds" in refused.stderr
    assert refused.stderr.index("got 40 pairs") < refused.stderr.index("train-recognition: ")
    assert project.run("convert-benchmarks").returncode == 0  # with folds that it has


def test_B46_a_missing_benchmark_is_an_error_before_anything_runs(project: Project) -> None:
    (project.root / "drawn.bin").unlink()
    refused = project.run("convert-benchmarks")
    assert refused.returncode == 1
    assert "convert-benchmarks.sources.drawn.bin: got" in refused.stderr
    assert "no such file" in refused.stderr
    assert not (project.runs / "convert-benchmarks").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["convert-benchmarks.image_size=32"], "wrong_size"),
        (["convert-benchmarks.sources.drawn={bin: a.bin, pairs: b}"], "got neither or both; allowed: bin, or pairs"),
        (["convert-benchmarks.sources.drawn={}"], "got neither or both"),
        (["convert-benchmarks.sources={}"], "convert-benchmarks.sources"),
        (["evaluate.judge.weights=missing.safetensors"], "evaluate.judge.weights: got"),
        (["evaluate.inception=missing.pth"], "evaluate.inception: got"),
        (["evaluate.checkpoint=best"], "evaluate.checkpoint: got best; allowed: last; the best by a benchmark"),
    ],
)
def test_benchmarks_and_judges_that_cannot_be_used_are_refused(project, overrides, message) -> None:
    refused = project.run("plan" if overrides[0].startswith("evaluate") else "convert-benchmarks", *overrides)
    assert refused.returncode != 0
    assert message in refused.stderr


def test_the_evaluation_net_also_measures_whether_images_follow_m(tiny_run: TinyRun, tmp_path: Path) -> None:
    project = Project.copy_of(tiny_run, tmp_path / "copy")
    (project.root / "judge.safetensors").write_bytes(
        (project.runs / "train-embedder" / "recognition.safetensors").read_bytes()
    )
    done = project.run("evaluate", "evaluate.judge.weights=judge.safetensors")
    assert done.returncode == 0, done.stderr
    figures = json.loads((project.runs / "evaluate" / "summary.json").read_text())["figures"]["scores"]["synthetic"]
    measured = json.loads((project.runs / "generate" / "summary.json").read_text())["figures"]["measured_cosine"]
    # The judge is a copy of E_id here, so both have to agree; E_id's embeddings of inquiries are of the stage before.
    assert [row["m"] for row in figures["judge_cosine_to_inquiry"]] == [row["m"] for row in measured]
    for judged, known in zip(figures["judge_cosine_to_inquiry"], measured, strict=True):
        assert judged["images"] == known["images"]
        assert judged["mean"] == pytest.approx(known["mean"], abs=0.02)

    shown = project.run("report", "evaluate.judge.weights=judge.safetensors")
    assert shown.returncode == 0, shown.stderr
    assert "evaluation net" in (project.runs / "report" / "index.html").read_text()


class _Broken(torch.nn.Module):
    """Gives NaN for every third image."""

    embedding = 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = x.flatten(1)[:, :4].clone()
        found[2::3] = torch.nan
        return found


def test_B43_embeddings_that_are_no_numbers_are_refused_with_their_image(tiny_run: TinyRun) -> None:
    faces = ShardSet(sorted((tiny_run.folder / "shard").glob("held-out-*.tar")))
    rows = np.arange(10)
    benchmark = Benchmark(name="x", faces=faces, first=rows, second=rows[::-1], same=rows > 4, folds=2)
    with pytest.raises(ModelError, match=rf"row 2 \({faces.keys[2]}\) has norm nan, and 5 more like it"):
        verify(benchmark, _Broken(), config=Verification(), progress=lambda _: None)  # type: ignore[arg-type]


def test_large_sets_are_scored_by_whole_identities():
    labels = np.repeat(np.arange(50), 10)
    np.random.default_rng(1).shuffle(labels)
    assert np.array_equal(whole_identities(labels, images=500, seed=0), np.arange(500))
    some = whole_identities(labels, images=95, seed=0)
    assert len(some) == 90
    assert (np.bincount(labels[some])[np.unique(labels[some])] == 10).all()
    assert np.array_equal(some, whole_identities(labels, images=95, seed=0))
    assert not np.array_equal(some, whole_identities(labels, images=95, seed=1))
    assert len(whole_identities(labels, images=5, seed=0)) == 20  # non-mated scores need two identities


def _centered_roots(features: np.ndarray) -> np.ndarray:
    """A with A A^T the covariance."""
    return (features - features.mean(0)).T / np.sqrt(len(features) - 1)


@pytest.mark.long
def test_inception_weights_give_its_frechet_distance_and_diversity(project: Project) -> None:
    """The distance by hand: with covariances A A^T and B B^T, tr (C D)^(1/2) is the sum of singular values of A^T B."""
    torch.manual_seed(0)
    net = Inception().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)  # else a new net gives every face nearly the same features
    torch.save(net.state_dict(), project.root / "inception.pth")
    assert project.run("convert-benchmarks").returncode == 0
    done = project.run("evaluate", "evaluate.inception=inception.pth")
    assert done.returncode == 0, done.stderr
    features = []
    for stage, kind in (("shard", "real"), ("generate", "synthetic")):
        faces = ShardSet(sorted((project.runs / stage).glob(f"{kind}-*.tar")))
        x = to_unit_range(np.stack([faces.rgb(row) for row in range(len(faces))]))
        with torch.inference_mode():
            features.append(torch.cat([net(part) for part in x.split(8)]).double().numpy())
    roots = [_centered_roots(part) for part in features]
    shared = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum()
    expected = np.square(features[0].mean(0) - features[1].mean(0)).sum() - 2 * shared
    expected += sum(np.square(root).sum() for root in roots)
    figures = project.summary("evaluate")["figures"]
    assert figures["frechet_distance_inception"] == pytest.approx(expected, rel=1e-3)
    assert expected > 0
    assert all(0 <= figures["scores"][kind]["diversity"] <= 1 for kind in ("real", "synthetic"))
