"""The verdict as it may be published: the audit's net by its kind and hash, benchmarks of the user's by number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jobs.frame.products import BENCHMARK, EMBEDDER, FINGERPRINT, WEIGHTS
from jobs.frame.run import Run
from jobs.report.published_systems import BENCHMARKS
from jobs.stages.fingerprint.plan import FingerprintFaces
from shards.privacy.verdict import Verdict

KNOWN = {"".join(letter for letter in name.lower() if letter.isalnum()) for name in BENCHMARKS}


def public_verdict(run: Run, verdict: Verdict) -> Verdict:
    """The verdict without names that users chose: of weights files and of benchmarks."""
    figures = dict(verdict.figures)
    if figures.get("overlap"):
        figures["overlap"] = _overlap(figures["overlap"])
    return replace(verdict, embedder=_net(run, verdict), figures=figures)


def _net(run: Run, verdict: Verdict) -> str:
    """The kind of the audit's net, and the first half of its sha256 as the stages recorded it."""
    judge, summary = run.section(FingerprintFaces).judge.weights, run.ledger.summary(FINGERPRINT)
    files: Mapping[str, str] = summary.fingerprint.get("files", {}) if summary else {}
    if judge is None and run.config.embedder.weights is None:
        kind, sha256 = "E_id, trained in this run", run.ledger.output_record(EMBEDDER, WEIGHTS).sha256
    else:
        field = "embedder.weights" if judge is None else "fingerprint.judge.weights"
        kind, sha256 = "a given recognition net" if judge else "E_id, a given recognition net", files.get(field, "")
    return f"{kind}, sha256 {sha256[:32] or 'not recorded'}"


def _overlap(found: Mapping[str, Any]) -> dict[str, Any]:
    """Benchmarks with a name that the field knows keep it; the others are numbered."""
    public: dict[str, Any] = {}
    for number, (group, counts) in enumerate(found.items(), start=1):
        kind, _, name = group.partition("-")
        private = kind == BENCHMARK and not _is_known(name)
        public[f"{BENCHMARK}-{number}" if private else group] = counts
    return public


def _is_known(name: str) -> bool:
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return plain in KNOWN or any(plain == known.removesuffix("30") for known in KNOWN)
