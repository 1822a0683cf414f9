"""The recipe of a recognition training: the settings of the training log that the paper released."""

from __future__ import annotations

from pydantic import Field, model_validator

from cemiface.recognition.config import AugmentConfig, MarginConfig, RecognitionConfig
from jobs.frame.stage_config import StageConfig, operational


class Recipe(StageConfig):
    """How a recognition net is trained.

    The defaults follow the released log. The text of the paper differs: it drops the learning rate after 26 and 34
    epochs.
    """

    recognition: RecognitionConfig = Field(RecognitionConfig(), description="The recognition net that is trained.")
    margin: MarginConfig = Field(MarginConfig(), description="The margin softmax loss that it is trained with.")
    augment: AugmentConfig = Field(AugmentConfig(), description="Augmentation of the training images.")
    flip: bool = Field(True, description="Whether every second image is mirrored, at random (paper, section 4.1).")
    epochs: int = Field(
        40,
        ge=1,
        description=(
            "Passes over the training images. The default is the paper's (section 4.1): 10.7 hours on the one "
            "GPU of the released log, for 550,000 images."
        ),
    )
    batch: int = Field(
        512, ge=2, description="Images per step over all ranks. The default is that of the released log, on one GPU."
    )
    learning_rate: float = Field(
        0.1, gt=0, description="Learning rate of SGD at the start. The default is the paper's (section 4.1)."
    )
    momentum: float = Field(
        0.9, ge=0, lt=1, description="Momentum of SGD, 0 to below 1. The default is that of the released log."
    )
    weight_decay: float = Field(
        5e-4, ge=0, description="Weight decay of SGD. The default is the paper's (section 4.1)."
    )
    drop_after_epochs: tuple[int, ...] = Field(
        (24, 30, 36),
        description=(
            "Epochs, in rising order, after which the learning rate is multiplied by 0.1. The default is that "
            "of the released log; the paper's text has 26 and 34."
        ),
    )
    gradient_clipping: float = Field(
        5.0,
        gt=0,
        description="Largest norm of the gradient of the backbone. The paper does not state it; 5 is insightface's.",
    )
    sync_norm: bool = Field(
        True,
        description=(
            "Whether batch norm takes its statistics over the batch of all ranks, as on the one GPU of the "
            "released log. Without it, results depend on the number of ranks."
        ),
    )
    checkpoint_images: int = Field(
        500_000,
        ge=1,
        description=(
            "Images between two checkpoints, which a resumed training starts from. More lose more work when a "
            "job ends early; fewer cost more time for writing."
        ),
        json_schema_extra=operational(),
    )
    log_images: int = Field(
        10_000, ge=1, description="Images between two lines of the metrics file.", json_schema_extra=operational()
    )

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if list(self.drop_after_epochs) != sorted(set(self.drop_after_epochs)):
            raise ValueError(f"drop_after_epochs: got {self.drop_after_epochs}; allowed: rising epochs")
        return self

    def learning_rate_of(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return self.learning_rate * 0.1 ** sum(epoch >= after for after in self.drop_after_epochs)
