"""Whether the identities meet the target, judged by nets that did not choose them, or at another resolution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from cemiface.gandiff.demographics import category
from cemiface.measures.attribute_choice import choose_nets
from cemiface.measures.attributes import AttributeNets, open_attribute_nets
from cemiface.measures.error_matrices import error_tables
from cemiface.measures.net_cards import AttributeNet, read_card
from jobs.frame.run import Run
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.candidates.plan import face_size
from jobs.methods.gandiffface.identities.plan import MEASURED, MakeIdentities
from jobs.methods.gandiffface.portraits.plan import MakePortraits
from shards.privacy.intervals import wilson
from slurm.markers import Marker

NONE = "none"  # the label of a face in no label of the target


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Who judges one attribute of the target: a net by name, at a size of the faces in pixels."""

    attribute: str
    name: str
    size: int
    nets: AttributeNets

    def label(self, face: np.ndarray, *, labels: Sequence[str]) -> str:
        """The label of a face, uint8 (S, S, 3)."""
        small = face
        if face.shape[0] != self.size:
            small = np.asarray(Image.fromarray(face).resize((self.size, self.size), Image.Resampling.BICUBIC))
        values = self.nets.measure(small.transpose(2, 0, 1)[None])
        found = category(self.attribute, {name: float(column[0]) for name, column in values.items()}, labels=labels)
        return found or NONE


class Jury:
    """A judge for each attribute of the target that has one."""

    def __init__(self, run: Run) -> None:
        self.target = run.section(MakeIdentities).target
        found = (_judge(run, attribute) for attribute in self.target)
        self.judges = {judge.attribute: judge for judge in found if judge is not None}

    def figures(self, portraits: Sequence[tuple[np.ndarray, Mapping[str, float]]]) -> dict[str, Any]:
        """How many faces have each label, by attribute: by the nets that chose, by the judge, and by both alike."""
        found: dict[str, Any] = {}
        for attribute, judge in self.judges.items():
            labels = tuple(self.target[attribute])
            chosen = [category(attribute, measured, labels=labels) or NONE for _, measured in portraits]
            judged = [judge.label(face, labels=labels) for face, _ in portraits]
            found[attribute] = {
                "judge": judge.name,
                "size": judge.size,
                "chosen": dict(Counter(chosen)),
                "judged": dict(Counter(judged)),
                "alike": sum(one == other for one, other in zip(chosen, judged, strict=True)),
                "faces": len(portraits),
            }
        return found


def _judge(run: Run, attribute: str) -> Judge | None:
    """Another net, else the net that chose at another resolution; None where it has none."""
    size, measured = face_size(run), MEASURED.get(attribute)
    given = [run.path(card) for card in run.section(MakePortraits).judges]
    own = _owner(choose_nets(given, size=size).nets, attribute, measured)
    if own is not None and own[0].path in given:
        return _opened(attribute, *own, size=size, cards=given)
    selecting = _owner(choose_nets(cards(run), size=size).nets, attribute, measured)
    if selecting is None:
        return None
    smaller = max(selecting[0].card.smallest_face, size // 2)
    return _opened(attribute, *selecting, size=smaller, cards=cards(run)) if smaller < size else None


def _owner(
    nets: Sequence[tuple[AttributeNet, tuple[str, ...]]], attribute: str, measured: str | None
) -> tuple[AttributeNet, tuple[str, ...]] | None:
    """The net that gives an attribute of a target, and the names of what it gives of it."""
    for net, names in nets:
        found = tuple(name for name in names if name == measured or name.startswith(f"{attribute}."))
        if found:
            return net, found
    return None


def _opened(attribute: str, net: AttributeNet, names: tuple[str, ...], *, size: int, cards: Sequence[Any]) -> Judge:
    return Judge(
        attribute=attribute, name=net.card.name, size=size, nets=open_attribute_nets(cards, size=size, wanted=names)
    )


def realized(run: Run, markers: Sequence[Marker], *, wished: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The shares of all units with 95 % intervals, beside the wished ones; None for an attribute without a judge."""
    found: dict[str, Any] = {}
    for attribute in run.section(MakeIdentities).target:
        parts = [marker.figures["target"][attribute] for marker in markers if attribute in marker.figures["target"]]
        if not parts:
            found[attribute] = None
            continue
        faces = sum(part["faces"] for part in parts)
        chosen, judged = (sum((Counter(part[by]) for part in parts), Counter()) for by in ("chosen", "judged"))
        found[attribute] = {
            "judge": parts[0]["judge"],
            "size": parts[0]["size"],
            "faces": faces,
            "alike": round(sum(part["alike"] for part in parts) / max(faces, 1), 4),
            "labels": {
                label: {"wished": share, "chosen": _share(chosen[label], faces), "judged": _share(judged[label], faces)}
                for label, share in wished[attribute].items()
            },
        }
    return found


def _share(count: int, faces: int) -> dict[str, Any]:
    return {
        "value": round(count / max(faces, 1), 4),
        "interval": [round(bound, 4) for bound in wilson(count, faces)],
    }


def errors_of(run: Run) -> list[dict[str, Any]]:
    """The error matrices of the user's nets of classes that chose or judged, as tables."""
    every = [*cards(run), *(run.path(card) for card in run.section(MakePortraits).judges)]
    return [asdict(table) for table in error_tables([read_card(path) for path in dict.fromkeys(every)])]
