"""What is published is what was judged: every tar byte for byte, and the mean of every identity as it is in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.frame.experiment import load_run_folder
from jobs.frame.run import Run
from jobs.frame.verdicts import reference_files
from jobs.stages.publish.work import passed_verdict
from jobs.stages.settle.plan import SETTLE
from jobs.stages.shared.gate.leak_check import audit_features, load_audit_net
from shards.images.source_mark import mark_of, without_mark
from shards.privacy.fingerprints import read_vectors
from shards.tars.reader import Sample, read_tar
from shards.tars.shard_set import ShardSet
from shards.tars.writer import TarWriter
from slurm.errors import RunError
from slurm.files import digest, publish_json, publishing

from ..commands import flip_a_bit, sha256
from ..one_rank import edit_config, plan_stage, record_again, work_alone
from ..planted import plant

NEVER = 2.0  # a cosine that nothing reaches


class Means:
    """The nearest real face to the mean of some images, by hand."""

    def __init__(self, run: Run) -> None:
        self.net = load_audit_net(run, device=torch.device("cpu"))
        self.real = np.concatenate([read_vectors(path).features for path in reference_files(run)])
        self.synthetic = ShardSet(run.ledger.outputs("generate", suffix=".tar"))
        self.features = dict(zip(self.synthetic.keys, self._embedded(self.synthetic), strict=True))

    def of_real(self, run: Run) -> np.ndarray:
        return self._embedded(ShardSet(run.ledger.outputs("shard", prefix="real-", suffix=".tar")))

    def nearest(self, features: list[np.ndarray]) -> float:
        mean = np.mean(features, axis=0)
        return float((self.real @ (mean / np.linalg.norm(mean))).max())

    def own(self, identity: str) -> list[str]:
        rows = zip(self.synthetic.keys, self.synthetic.identities, strict=True)
        return [key for key, person in rows if person == identity]

    def _embedded(self, shards: ShardSet) -> np.ndarray:
        return audit_features(shards, net=self.net, batch=64, progress=lambda _: None)


@pytest.fixture
def means(copied: Run) -> Means:
    return Means(copied)


def settle(run: Run, *, identity_to_face: float, dropped: list[str]) -> dict[str, Any]:
    """Settle anew after an audit that dropped these images and had this threshold; returns the verdict."""
    path = run.stage_folder("audit").output("verdict.json")
    verdict = json.loads(path.read_text())
    thresholds = dict.fromkeys(verdict["thresholds"], NEVER)
    verdict["thresholds"] = thresholds | {"identity_to_face": identity_to_face, "basis": "by test"}
    verdict["leaks"] = [{"key": key, "reason": "too_similar", "real": "r", "cosine": 0.9} for key in dropped]
    path.write_text(json.dumps(verdict))
    record_again(run, "audit", "verdict.json")
    shutil.rmtree(run.stage_folder(SETTLE).root)
    plan_stage(run, SETTLE)
    work_alone(run, SETTLE)
    value: dict[str, Any] = json.loads(run.stage_folder(SETTLE).output("verdict.json").read_text())
    return value


def settled(run: Run) -> dict[str, Sample]:
    return {sample.key: sample for path in run.ledger.outputs(SETTLE, suffix=".tar") for sample in read_tar(path)}


def test_where_nothing_was_dropped_the_tars_are_those_that_were_generated(copied: Run) -> None:
    verdict = settle(copied, identity_to_face=NEVER, dropped=[])
    made = {path.name: sha256(path) for path in copied.ledger.outputs("generate", suffix=".tar")}
    assert verdict["judged"] == made
    assert {path.name: sha256(path) for path in copied.ledger.outputs(SETTLE, suffix=".tar")} == made
    assert passed_verdict(copied).judged == made


def test_pictures_that_an_older_version_made_without_marks_get_them(copied: Run) -> None:
    before = {sample.key: sample.jpg for path in copied.ledger.outputs("generate") for sample in _samples(path)}
    assert {mark.key for jpeg in before.values() if (mark := mark_of(jpeg))} == before.keys()
    plant(copied, {key: without_mark(jpeg) for key, jpeg in before.items()})
    tars = {path.name: sha256(path) for path in copied.ledger.outputs("generate", suffix=".tar")}
    path = copied.stage_folder("audit").output("verdict.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"judged": tars}))
    settle(copied, identity_to_face=NEVER, dropped=[])
    assert {key: sample.jpg for key, sample in settled(copied).items()} == before


def _samples(path: Path) -> list[Sample]:
    return list(read_tar(path)) if path.suffix == ".tar" else []


def test_an_identity_whose_mean_is_too_close_without_what_was_dropped_is_withdrawn(copied: Run, means: Means) -> None:
    """Of all images the one is dropped without which the mean of the others moves farthest towards a real face."""
    moves = {}
    for person in means.synthetic.classes:
        own = means.own(person)
        before = means.nearest([means.features[key] for key in own])
        for key in own:
            after = means.nearest([means.features[other] for other in own if other != key])
            moves[after - before] = (person, key, before, after)
    person, dropped, before, after = moves[max(moves)]
    assert after > before + 1e-4
    rest = set(means.synthetic.keys) - {dropped}

    kept = settle(copied, identity_to_face=after + 1e-5, dropped=[dropped])
    assert settled(copied).keys() == rest
    assert kept["dropped"] == [dropped]

    withdrawn = settle(copied, identity_to_face=(before + after) / 2, dropped=[dropped])
    assert settled(copied).keys() == rest - set(means.own(person))
    assert withdrawn["dropped"] == sorted(means.own(person))
    assert {leak["reason"] for leak in withdrawn["leaks"] if leak["key"] != dropped} == {"identity_too_similar"}


def test_an_identity_whose_mean_is_too_close_with_what_was_refilled_is_withdrawn(copied: Run, means: Means) -> None:
    """In place of a dropped image stands a real face; the threshold lies between the means without and with it."""
    person = means.synthetic.classes[0]
    first, *others = means.own(person)
    real = ShardSet(copied.ledger.outputs("shard", prefix="real-", suffix=".tar"))
    others_features = [means.features[key] for key in others]
    near = [means.nearest([*others_features, feature]) for feature in means.of_real(copied)]
    row = int(np.argmax(near))
    assert near[row] > means.nearest(others_features) + 1e-3
    record = next(sample.record for sample in settled(copied).values() if sample.key == first)
    copied = with_refill(copied, key=first, jpg=real.jpeg(row), record=record | {"attempt": 1})

    kept = settle(copied, identity_to_face=near[row] + 1e-4, dropped=[first])
    assert without_mark(settled(copied)[first].jpg) == real.jpeg(row)
    assert (kept["dropped"], kept["refilled"]) == ([], [first])

    withdrawn = settle(copied, identity_to_face=near[row] - 1e-4, dropped=[first])
    assert settled(copied).keys() == set(means.synthetic.keys) - {first, *others}
    assert (withdrawn["dropped"], withdrawn["refilled"]) == ([first, *others], [])


def with_refill(run: Run, *, key: str, jpg: bytes, record: dict[str, Any]) -> Run:
    """The run as if the stage `refill` had made this image."""
    edit_config(run.folder.root, refill={"attempts": 1})
    run = load_run_folder(run.folder.root)
    folder = run.stage_folder("refill")
    with publishing(folder.output("refill-00000.tar")) as file:
        tar = TarWriter(file)
        tar.add(key, jpg=jpg, record=record)
        tar.close()
    output = file.output("refill-00000.tar").as_json()
    generated = json.loads(run.stage_folder("generate").summary.read_text())
    publish_json(folder.summary, generated | {"outputs": [output], "outcome": digest([output])})
    return run


def test_tars_that_are_not_what_was_audited_or_refilled_are_refused(copied: Run, means: Means) -> None:
    key = means.synthetic.keys[0]
    refilled = with_refill(copied, key=key, jpg=means.synthetic.jpeg(0), record=means.synthetic.record(0))
    flip_a_bit(refilled.stage_folder("refill").output("refill-00000.tar"))
    with pytest.raises(RunError, match=r"refill/refill-00000.tar: is not the file that was recorded"):
        settle(refilled, identity_to_face=NEVER, dropped=[key])
    flip_a_bit(copied.stage_folder("generate").output("synthetic-00000.tar"))
    with pytest.raises(RunError, match=r"generate/synthetic-00000.tar: is not the file that was recorded"):
        settle(copied, identity_to_face=NEVER, dropped=[key])


def test_a_real_image_in_the_refill_is_refused_by_its_record(copied: Run, means: Means) -> None:
    real = ShardSet(copied.ledger.outputs("shard", prefix="real-", suffix=".tar"))
    key = means.synthetic.keys[0]
    planted = with_refill(copied, key=key, jpg=real.jpeg(0), record=real.record(0))
    with pytest.raises(RunError, match=f"the record of {key} is not of a synthetic image"):
        settle(planted, identity_to_face=NEVER, dropped=[key])
