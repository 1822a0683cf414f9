"""Searches the references that pictures may be altered copies of, one block of references at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np

from shards.embeddings.nearest import slices
from shards.privacy.copies.hypotheses import FAMILIES
from shards.privacy.copies.model import TAIL, TAIL_MEAN, CopyModel
from shards.privacy.copies.scores import DIGITS, CopyScores

QUERIES = 16  # whose templates are made together: 24 MB

REFERENCES = 2048  # compared at once with the templates of a query: their scores fit into the cache

BLOCK = 8192  # references that are prepared together

LIMIT = 99.0  # of scores either way; JSON has no infinity

# Takes templates (K, 400), prepared references (M, 400) and their scales (P, M); returns the best absolute score of
# each family for each reference, (F, M). There is another one that runs on a GPU.
FamilyScores = Callable[[np.ndarray, np.ndarray, np.ndarray, CopyModel], np.ndarray]


def family_scores(templates: np.ndarray, references: np.ndarray, scales: np.ndarray, model: CopyModel) -> np.ndarray:
    """(F, M) best absolute score of each family for each of M references, by numpy."""
    found = np.empty((len(FAMILIES), len(references)), np.float32)
    firsts = np.searchsorted(model.owner, np.arange(len(scales) + 1))
    for part in slices(len(references), REFERENCES):
        scores = templates @ references[part].T
        np.abs(scores, out=scores)
        of_comparison = np.stack([scores[a:b].max(axis=0) for a, b in pairwise(firsts)])
        of_comparison *= scales[:, part]
        found[:, part] = np.maximum.reduceat(of_comparison, model.first_of_family, axis=0)
    return found


class Pictured(Protocol):
    """N real images with their pictures: `Fingerprints`.

    Attributes:
        keys, identities: N names each.
        pictures: (N, 1024) uint8, or none at all.
    """

    @property
    def keys(self) -> Sequence[str]: ...

    @property
    def identities(self) -> Sequence[str]: ...

    @property
    def pictures(self) -> np.ndarray: ...


class CopySearch:
    """For each of N pictures, the best reference in each family of alterations among all that were added.

    Memory: 48 bytes per picture and family, and 70 MB.
    """

    def __init__(
        self,
        model: CopyModel,
        pictures: np.ndarray,
        *,
        identities: Sequence[str] = (),
        scorer: FamilyScores = family_scores,
        on_batch: Callable[[], None] = lambda: None,
    ) -> None:
        """Start a search.

        Args:
            pictures: (N, 1024) uint8.
            identities: of each picture; if given, references of its own identity are left out.
            on_batch: called after each few pictures; may raise to stop.
        """
        self._model, self._pictures, self._scorer, self._on_batch = model, pictures, scorer, on_batch
        self._identities = np.asarray(identities, object)
        self._usual: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by first row of a batch
        self._score = np.full((len(pictures), len(FAMILIES)), -np.inf, np.float32)
        self._real = np.full((len(pictures), len(FAMILIES)), "", object)
        self._waiting: list[Pictured] = []
        self._references = 0

    def add(self, part: Pictured) -> None:
        """Compare all pictures with those of a part of the references, if it has any. Small parts wait for others."""
        if len(part.pictures):
            self._waiting.append(part)
        if sum(len(waiting.keys) for waiting in self._waiting) >= BLOCK:
            self._compare()

    def scores(self, keys: Sequence[str]) -> CopyScores:
        """What was found; `keys` are those of the pictures."""
        self._compare()
        score = self._score.clip(-LIMIT, LIMIT).astype(float).round(DIGITS)
        return CopyScores(
            keys=list(keys),
            references=self._references,
            scores={family: score[:, column].tolist() for column, family in enumerate(FAMILIES)},
            real={family: self._real[:, column].tolist() for column, family in enumerate(FAMILIES)},
        )

    def _compare(self) -> None:
        """Compare with all references that wait."""
        if not self._waiting:
            return
        references = self._model.prepared(np.concatenate([part.pictures for part in self._waiting]))
        names = np.array([key for part in self._waiting for key in part.keys], object)
        owners = np.array([identity for part in self._waiting for identity in part.identities], object)
        self._waiting, scales = [], self._model.scales(references)
        self._references += len(references)
        for batch in slices(len(self._pictures), QUERIES):
            templates = self._model.templates(self._pictures[batch])
            spreads, usual = self._usual_scores(batch.start, templates)
            templates /= spreads[:, :, None]
            for place, row in enumerate(range(batch.start, batch.stop)):
                found = self._scorer(templates[place], references, scales, self._model) - usual[place][:, None]
                if len(self._identities):
                    found[:, owners == self._identities[row]] = -np.inf
                self._keep(row, found, names)
            self._on_batch()

    def _keep(self, row: int, found: np.ndarray, names: np.ndarray) -> None:
        """Keep the best of the scores (F, M) of a picture where they are better than before."""
        best = found.argmax(axis=1)
        score = found[np.arange(len(best)), best]
        better = score > self._score[row]
        self._score[row] = np.where(better, score, self._score[row])
        self._real[row] = np.where(better, names[best], self._real[row])

    def _usual_scores(self, first: int, templates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The spread of each template's scores over the bank (N, K), and what families reach in it (N, F)."""
        if first not in self._usual:
            found = [_usual(own, self._model) for own in templates]
            self._usual[first] = (np.stack([spread for spread, _ in found]), np.stack([level for _, level in found]))
        return self._usual[first]


def _usual(templates: np.ndarray, model: CopyModel) -> tuple[np.ndarray, np.ndarray]:
    """Spread (K,) and usual level (F,) from the highest 2 % of the scores over the bank."""
    scores = np.abs(templates @ model.bank.T)
    scores *= model.bank_scale[model.owner]
    spread = np.maximum(_top(scores) / TAIL_MEAN, 1e-4)
    scores /= spread[:, None]
    families = np.maximum.reduceat(scores, np.searchsorted(model.owner, model.first_of_family), axis=0)
    return spread, _top(families)


def _top(scores: np.ndarray) -> np.ndarray:
    """Mean of the highest 2 % of each row, at least 4, without the highest, which may be that of a copy's original."""
    count = max(4, scores.shape[1] // TAIL)
    top = np.partition(scores, -count - 1, axis=1)[:, -count - 1 :]
    mean: np.ndarray = (top.sum(axis=1) - top.max(axis=1)) / count
    return mean
