"""Recognition nets that the config brings, as far as their files describe them: refusals before anything runs."""

from __future__ import annotations

from cemiface.errors import ModelError
from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.head import recognition_head
from jobs.frame.errors import ConfigError
from jobs.frame.experiment_config import EmbedderConfig
from jobs.frame.run import Run
from jobs.stages.train_recognition.plan import TrainEmbedder


def given_net(run: Run, field: str, given: EmbedderConfig) -> RecognitionConfig | None:
    """The net of a weights file that `field` names; None without one, or if only its tensors tell.

    Raises:
        ConfigError: there is no such file, or a color order without one.
        ModelError: no recognition net can be loaded from it.
    """
    if given.weights is None:
        if given.color is not None:
            raise ConfigError(f"{field}.color: got {given.color} without weights; allowed: null; give {field}.weights")
        return None
    path = run.given_file(f"{field}.weights", given.weights, give="a recognition net's weights")
    try:
        return recognition_head(path, color=given.color)
    except ModelError as error:
        raise ModelError(f"{field}.weights: {error}") from None


def given_embedder(run: Run) -> RecognitionConfig | None:
    """E_id, if the config brings it; see `given_net`."""
    return given_net(run, "embedder", run.config.embedder)


def embedding_width(run: Run) -> int | None:
    """The width of E_id's embeddings; None if that is not known before it is loaded."""
    net = given_embedder(run)
    if run.config.embedder.weights is None:
        training = run.find(TrainEmbedder)
        net = training.recognition if training else None
    return net.embedding if net else None
