"""The generator or faces that a user gave, and the attribute nets: name, license, origin and hash of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cemiface.measures.attribute_choice import choose_nets
from jobs.frame.run import Run
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.candidates.plan import NAME as CANDIDATES
from jobs.methods.gandiffface.candidates.plan import MakeCandidates, face_size, given_generator
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
    """What the finished candidates recorded; nothing before, or by an older version."""
    summary = run.ledger.summary(CANDIDATES)
    found: list[dict[str, Any]] = summary.figures.get(PARTS, []) if summary else []
    return found
