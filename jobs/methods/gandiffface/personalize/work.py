"""The work of personalize: learn the identities of a unit in batches, and pack their adapters."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cemiface.errors import ModelError
from cemiface.gandiff.personal.adapters import AdapterPack, pack_bytes
from cemiface.gandiff.personal.likeness import Likeness
from cemiface.gandiff.personal.tuning import Learned, tune
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.methods.gandiffface.personalize.opened import open_base
from jobs.methods.gandiffface.personalize.people import ClassPictures, Portraits, person_of
from jobs.methods.gandiffface.personalize.plan import NAME, STAGE, AdaptersUnit, Personalize, base_hash
from jobs.methods.gandiffface.personalize.text_base import TEXT_BASE, folder_hash, folder_of
from jobs.stages.shared.embedding import load_embedder
from jobs.training.device import autocast, rank_device
from slurm.files import digest, publish, read_json
from slurm.markers import Marker

DTYPES = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class LearnedBatch:
    """Adapters of some identities by name, in the precision of the pack, and the curve of each."""

    adapters: Mapping[str, Mapping[str, torch.Tensor]]
    curves: Mapping[str, Any]


def run_rank(run: Run, rank: Rank) -> None:
    """Publish the pack of each block of identities; batches that were learned before an interruption are kept."""
    tutor = Tutor(run, device=rank_device(rank))
    for work in rank.remaining(AdaptersUnit):
        unit, started = work.unit, time.process_time()
        block = range(unit.first, unit.last + 1)
        size = 1 if tutor.config.tuning.method == "full" else tutor.config.identities_per_batch
        done, portraits = [], 0
        for number, first in enumerate(range(0, len(block), size)):
            people = block[first : first + size]
            kept = KeptBatch(work, number)
            learned = kept.read() or tutor.learn(people, work=work)
            kept.write(learned)
            done.append(learned)
            portraits += sum(curve["portraits"] for curve in learned.curves.values())
            work.progress(sum(curve["portraits"] for curve in learned.curves.values()))
        adapters = {name: tensors for batch in done for name, tensors in batch.adapters.items()}
        curves = {name: curve for batch in done for name, curve in batch.curves.items()}
        work.publish(unit.pack, pack_bytes(adapters, metadata=tutor.metadata))
        work.publish(unit.curves, json.dumps(curves, sort_keys=True).encode())
        seconds = round(time.process_time() - started, 1)
        work.done(images=portraits, counts={"learned": portraits}, figures={"cpu_seconds": seconds})
        for number in range(len(done)):
            KeptBatch(work, number).path.unlink(missing_ok=True)


class Tutor:
    """What identities are taught with: the base, E_id, portraits and class pictures."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        self.run, self.device, self.config = run, device, run.section(Personalize)
        tuning = self.config.tuning
        opened = open_base(run, device=device)
        self.base, self.class_sampling = opened.base, opened.class_sampling
        self.portraits = Portraits(run, self.base, device=device)
        self.likeness: Likeness | None = None
        if tuning.held_out:
            self.likeness = Likeness(
                load_embedder(run, device=device),
                images=tuning.check_images,
                steps=tuning.check_sampling_steps,
                max_copying=tuning.max_copying,
                faces=opened.faces,
            )
        self.metadata = {"base": base_hash(run), "tuning": tuning.model_dump_json()}

    def learn(self, identities: Sequence[int], *, work: Work[AdaptersUnit]) -> LearnedBatch:
        """Learn some identities in one batch.

        Raises:
            Stopped: the rank was asked to stop.
        """
        tuning, seed = self.config.tuning, self.run.seed
        classes = ClassPictures(
            self.base,
            self.class_sampling,
            count=tuning.class_images,
            seed=seed,
            progress=lambda: work.progress(0),
        )
        found = self.portraits.of(identities)
        people = [
            person_of(identity, pictures, records, portraits=self.portraits, classes=classes, config=tuning, seed=seed)
            for identity, (pictures, records) in found.items()
        ]
        if not people:
            return LearnedBatch(adapters={}, curves={})
        with autocast(self.device, self.config.precision):
            learned = tune(self.base, people, tuning, likeness=self.likeness, on_step=lambda step: work.progress(0))
        counts = {person.name: len(found[identity][0]) for person, identity in zip(people, found, strict=True)}
        return self._packed(learned, counts=counts)

    def _packed(self, learned: Sequence[Learned], *, counts: Mapping[str, int]) -> LearnedBatch:
        dtype = DTYPES[self.config.stored]
        return LearnedBatch(
            adapters={one.name: {name: t.to(dtype) for name, t in one.tensors.items()} for one in learned},
            curves={one.name: {"step": one.step, "portraits": counts[one.name], "curve": one.curve} for one in learned},
        )


class KeptBatch:
    """A batch of a unit that was learned already, on disk until the unit is done."""

    def __init__(self, work: Work[AdaptersUnit], number: int) -> None:
        self.path: Path = work.rank.folder.kept / f"{work.unit.pack}.{number}.safetensors"
        self.key = digest(work.rank.fingerprint(work.unit))

    def read(self) -> LearnedBatch | None:
        """What was kept, if it is whole and of the same unit, config and inputs."""
        if not self.path.exists():
            return None
        try:
            pack = AdapterPack(self.path)
            if pack.metadata.get("key") != self.key:
                return None
            adapters = {name: pack.stored(name) for name in pack.names}
            return LearnedBatch(adapters=adapters, curves=json.loads(pack.metadata["curves"]))
        except (ModelError, KeyError, ValueError):
            return None  # it is learned again

    def write(self, learned: LearnedBatch) -> None:
        """Keep the batch."""
        metadata = {"key": self.key, "curves": json.dumps(learned.curves, sort_keys=True)}
        publish(self.path, pack_bytes(learned.adapters, metadata=metadata), replace=True)


def curves_of(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each identity's name, and its curve with the step that was kept."""
    folder = run.stage_folder(NAME)
    for unit in run.ledger.units(STAGE):
        found = read_json(folder.output(unit.curves))
        if not isinstance(found, dict):
            raise ModelError(f"{folder.output(unit.curves)}: missing or damaged; delete it and run `{NAME}` again")
        yield from found.items()


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """How much identities were learned: cosines before and at the kept step, and the throughput."""
    tuning = run.section(Personalize).tuning
    kept, before, copying, steps, taken = [], [], [], [], 0
    for _, found in curves_of(run):
        steps.append(found["step"])
        taken += found["curve"][-1]["step"] if found["curve"] else tuning.steps
        for line in found["curve"]:
            if line["step"] == 0:
                before.append(line["cosine"])
            if line["step"] == found["step"]:
                kept.append(line["cosine"])
                copying.append(line["copying"])
    seconds = sum(marker.ended - marker.started for marker in markers)
    figures: dict[str, Any] = {
        "identities": len(steps),
        "steps": {"mean": round(float(np.mean(steps)), 1) if steps else None},
        "images_per_second": round(taken * tuning.batch / max(seconds, 1e-9), 2),
    }
    if given := run.section(Personalize).text_base:
        folder = folder_of(run, given)
        figures[TEXT_BASE] = {"name": f"Stable Diffusion{' XL' if folder.is_xl else ''}", "sha256": folder_hash(folder)}
    if kept:
        figures["cosine_to_held_out"] = {"untuned": _mean(before), "kept": _mean(kept)}
        figures["copying"] = {"mean": _mean(copying), "max": round(max(copying), 4)}
    return Finish(figures=figures)


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)
