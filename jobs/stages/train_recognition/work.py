"""The work of both recognition trainings."""

from __future__ import annotations

from cemiface.recognition.nets import recognition_bytes
from jobs.frame.products import CLASSIFIER, EMBEDDER, WEIGHTS
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.stages.shared.gate.lineage import lineage_of_training
from jobs.stages.shared.sets import faces_of
from jobs.stages.train_recognition.plan import TrainEmbedder, TrainingUnit, TrainRecognition
from jobs.training.recognition import TrainingFiles, train
from shards.embeddings.classifier import classifier_bytes


def run_rank(run: Run, rank: Rank) -> None:
    for work in rank.remaining(TrainingUnit):
        _train(run, rank, work)


def _train(run: Run, rank: Rank, work: Work[TrainingUnit]) -> None:
    config: TrainRecognition = run.section(TrainEmbedder if rank.stage.name == EMBEDDER else TrainRecognition)
    faces = faces_of(run, kinds=config.sets)
    files = TrainingFiles(
        checkpoints=rank.folder.checkpoints, metrics=rank.folder.metrics, key=rank.fingerprint(work.unit)
    )
    trained = train(config, faces, seed=derive(run.seed, rank.stage.name), rank=rank, files=files)
    if trained.world_rank != 0:
        return
    lineage = lineage_of_training(run, sets=config.sets)
    work.publish(WEIGHTS, recognition_bytes(trained.net, config.recognition, lineage=lineage))
    if rank.stage.name == EMBEDDER:  # the paper takes its weight rows as the centers of the real identities
        assert trained.centers is not None
        work.publish(CLASSIFIER, classifier_bytes(trained.centers.numpy(), classes=faces.classes))
    work.done(
        images=trained.images,
        counts={"trained": trained.images},
        earlier_seconds=trained.earlier_seconds,
        figures={
            "classes": len(faces.classes),
            "images_in_set": len(faces),
            "parameters": sum(parameter.numel() for parameter in trained.net.parameters()),
            "world_size": trained.world_size,
            "resumed_after_images": trained.resumed_after,
        },
    )
