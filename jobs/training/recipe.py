"""The recipe of a recognition net, and the loop that follows it: the released training log of the paper, in full."""

from __future__ import annotations

from pydantic import Field, model_validator

from cemiface.recognition.config import AugmentConfig, MarginConfig, RecognitionConfig
from jobs.frame.stage_config import StageConfig, operational


class Recipe(StageConfig):
    """The defaults are those of the released log, not of the paper's text, which drops after 26 and 34 epochs."""

    recognition: RecognitionConfig = RecognitionConfig()
    margin: MarginConfig = MarginConfig()
    augment: AugmentConfig = AugmentConfig()
    flip: bool = True  # every second image, mirrored
    epochs: int = Field(40, ge=1)
    batch: int = Field(512, ge=2)  # global
    learning_rate: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    drop_after_epochs: tuple[int, ...] = (24, 30, 36)  # learning rate x 0.1 after each
    gradient_clipping: float = Field(5.0, gt=0)  # of the backbone's norm
    sync_norm: bool = True  # batch norm over the global batch, as on the one GPU of the log, whatever the ranks
    checkpoint_images: int = Field(500_000, ge=1, json_schema_extra=operational())
    log_images: int = Field(10_000, ge=1, json_schema_extra=operational())

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if list(self.drop_after_epochs) != sorted(set(self.drop_after_epochs)):
            raise ValueError(f"drop_after_epochs: got {self.drop_after_epochs}; allowed: rising epochs")
        return self

    def learning_rate_of(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return self.learning_rate * 0.1 ** sum(epoch >= after for after in self.drop_after_epochs)
