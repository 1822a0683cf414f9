"""Bad input of the method's own stages: one line each, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from cemiface.diffusion.config import DiffusionConfig
from cemiface.errors import ModelError
from cemiface.gandiff.gan.config import GanConfig
from cemiface.gandiff.gan.generator import generator_bytes
from cemiface.gandiff.gan.nets import Generator
from cemiface.gandiff.slots import DEFAULT_SLOTS, SlotDenoiserConfig
from cemiface.measures.net_cards import EMBEDDED
from jobs.frame.errors import ConfigError
from jobs.frame.run import Run
from jobs.methods.gandiffface.candidates.plan import face_size
from jobs.methods.gandiffface.generate.plan import asked_values
from jobs.methods.gandiffface.given_parts import given_parts
from jobs.methods.gandiffface.identities.plan import forecast

from .small_run import ROOT, configured, write_head

GAN = {"preset": "tiny32", "image_size": 32}


def configured_at(root: Path, size: int, **sections: Any) -> Run:
    shard = {"faces": "real", "image_size": size}
    return configured(root, **{"shard": shard, "train-gan": {"gan": GAN}, "candidates": {}, **sections})


def refused(run: Run, stage: str) -> str:
    """The one line that a launch of the stage ends with."""
    with pytest.raises((ConfigError, ModelError)) as error:
        run.stages[stage].check_launch(run)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("size", "section", "fields", "message"),
    [
        (16, "identities", {"min_face": 0.5}, "identities.min_face: got 0.5 for faces of 16 px"),
        (16, "generate", {"min_face": 0.3}, "generate.min_face: got 0.3 for faces of 16 px"),
        (16, "train-base", {"min_face": 0.5}, "train-base.min_face: got 0.5 for faces of 16 px"),
        (32, "identities", {"target": {"age": {"18-39": 1.0}}}, "identities.target: age at 32 px: the net 'age' is"),
        (16, "identities", {"min_face": 0, "target": {"gender": {"male": 1.0}}}, "identities.target: male at 16 px"),
        (48, "identities", {"target": {"group": {"a": 1.0}}}, "identities.target: attributes: no net gives 'group'"),
        (48, "identities", {"count": 7}, "identities.count: got 7 of 6 candidates"),
        (32, "directions", {"attributes": ["age"]}, "directions.attributes: age at 32 px"),
        (48, "directions", {"attributes": ["beard"]}, "directions.attributes: attributes: no net gives 'beard'"),
        (48, "portraits", {"edits": {"yawn": 1.0}}, "portraits.edits: got 'yawn'; allowed: age, eyes, face"),
        (32, "study-scores", {"sets": ["portraits"], "cells": ["age"]}, "study-scores.cells: age at 32 px"),
        (
            48,
            "study-scores",
            {"sets": ["portraits"], "cells": ["smile"]},
            "study-scores.cells: got 'smile'; allowed: gender, age",
        ),
    ],
)
def test_what_is_not_measured_is_refused_before_the_launch(
    tmp_path: Path, size: int, section: str, fields: dict[str, Any], message: str
) -> None:
    others = {"candidates": {"count": 6}, "directions": {}, "identities": {}, "portraits": {}}
    base = {"denoiser": {"preset": "tiny32", "image_size": size}}
    others |= {"attributes": {}, "train-base": base, "personalize": {}}
    run = configured_at(tmp_path, size, **{**others, section: {**others.get(section, {}), **fields}})
    assert refused(run, section).startswith(message)


def test_the_plan_says_where_the_smallest_age_cannot_be_applied(tmp_path: Path) -> None:
    small, large = (configured_at(tmp_path, size, identities={}) for size in (32, 64))
    assert "min_age is not applied: no net measures age at 32 px" in str(forecast(small))
    assert forecast(large) is None


def test_a_net_without_its_card_and_a_card_without_its_net_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(b"a net")
    run = configured_at(tmp_path, 64, attributes={"nets": ["mine.onnx"]})
    assert "mine.onnx: a net; give its card, a JSON file" in refused(run, "attributes")
    card = json.loads((EMBEDDED / "gender.json").read_text())
    (tmp_path / "mine.json").write_text(json.dumps({**card, "file": "other.onnx"}))
    run = configured_at(tmp_path, 64, attributes={"nets": ["mine.json"]})
    assert "No such file or directory; put the net beside its card" in refused(run, "attributes")
    others = {"directions": {}, "identities": {}, "portraits": {"judges": ["mine.json"]}}
    run = configured_at(tmp_path, 64, attributes={"nets": ["mine.json"]}, **others)
    assert "portraits.judges: got mine.json, which is in attributes.nets" in refused(run, "portraits")


def test_a_label_that_a_net_does_not_have_is_refused(tmp_path: Path) -> None:
    card = json.loads((EMBEDDED / "gender.json").read_text())
    (tmp_path / card["file"]).write_bytes((EMBEDDED / card["file"]).read_bytes())
    labels = card["outputs"][0]["labels"]
    matrix = {"counts": [[9, 1], [2, 8]], "data": "drawn", "size": 64, "date": "2026-11-27"}
    output = {**card["outputs"][0], "kind": "classes", "name": "group", "error_matrix": matrix}
    (tmp_path / "group.json").write_text(json.dumps({**card, "outputs": [output]}))
    sections = {"attributes": {"nets": ["group.json"]}, "identities": {"target": {"group": {"martian": 1.0}}}}
    text = refused(configured_at(tmp_path, 64, **sections), "identities")
    assert text == f"identities.target.group: got martian; allowed: {', '.join(labels)}"


def test_the_size_of_a_given_generator_is_known_before_it_is_loaded(tmp_path: Path) -> None:
    config = GanConfig.model_validate(GAN)
    (tmp_path / "g.safetensors").write_bytes(generator_bytes(Generator(config)))
    given = {"generator": "g.safetensors"}
    run = configured_at(tmp_path, 64, candidates=given, identities={"target": {"age": {"18+": 1.0}}})
    assert face_size(run) == 32
    assert refused(run, "identities").startswith("identities.target: age at 32 px")
    aligned = configured_at(tmp_path, 64, candidates={**given, "align": True})
    assert face_size(aligned) == 64


def test_a_stylegan_net_of_another_size_needs_the_aligner(tmp_path: Path) -> None:
    write_head(tmp_path / "ffhq.safetensors")
    given = {"generator": "ffhq.safetensors"}
    text = refused(configured_at(tmp_path, 64, candidates=given), "candidates")
    assert text.startswith("candidates.align: got false with a stylegan2 generator of 128 px for a set of 64 px")
    run = configured_at(tmp_path, 64, candidates={**given, "align": True, "count": 6})
    run.stages["candidates"].check_launch(run)
    planned = run.stages["candidates"].forecast(run)
    assert "stylegan2 generator of 128 px; faces are found and cut out at 64 px" in str(planned)
    (part, *_) = given_parts(run, faces=None)
    assert (part["license"], part["origin"]) == ("CC0-1.0", "here")


def test_faces_too_small_to_tell_are_not_aligned(tmp_path: Path) -> None:
    run = configured_at(tmp_path, 16, candidates={"align": True})
    assert refused(run, "candidates").startswith("candidates.align: got true for faces of 16 px")


def test_a_pickle_and_a_file_that_is_no_generator_are_refused(tmp_path: Path) -> None:
    for name, message in (("a.pkl", "a pickle; convert it once"), ("a.safetensors", "not a generator")):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        run = configured_at(tmp_path, 64, candidates={"generator": name})
        assert message in refused(run, "candidates")


def test_a_given_base_is_looked_at_before_identities_are_learned(tmp_path: Path) -> None:
    (tmp_path / "g.safetensors").write_bytes(generator_bytes(Generator(GanConfig.model_validate(GAN))))
    others = {"directions": {}, "identities": {}, "portraits": {}}
    run = configured_at(tmp_path, 48, **others, personalize={"base": "g.safetensors"})
    assert "g.safetensors: not a whole base; give the file that train-base wrote" in refused(run, "personalize")
    base = SlotDenoiserConfig.model_validate({"preset": "tiny32", "slots": DEFAULT_SLOTS[:3]})
    metadata = {"base": base.model_dump_json(), "diffusion": DiffusionConfig().model_dump_json()}
    save_file({"weight": np.zeros(1, np.float32)}, tmp_path / "base.safetensors", metadata=metadata)
    slot = DEFAULT_SLOTS[2]
    for name, value, message in (
        (slot.name, slot.values[0], None),
        (slot.name, "nothing of the kind", "nothing of the kind"),
        (DEFAULT_SLOTS[3].name, DEFAULT_SLOTS[3].values[0], DEFAULT_SLOTS[3].name),
    ):
        (tmp_path / "prompts.yaml").write_text(json.dumps({"slots": {name: {value: {}}}}))
        sections = {"personalize": {"base": "base.safetensors"}, "generate": {"prompts": "prompts.yaml"}}
        run = configured_at(tmp_path, 48, **others, **sections)
        run.stages["personalize"].check_launch(run)
        if message is None:
            run.stages["generate"].check_launch(run)
            assert asked_values(run)[name] == {value}
        else:
            assert message in refused(run, "generate")


@pytest.mark.parametrize(
    ("stage", "field", "fields"),
    [
        (
            "study-scores",
            "study-scores.judge",
            {"study-scores": {"sets": ["portraits"], "judge": {"weights": "net.safetensors"}}},
        ),
        ("candidates", "embedder", {"embedder": {"weights": "net.safetensors"}}),
        ("personalize", "embedder", {"embedder": {"weights": "net.safetensors"}, "personalize": {}}),
    ],
)
def test_a_net_that_cannot_be_loaded_is_refused(tmp_path: Path, stage: str, field: str, fields: dict[str, Any]) -> None:
    (tmp_path / "net.safetensors").write_bytes(generator_bytes(Generator(GanConfig.model_validate(GAN))))
    others = {"directions": {}, "identities": {}, "portraits": {}, "train-base": {}, "attributes": {}}
    text = refused(configured_at(tmp_path, 48, **others, **fields), stage)
    assert text.startswith(f"{field}.weights: weights {tmp_path / 'net.safetensors'}: its metadata does not describe a")


def test_another_net_in_the_place_of_e_id_makes_the_candidates_stale(tmp_path: Path) -> None:
    """They are measured with it, and all that follows goes back to them."""
    weights = tmp_path / "e_id.safetensors"
    weights.write_bytes((ROOT / "nets" / "embedder.safetensors").read_bytes())
    run = configured_at(tmp_path, 48, embedder={"weights": str(weights)})
    before = run.stages["candidates"].files(run)
    weights.write_bytes(weights.read_bytes() + b" ")
    assert run.stages["candidates"].files(run) != before
