"""The generator, faces and base that a user gave, and the attribute nets: name, license, origin and hash of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cemiface.measures.attribute_choice import choose_nets
from jobs.frame.run import Run
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.candidates.plan import NAME as CANDIDATES
from jobs.methods.gandiffface.candidates.plan import MakeCandidates, face_size, given_generator
from jobs.methods.gandiffface.personalize.plan import NAME as PERSONALIZE
from jobs.methods.gandiffface.personalize.plan import Personalize
from jobs.methods.gandiffface.personalize.text_base import TEXT_BASE
from slurm.files import sha256_of

PARTS = "given_parts"  # in the figures of candidates


@dataclass(frozen=True, kw_only=True)
class GivenPart:
    """A net or faces that the run did not make; `role` says what for."""

    role: str
    name: str
    license: str
    origin: str
    sha256: str | None


def given_parts(run: Run, *, faces: str | None) -> list[dict[str, Any]]:
    """Everything that was given, JSON-ready, without paths; `faces` is a hash of the given faces."""
    found = []
    config, head = run.section(MakeCandidates), given_generator(run)
    if head is not None:
        found.append(
            GivenPart(
                role="generator of the identities",
                name=head.architecture,
                license=head.license or "unknown",
                origin=head.origin or "unknown",
                sha256=sha256_of(run.path(str(config.generator))),
            )
        )
    if config.faces is not None:
        given = config.faces
        found.append(
            GivenPart(
                role="faces of the identities",
                name="GAN faces",
                license=given.license,
                origin=given.origin,
                sha256=faces,
            )
        )
    for net, names in choose_nets(cards(run), size=face_size(run)).nets:
        card, role = net.card, f"measures {', '.join(names)}"
        found.append(GivenPart(role=role, name=card.name, license=card.license, origin=card.origin, sha256=card.sha256))
    return [asdict(one) for one in found]


def recorded_parts(run: Run) -> list[dict[str, Any]]:
    """What the finished stages recorded; nothing before, or by an older version."""
    candidates, personalize = run.ledger.summary(CANDIDATES), run.ledger.summary(PERSONALIZE)
    found: list[dict[str, Any]] = candidates.figures.get(PARTS, []) if candidates else []
    base = personalize.figures.get(TEXT_BASE) if personalize else None
    return [*found, asdict(_text_base(run, **base))] if base else found


def _text_base(run: Run, *, name: str, sha256: str) -> GivenPart:
    source = run.section(Personalize).text_base_source
    return GivenPart(
        role="base of the pictures",
        name=name,
        license=source.license if source else "unknown",
        origin=source.origin if source else "unknown",
        sha256=sha256,
    )
