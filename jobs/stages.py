"""All stages in the order of the chain. A new stage is one file and one line here."""

from __future__ import annotations

from jobs import (
    audit_faces,
    calibrate_faces,
    convert_benchmarks,
    embed_faces,
    evaluate_recognition,
    fingerprint_faces,
    generate_faces,
    make_identities,
    publish_set,
    refill_faces,
    settle_set,
    shard_faces,
    study_sets,
    study_similarity,
    train_diffusion,
    train_recognition,
    write_report,
)
from jobs.stage import Stage

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        shard_faces.STAGE,
        train_recognition.EMBEDDER_STAGE,
        embed_faces.STAGE,
        train_diffusion.STAGE,
        make_identities.STAGE,
        calibrate_faces.STAGE,
        generate_faces.STAGE,
        train_recognition.STAGE,
        convert_benchmarks.STAGE,
        study_similarity.STAGE,
        study_similarity.M_STAGE,
        study_sets.STAGE,
        evaluate_recognition.STAGE,
        fingerprint_faces.STAGE,
        audit_faces.STAGE,
        refill_faces.STAGE,
        settle_set.STAGE,
        publish_set.STAGE,
        write_report.STAGE,
    )
}
