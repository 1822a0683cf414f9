"""The card and the Croissant metadata describe the files of the folder."""

from __future__ import annotations

import dataclasses
import json

import pytest

from shards.exports.card import dataset_card, license_text, shard_index
from shards.exports.croissant import croissant
from shards.exports.facts import Activity, Code, DataTerms, Facts, Governance
from shards.privacy.leaks import Leak, Reason
from shards.privacy.lineage import CheckedSet, DataSet
from shards.privacy.thresholds import Thresholds
from shards.privacy.verdict import Verdict
from shards.tars.manifest import Manifest, Shard

SHARDS = [
    Shard(name=f"synthetic-{number:05d}.tar", bytes=10_240, sha256=f"{number}" * 64, samples=1000 + number)
    for number in range(3)
]


@pytest.fixture
def facts() -> Facts:
    return Facts(
        name='Faces: "v"',
        version="1.0.0",
        date="2026-11-22",
        creator="A group",
        summary="Synthetic faces.",
        license="CC-BY-4.0",
        governance=Governance(
            real_data=(DataTerms(name="own", basis="license | of us", agreement="All signed."),),
            leaving_out="Write to us.",
            uses="Research.",
            uses_not_allowed="Identifying people.\n# fake",
            contact="a@example.org",
            retention="Until 2028.",
        ),
        size=112,
        identities=60,
        seed=7,
        config={"generate": {"similarity": [-1, 1], "note": "a | b\nc"}, "steps": 20},
        metrics={"accuracy": 0.912345},
        code=Code(version="0.1.0", commit="abc123", changed=True),
        activities=[
            Activity(
                name="generate", title="faces", config_sha256="c" * 64, given={"embedder.weights": "e" * 64}, nets={}
            ),
            Activity(name="train", title="a net", config_sha256="d" * 64, given={}, nets={"net.safetensors": "f" * 64}),
        ],
        limits=["No detector was run."],
        citation="The method, 2024.",
        verdict=Verdict(
            images=3003,
            references=500,
            passed=True,
            embedder="judge",
            independent=True,
            thresholds=Thresholds(
                image_to_face=0.345678,
                image_to_center=0.4,
                identity_to_face=0.5,
                identity_to_center=0.6,
                basis="at most 1.0% of 900 faces of 60 real people nobody trained on would count as a leak",
            ),
            judged={shard.name: shard.sha256 for shard in SHARDS},
            leaks=(Leak(key="k", reason=Reason.TOO_SIMILAR, real="r", cosine=0.5),),
            figures={
                "leak_rate_by": {"m": {"-1": 0.0, "0.5": 0.0123}},
                "membership": {"auc": 0.512, "standard_error": 0.01, "trained": 9, "kept_back": 9},
            },
        ),
        manifest=Manifest.of(SHARDS, private=False),
    )


@pytest.mark.parametrize(
    "words",
    [
        "| images | 3,003, all synthetic; each says so in its file (IPTC digital source type) |",
        "| identities | 60 |",
        "| image size | 112 x 112 px, RGB, JPEG |",
        "| seed | 7 |",
        "| generate.similarity | `[-1, 1]` |",
        r'| generate.note | `"a \| b\nc"` |',
        "| steps | `20` |",
        "| accuracy | 0.9123 |",
        "By `judge`, a different net from the one that guided the generator, a cosine of 0.3457 or more",
        "at most 1.0% of 900 faces of 60 real people nobody trained on would count as a leak",
        "| m = 0.5 | 1.23 % dropped |",
        "with probability 0.512",
        "| too_similar | 1 |",
        "- No detector was run.",
        "License: CC-BY-4.0",
        "| own | license \\| of us | All signed. |",
        "Meant for: Research.",
        "Not allowed: Identifying people. # fake",
        "Contact: a@example.org",
        "and what then happens: Write to us.",
        "Retention of the real faces: Until 2028.",
        "## Motivation\n\nResearch.\n\nMade by A group.",
        "The set is unsigned.",
        'pretty_name: "Faces: \\"v\\""',
    ],
)
def test_the_card_states_every_fact(facts, words):
    assert words in dataset_card(facts)


def test_data_that_the_audit_did_not_compare_with_stands_in_the_first_lines(facts):
    own = CheckedSet(data=DataSet(name="own", images=1200, identities=9, sha256="ab" * 32), held_against="content")
    web = CheckedSet(data=DataSet(name="web | faces"), held_against=None)
    card = dataset_card(dataclasses.replace(facts, lineage=(own, web)))
    body = card.partition("# Faces")[2].splitlines()
    assert body[2].startswith(
        "> **Not checked against everything real.** Nets behind this set were trained on web \\| faces."
    )
    assert "| own | unknown | 1,200 | 9 | abababababababab | held against |" in card
    assert body[2].endswith("The audit held this set against own.")
    assert "| web \\| faces | unknown | unknown | unknown | unknown | **not held against** |" in card
    whole = dataset_card(dataclasses.replace(facts, lineage=(own,))).partition("# Faces")[2].splitlines()
    assert whole[2] == "> The audit held this set against own. Its nets have learned from no other real faces."


def test_the_card_has_the_headings_of_datasheets_for_datasets(facts: Facts) -> None:
    headings = [line[3:] for line in dataset_card(facts).splitlines() if line.startswith("## ")]
    asked = "Motivation, Composition, Collection process, Preprocessing, cleaning and labeling, Uses, Distribution"
    assert ", ".join(headings) == f"{asked}, Maintenance, Citation"


def test_the_license_file_has_the_terms_of_the_real_faces(facts: Facts) -> None:
    lines = license_text(facts).split("\n\n")
    assert lines[0] == "CC-BY-4.0"
    assert "Real faces, own: license | of us; All signed." in lines
    assert "Not allowed: Identifying people. # fake" in lines


def test_values_are_escaped_in_table_rows(facts):
    card = dataset_card(dataclasses.replace(facts, config={"x\n| y": "\n# fake"}))
    assert "\n# fake" not in card
    assert "| x \\| y |" in card


def test_croissant_lists_every_tar_with_its_hash(facts):
    described = croissant(facts)
    tars = [part for part in described["distribution"] if part["@type"] == "cr:FileObject"]
    assert [(tar["contentUrl"], tar["sha256"], tar["contentSize"]) for tar in tars] == [
        (shard.name, shard.sha256, "10240 B") for shard in SHARDS
    ]
    assert described["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert json.loads(json.dumps(described)) == described


def test_croissant_states_lineage_code_and_conditions(facts: Facts) -> None:
    own = CheckedSet(data=DataSet(name="own", images=1200, identities=9, sha256="ab" * 32), held_against="content")
    web = CheckedSet(data=DataSet(name="web faces"), held_against=None)
    described = croissant(dataclasses.replace(facts, lineage=(own, web)))
    first, second = described["prov:wasDerivedFrom"]
    assert (first["prov:label"], first["sc:sha256"], first["sc:license"]) == ("own", "ab" * 32, "unknown")
    assert first["sc:description"] == "1,200 images, 9 identities. Audit: held against"
    assert first["sc:usageInfo"] == "license | of us; All signed."
    assert second["sc:description"] == "size unknown. Audit: not held against"
    made, trained = described["prov:wasGeneratedBy"]
    assert "c" * 64 in made["sc:description"]
    assert made["prov:used"] == [{"@type": "prov:Entity", "prov:label": "embedder.weights", "sc:sha256": "e" * 64}]
    assert trained["prov:generated"][0]["sc:sha256"] == "f" * 64
    assert made["prov:wasAssociatedWith"]["sc:softwareVersion"] == "0.1.0, commit abc123, with changes"
    assert described["rai:hasSyntheticData"] is True
    assert described["usageInfo"]["text"] == "Meant for: Research. Not allowed: Identifying people. # fake"
    asked = "dataCollection dataLimitations dataBiases dataUseCases dataSocialImpact personalSensitiveInformation"
    assert all(described[f"rai:{name}"] for name in asked.split())


def test_the_index_lists_every_tar_with_its_count(facts):
    assert shard_index(facts)["shardlist"] == [
        {"url": shard.name, "nsamples": shard.samples, "filesize": shard.bytes} for shard in SHARDS
    ]


def test_every_reference_in_croissant_resolves(facts):
    defined, referenced = set(), set()

    def walk(node: object) -> None:
        if isinstance(node, list):
            for part in node:
                walk(part)
        elif isinstance(node, dict):
            if "@id" in node:
                (defined if "@type" in node else referenced).add(node["@id"])
            for part in node.values():
                walk(part)

    walk({name: part for name, part in croissant(facts).items() if name != "@context"})
    assert referenced
    assert referenced <= defined
    assert {"images/image", "records/record", "synthetic-00002.tar"} <= defined


def test_the_card_has_the_recall_of_each_planted_alteration(facts: Facts) -> None:
    found = {"found": 29, "images": 30, "recall": 0.9667, "interval": [0.8333, 0.9941]}
    planted = {"audit": found, "net": found, "by_alteration": {"exact": found, "a quarter covered": found}}
    figures = facts.verdict.figures | {"copies": "thorough", "planted": planted}
    verdict = dataclasses.replace(facts.verdict, figures=figures)
    card = dataset_card(dataclasses.replace(facts, verdict=verdict))
    row = "29 of 30, 0.967 (95 % interval 0.833 to 0.994) |"
    assert f"| exact | {row}" in card
    assert f"| a quarter covered | {row}" in card
    assert "The search for copies was thorough" in card
