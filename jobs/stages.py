"""All stages in the order of the chain. A new stage is one file and one line here."""

from __future__ import annotations

from jobs import (
    audit_faces,
    calibrate_faces,
    embed_faces,
    evaluate_recognition,
    generate_faces,
    make_identities,
    publish_set,
    shard_faces,
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
        evaluate_recognition.STAGE,
        audit_faces.STAGE,
        publish_set.STAGE,
        write_report.STAGE,
    )
}
