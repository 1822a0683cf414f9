"""What a user sets about recognition nets and their training. Importing this module does not import torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from cemiface.values import Fraction, FrozenModel, Interval, require

RecognitionNet = Literal["ir18", "ir50", "ir100", "irse50", "mobilefacenet", "mobilefacenet_folded", "ir_tiny"]


class FoldedConfig(FrozenModel):
    """A MobileFaceNet whose batch norm is folded into the convolutions, as its weights file describes it."""

    dim: PositiveInt = Field(512, description="Width of the embedding, as the weights file describes it.")
    last: tuple[PositiveInt, PositiveInt] = Field(
        (7, 7), description="Height and width of the kernel of the global depthwise convolution."
    )
    act: Literal["prelu", "relu6", "relu"] = Field("prelu", description="Activation function after the convolutions.")
    stem_pw: bool = Field(
        False, description="Whether the second layer has a pointwise convolution after the depthwise one."
    )
    bgr: bool = Field(False, description="Whether the net takes the channels in the order BGR instead of RGB.")
    crop: tuple[int, int] | None = Field(
        None,
        description=(
            "First column kept and the column after the last, for nets that take 112x96 images. null: the whole width."
        ),
    )
    scale: tuple[float, float, float] = Field(
        (1.0, 1.0, 1.0), description="Factor per channel, applied to the [-1, 1] RGB image before `bgr` and `crop`."
    )
    shift: tuple[float, float, float] = Field(
        (0.0, 0.0, 0.0),
        description="Offset per channel, added to the [-1, 1] RGB image after `scale`, before `bgr` and `crop`.",
    )


class RecognitionConfig(FrozenModel):
    """A face recognition net: RGB in [-1, 1] at image_size in, one embedding out."""

    net: RecognitionNet = Field(
        "irse50",
        description=(
            "The backbone. The default, IR-SE50, is the paper's (section 4.1); ir18, ir50 and ir100 are those "
            "of table 10. ir_tiny is for demos on CPUs."
        ),
    )
    embedding: PositiveInt = Field(512, description="Width of the embedding. The default is the usual 512.")
    image_size: PositiveInt = Field(
        112,
        description=(
            "Side of the square images in pixels, a multiple of 16 (8 for ir_tiny). Cost grows with its "
            "square: 6.3 GMAC per image for IR-SE50 at 112."
        ),
    )
    color: Literal["RGB", "BGR"] = Field(
        "RGB",
        description=(
            "Channel order that the weights were trained on; images of the suite are always RGB and are "
            "reordered for the net."
        ),
    )
    shortcut: Literal["conv", "pool"] = Field(
        "conv",
        description=(
            "Shortcut of blocks that stride without widening: conv, a convolution, as in insightface's "
            "arcface_torch; pool subsamples, as AdaFace's nets do."
        ),
    )
    folded: FoldedConfig | None = Field(
        None,
        description=(
            "Layout of a MobileFaceNet with folded batch norms; read from the weights file's metadata. null "
            "for all other nets."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        rate = 8 if self.net == "ir_tiny" else 16
        require(self.image_size % rate == 0, "image_size", self.image_size, f"a multiple of {rate} for {self.net}")
        if self.net == "mobilefacenet_folded":
            require(self.folded is not None, "folded", None, "the layout in the weights file's metadata")
            require(self.color == "RGB", "color", self.color, "RGB; this net has folded.bgr instead")
        else:
            require(self.folded is None, "folded", "a layout", f"null for {self.net}")
        if self.folded is not None:
            require(self.embedding == self.folded.dim, "embedding", self.embedding, f"folded.dim {self.folded.dim}")
        return self


class MarginConfig(FrozenModel):
    """The margin softmax; the defaults are those recovered from the paper's released training log."""

    kind: Literal["cosface", "arcface", "adaface"] = Field(
        "cosface",
        description=(
            "The margin softmax loss. The default, CosFace, is the paper's for training on synthetic faces "
            "(section 4.1)."
        ),
    )
    scale: Annotated[float, Field(gt=0)] = Field(
        64.0,
        description=(
            "Factor s on the cosines. The paper does not state it; 64 follows from the first loss value of "
            "the released training log."
        ),
    )
    margin: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.4,
        description=(
            "Margin m of the loss, 0 to below 1; an angle in radians for arcface. The default is the paper's "
            "for CosFace (section 4.1)."
        ),
    )
    concentration: Annotated[float, Field(gt=0)] = Field(
        0.333,
        description=(
            "AdaFace's h, which sets how strongly the norm of an embedding changes its margin. The default is "
            "AdaFace's; the other losses ignore it."
        ),
    )
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = Field(
        0.01,
        description=(
            "Weight of a new batch in AdaFace's running mean and deviation of the norm, above 0 to 1. The "
            "other losses ignore it."
        ),
    )
    sample_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description=(
            "Fraction of the classes that take part in each step, above 0 to 1 (partial FC). Below 1 it saves "
            "memory and time with very many identities."
        ),
    )


class AugmentConfig(FrozenModel):
    """Augmentation for recognition training. The paper gives the ranges (section 4.1), not the probabilities.

    The probabilities are the usual ones of such transforms: crop and color always, erasing every second image.
    """

    crop_probability: Fraction = Field(
        1.0,
        description=(
            "Probability of a random square crop, resized to the full size. The paper does not state it "
            "(section 4.1); 1 is usual."
        ),
    )
    crop_area: Interval = Field(
        (0.9, 1.0),
        description=(
            "Smallest and largest area of the crop, as fractions of the image. The default is the paper's "
            "(section 4.1)."
        ),
    )
    color_probability: Fraction = Field(
        1.0,
        description=(
            "Probability of the changes of brightness, contrast, saturation and hue. The paper does not state "
            "it (section 4.1); 1 is usual."
        ),
    )
    brightness: Fraction = Field(
        0.1,
        description=(
            "Largest change of brightness, as a fraction, up or down. The default is the paper's (section 4.1)."
        ),
    )
    contrast: Fraction = Field(
        0.1,
        description="Largest change of contrast, as a fraction, up or down. The default is the paper's (section 4.1).",
    )
    saturation: Fraction = Field(
        0.1,
        description=(
            "Largest change of color saturation, as a fraction, up or down. The default is the paper's (section 4.1)."
        ),
    )
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.1,
        description=(
            "Largest shift of the hue, as a fraction of a full turn, 0 to 0.5. The default is the paper's "
            "(section 4.1)."
        ),
    )
    erase_probability: Fraction = Field(
        0.5,
        description=(
            "Probability that a random rectangle is erased. The paper does not state it (section 4.1); every "
            "second image is usual."
        ),
    )
    erase_area: Interval = Field(
        (0.02, 0.1),
        description=(
            "Smallest and largest area of the erased rectangle, as fractions of the image. The default is the "
            "paper's (section 4.1)."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field, (low, high) in (("crop_area", self.crop_area), ("erase_area", self.erase_area)):
            require(0 < low <= high, field, (low, high), "low above 0 and not above high")
        return self
