"""The search for altered copies of the run's real faces: its model, and its product on the rank's device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch

from jobs.frame.products import FINGERPRINT, REAL
from jobs.frame.run import Run
from jobs.frame.verdicts import reference_files
from jobs.stages.audit.plan import AuditFaces
from jobs.stages.shared.embedding import Images
from shards.privacy.copies.model import SAMPLE, CopyModel
from shards.privacy.copies.pictures import gray_pictures
from shards.privacy.copies.search import CopySearch, FamilyScores, family_scores
from shards.privacy.fingerprints import read_fingerprints

PART = 65_536  # references compared at once on a GPU: 220 MB of scores


class CopyFinder:
    """Searches for altered copies, if the config asks for it. What it learns from the references, it learns once."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        self.run, self.device = run, device
        self.asked = run.section(AuditFaces).copies == "thorough"

    def search_images(self, images: Images, *, on_batch: Callable[[], None]) -> CopySearch | None:
        """A search for N images; None if it is not asked for."""
        if not self.asked:
            return None
        pictures = gray_pictures(images.rgb(row) for row in range(len(images)))
        return self.search(pictures, on_batch=on_batch)

    def search(
        self, pictures: np.ndarray, *, identities: Sequence[str] = (), on_batch: Callable[[], None]
    ) -> CopySearch | None:
        """A search for pictures (N, 1024), without references of their own identities; None if it is not asked for."""
        if not self.asked:
            return None
        scorer: FamilyScores = family_scores if self.device.type == "cpu" else OnDevice(self.device)
        return CopySearch(self._model, pictures, identities=identities, scorer=scorer, on_batch=on_batch)

    @cached_property
    def _model(self) -> CopyModel:
        """From the training faces, evenly out of all files: the same one in every stage."""
        files = reference_files(self.run, kinds=(REAL,))
        most = -(-SAMPLE // max(1, len(files)))
        found = []
        for path in files:
            pictures = read_fingerprints(path, data=self.run.ledger.read(FINGERPRINT, path.name)).pictures
            found.append(pictures[:: max(1, -(-len(pictures) // most))])
        return CopyModel(np.concatenate(found))


class OnDevice:
    """`family_scores` on a GPU. The references stay there until others come."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held: tuple[np.ndarray, torch.Tensor, torch.Tensor] | None = None

    def __call__(
        self, templates: np.ndarray, references: np.ndarray, scales: np.ndarray, model: CopyModel
    ) -> np.ndarray:
        """(F, M) best absolute score of each family for each reference."""
        if self._held is None or self._held[0] is not references:
            moved = [torch.from_numpy(array).to(self._device) for array in (references, scales)]
            self._held = (references, moved[0], moved[1])
        _, held, held_scales = self._held
        owner = torch.from_numpy(model.owner).to(self._device)
        ends = [*model.first_of_family[1:].tolist(), len(scales)]
        left = torch.from_numpy(templates).to(self._device)
        found = []
        for first in range(0, len(references), PART):
            scores = (left @ held[first : first + PART].T).abs_()
            best = torch.zeros((len(scales), scores.shape[1]), device=self._device)
            best.scatter_reduce_(0, owner[:, None].expand_as(scores), scores, "amax")
            best *= held_scales[:, first : first + PART]
            starts = zip(model.first_of_family.tolist(), ends, strict=True)
            found.append(torch.stack([best[a:b].amax(dim=0) for a, b in starts]))
        return np.asarray(torch.cat(found, dim=1).cpu().numpy(), np.float32)
