"""What the card of a published set says about its run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from jobs.frame.products import EVALUATE, RECOGNITION, SHARD
from jobs.frame.run import Run
from jobs.frame.stage_config import public_fields
from jobs.stages.publish.governance import OWN, require_terms, required
from jobs.stages.publish.made_by import activities_of, code_of
from jobs.stages.publish.plan import PublishSet
from jobs.stages.publish.signing import fingerprint
from jobs.stages.settle.withdrawn import Round, rounds_of, version_of
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.shared.gate.lineage import own_faces
from shards.exports.facts import DataTerms, Facts, Governance, Predecessor
from shards.privacy.lineage import CheckedSet
from shards.privacy.verdict import Verdict
from shards.tars.manifest import Manifest


def facts_of(run: Run, *, verdict: Verdict, manifest: Manifest, identities: int, signer: str | None = None) -> Facts:
    """The facts of the set that `manifest` names; `verdict` as it may be published, `signer` as a public key.

    Raises:
        ConfigError: the terms of some real faces are not stated.
    """
    config, text = run.section(PublishSet), run.method.card(run)
    rounds = rounds_of(run)
    generated, evaluated = run.ledger.summary(run.method.generate.name), run.ledger.summary(EVALUATE)
    assert generated is not None
    sections = (SHARD, *run.method.own_stages, RECOGNITION)
    return Facts(
        name=config.set_name,
        version=version_of(config.version, rounds),
        predecessor=_predecessor(rounds),
        # The day the faces were made, so that the same set published again is the same folder.
        date=time.strftime("%Y-%m-%d", time.gmtime(generated.ended)),
        creator=config.creator,
        summary=text.summary,
        citation=text.citation,
        lineage=verdict.lineage or (),
        license=config.license,
        governance=_governance(run, config, lineage=verdict.lineage or ()),
        size=run.section(ShardFaces).image_size,
        identities=identities,
        code=code_of(run),
        activities=activities_of(run),
        signer=fingerprint(signer) if signer else None,
        seed=run.seed,
        config={name: public_fields(found) for name in sections if (found := run.config.section(name)) is not None},
        metrics=_metrics(evaluated.figures if evaluated else {}),
        limits=[*text.limits, *_limits(verdict)],
        verdict=verdict,
        manifest=manifest,
    )


def _predecessor(rounds: Sequence[Round]) -> Predecessor | None:
    """The last published version that people were withdrawn from, and who was since."""
    replaced = [one.manifest for one in rounds if one.manifest]
    if not replaced:
        return None
    since = [name for one in rounds if one.manifest == replaced[-1] for name in one.people]
    return Predecessor(manifest=replaced[-1], withdrawn=tuple(sorted(since)))


def _governance(run: Run, config: PublishSet, *, lineage: Sequence[CheckedSet]) -> Governance:
    """The answers of the config; the run's own faces by the name that the lineage has."""
    given, own = required(config.governance), own_faces(run)
    require_terms(given, lineage, own=own)
    real_data = tuple(
        DataTerms(name=own.name if one.name == OWN else one.name, basis=one.basis, agreement=one.agreement)
        for one in given.real_data
    )
    return Governance(**given.model_dump(exclude={"real_data"}), real_data=real_data)


def _metrics(figures: dict[str, Any]) -> dict[str, float]:
    """What evaluation found, under names a reader of the card understands."""
    found = {
        f"accuracy on held-out people, {net}": row["accuracy"] for net, row in figures.get("verification", {}).items()
    }
    found |= {f"average accuracy on benchmarks, {net}": value for net, value in figures.get("average", {}).items()}
    scores = figures.get("scores", {}).get("synthetic", {})
    names = {"eer": "EER of the set", "fmr100": "FMR100 of the set", "fisher": "Fisher ratio of the set"}
    return found | {text: scores[name] for name, text in names.items() if name in scores}


def _limits(verdict: Verdict) -> list[str]:
    audit = (
        "The audit used one recognition net. The audit misses every leak that this net does not detect."
        if verdict.independent
        else "The audit used the recognition net that also guided the generator. The audit misses "
        "every leak that this net does not detect, and the net may be biased towards images that it guided."
    )
    return [
        audit,
        "Demographics follow the real training faces and were neither measured nor balanced.",
        "No face detector was run on the training images or on these images: an image with no face, with several, or "
        "with a misaligned one was not noticed.",
    ]
