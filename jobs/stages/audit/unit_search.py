"""What each kind of unit of the audit searches: a synthetic tar, a tar of the control group, the planted copies."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from jobs.frame.products import CENTERS, FINGERPRINT, PROBES
from jobs.frame.rank import Work
from jobs.frame.run import Run
from jobs.frame.verdicts import OWN_KINDS, all_references, recorded_vectors
from jobs.stages.audit.nearest_file import AuditedControl, AuditedPlanted, AuditedTar
from jobs.stages.audit.plan import AuditFaces, AuditUnit
from jobs.stages.audit.planted import planted_copies
from jobs.stages.shared.embedding import Images
from jobs.stages.shared.gate.certified import certified_set
from jobs.stages.shared.gate.copies import CopyFinder
from jobs.stages.shared.gate.leak_check import Progress, audit_features, load_recorded_net
from shards.privacy.findings import Findings
from shards.privacy.fingerprints import read_fingerprints
from shards.privacy.search import search, search_control_group
from shards.privacy.synthetic_faces import SyntheticFaces
from shards.tars.records import asked_of


class UnitSearch:
    """Searches the nearest real faces with the audit's net, which is loaded once per rank."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        self._run = run
        self._net = load_recorded_net(run, device=device)
        self._copies = CopyFinder(run, device=device)
        self._centers = recorded_vectors(run, CENTERS)
        probes = [recorded_vectors(run, path.name).features for path in run.ledger.outputs(FINGERPRINT, prefix=PROBES)]
        self._none = self._centers.features[:0]
        self._probes = probes[0] if probes else self._none

    def synthetic(self, tar: str, work: Work[AuditUnit]) -> AuditedTar:
        """The images and identities of a tar of the method's set."""
        stage = self._run.method.generate.name
        shards = certified_set(self._run, stage, tar)
        found = self._search(
            shards, keys=shards.keys, identities=shards.identities, probes=self._probes, progress=work.progress
        )
        asked = [asked_of(record) for record in shards.records()]
        return AuditedTar(
            tar=tar, sha256=self._run.ledger.output_record(stage, tar).sha256, asked=asked, findings=found
        )

    def planted(self, count: int, work: Work[AuditUnit]) -> AuditedPlanted:
        """Planted copies, each as an identity of its own; they are no part of the set and do not count as progress."""
        copies = planted_copies(self._run, count=count)
        found = self._search(
            copies,
            keys=copies.keys,
            identities=copies.identities,
            probes=self._none,
            progress=lambda _: work.progress(0),
        )
        return AuditedPlanted(findings=found)

    def control(self, tar: str, work: Work[AuditUnit]) -> AuditedControl:
        """The faces of a tar of the control group, each without those of its own identity."""
        name, on_part = tar.replace(".tar", ".h5"), partial(work.progress, 0)
        path = self._run.stage_folder(FINGERPRINT).output(name)
        group = read_fingerprints(path, data=self._run.ledger.read(FINGERPRINT, name))
        copies = self._copies.search(group.pictures, identities=group.identities, on_batch=on_part)
        # Not with benchmarks and other sets: people of the control group may be in them, under other names.
        own = all_references(self._run, kinds=OWN_KINDS)
        found = search_control_group(group, own, centers=self._centers, copies=copies, on_part=on_part)
        return AuditedControl(findings=found)

    def _search(
        self, images: Images, *, keys: list[str], identities: list[str], probes: np.ndarray, progress: Progress
    ) -> Findings:
        """The nearest real faces; `progress` gets how many images were embedded, and 0 while they are compared."""
        batch = self._run.section(AuditFaces).batch
        features = audit_features(images, net=self._net, batch=batch, progress=progress)
        pixels = (images.rgb(row) for row in range(len(images)))
        return search(
            SyntheticFaces.of(keys, identities=identities, features=features, images=pixels),
            all_references(self._run),
            centers=self._centers,
            probes=probes,
            copies=self._copies.search_images(images, on_batch=partial(progress, 0)),
            on_part=partial(progress, 0),
        )
