"""Names of stages, and of their files, that other stages read."""

from __future__ import annotations

# Kinds of tars: `<kind>-00012.tar`.
REAL = "real"  # real faces that nets may be trained on
HELD_OUT = "held-out"  # real people whom no net is trained on, for verification
KEPT_BACK = "kept-back"  # images of training people that no net is trained on, for the membership test
INQUIRY = "inquiry"  # real faces that a method used in another way than for training
ALSO = "also"  # other real sets that the audit compares with
SYNTHETIC = "synthetic"  # generated faces
REFILL = "refill"  # generated faces that replace dropped ones

# Stages.
SHARD, EMBED, EMBEDDER, RECOGNITION = "shard", "embed", "train-embedder", "train-recognition"
EVALUATE, FINGERPRINT, AUDIT, SETTLE, PUBLISH, REPORT = (
    "evaluate",
    "fingerprint",
    "audit",
    "settle",
    "publish",
    "report",
)

# Files.
MERGED = "embeddings.h5"  # of embed: all real training faces
WEIGHTS = "recognition.safetensors"  # of both recognition trainings
CLASSIFIER = "classifier.safetensors"  # of train-embedder: a weight row per real identity
CENTERS = "centers.h5"  # of fingerprint: centers of the real identities under the audit's net
PROBES = "probes.h5"  # of fingerprint: real faces, labeled by group, for a search for the nearest synthetic face
TRAINED, BENCHMARK = "trained", "benchmark"  # groups of probes, beside HELD_OUT and KEPT_BACK
VERDICT, CLOSEST = "verdict.json", "closest.jpg"  # of audit; settle writes a verdict of its own


def verification_file(model: str, benchmark: str) -> str:
    """The file of evaluate with the result of a net on a benchmark, or on the held-out people."""
    return f"verify-{model}.json" if benchmark == HELD_OUT else f"verify-{model}-{benchmark}.json"
