"""Cards of attribute nets: what a net file takes, what it gives, and how well. Imports neither torch nor a runtime.

A card is a JSON file beside the net. The suite's own are in `embedded`; a user's net is a card file that a config
names. Coordinates are pixels of the ArcFace template at 112 px, so that one card serves aligned faces of any size.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from cemiface.errors import ModelError
from cemiface.values import FrozenModel, require

EMBEDDED = Path(__file__).parent / "embedded"
SUFFIXES = (".onnx", ".tflite")
MESH = ("yaw", "pitch", "roll", "mouth", "smile", "eyes")  # what the points of the face mesh give
MAX_CARD = 2**20  # bytes
MAX_NET = 2**31  # bytes; what a file of either format can have

Triple = tuple[float, float, float]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="small letters, digits, _ and -")]
Text = Annotated[str, Field(min_length=1, max_length=500)]


class Square(FrozenModel):
    """The part of the template that the net sees; outside of the image its edge is repeated."""

    left: float = Field(ge=-112, le=112, description="pixels of the 112 px template")
    top: float = Field(ge=-112, le=112, description="pixels of the 112 px template")
    side: float = Field(gt=8, le=336, description="pixels of the 112 px template")


class NetInput(FrozenModel):
    """The net's input: the square, scaled to `size` px; a level of 0 to 255 becomes (level - mean) / std."""

    size: int = Field(ge=8, le=1024, description="pixels")
    layout: Literal["NCHW", "NHWC"]
    channels: Literal["RGB", "BGR"] = "RGB"
    mean: Triple = Field(description="levels of 0 to 255, in the order of the channels")
    std: Triple = Field(description="levels of 0 to 255, in the order of the channels")

    @model_validator(mode="after")
    def _checked(self) -> Self:
        require(min(self.std) > 0, "std", self.std, "three numbers above 0")
        return self


class ErrorMatrix(FrozenModel):
    """How often each class was taken for each other one, on labeled data that the net did not learn from."""

    counts: tuple[tuple[Annotated[int, Field(ge=0)], ...], ...] = Field(
        description="a row per true label, a column per answer, in the order of the labels"
    )
    data: Text = Field(description="the labeled images")
    size: int = Field(ge=1, description="pixels of the aligned faces")
    date: Text


class Output(FrozenModel):
    """Numbers of one of the net's output tensors, and the attributes that they are.

    `value`: one number, times `scale` plus `offset`. `probability`: of the label `name` among the labels. `expected`:
    the mean of `values` under the labels' probabilities. `classes`: an attribute `<name>.<label>` for each label.
    `mesh`: 468 points (x, y, z), from which yaw, pitch, roll, mouth, smile and eyes follow. `raw`: no attribute.
    """

    kind: Literal["value", "probability", "expected", "classes", "mesh", "raw"]
    name: Name
    tensor: str = Field(default="", description="the output tensor's name; may be left out if there is one")
    first: int = Field(default=0, ge=0, description="where the numbers begin in the flattened tensor")
    labels: tuple[Name, ...] = ()
    values: tuple[float, ...] = ()
    activation: Literal["none", "sigmoid", "softmax"] = Field(
        default="none", description="applied here, not in the net"
    )
    scale: float = 1.0
    offset: float = 0.0
    error_matrix: ErrorMatrix | None = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        several = self.kind in ("probability", "classes")
        require(not several or len(set(self.labels)) >= 2, "labels", list(self.labels), "two labels or more")
        require(len(set(self.labels)) == len(self.labels), "labels", list(self.labels), "each label once")
        require(self.kind != "expected" or len(self.values) >= 2, "values", list(self.values), "two numbers or more")
        require(self.kind != "probability" or self.name in self.labels, "name", self.name, f"one of {self.labels}")
        if self.kind == "classes":
            matrix = self.error_matrix
            require(matrix is not None, "error_matrix", "nothing", "counts on labeled data, for an output of classes")
            shape = [len(row) for row in matrix.counts] if matrix else []
            count = len(self.labels)
            require(shape == [count] * count, "error_matrix.counts", f"rows of {shape}", f"{count} rows of {count}")
        return self

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names under which `AttributeNets.measure` gives what this output says."""
        if self.kind == "mesh":
            return MESH
        if self.kind == "raw":
            return ()
        return tuple(f"{self.name}.{label}" for label in self.labels) if self.kind == "classes" else (self.name,)

    @property
    def count(self) -> int:
        """Of the numbers that it takes from the tensor; of `raw` all."""
        counts = {"value": 1, "expected": len(self.values), "mesh": 468 * 3, "raw": 0}
        return counts.get(self.kind, len(self.labels))


class Measured(FrozenModel):
    """One measured error of the net."""

    what: Text
    value: float
    interval: tuple[float, float] | None = Field(default=None, description="95 %")
    size: int = Field(ge=1, description="pixels of the aligned faces")
    images: int = Field(ge=1)
    data: Text
    date: Text


class NetCard(FrozenModel):
    """What a net file is. The fields are those of the JSON file."""

    name: Name
    file: str = Field(pattern=r"^[^/\\]+$", description="the net, beside the card: .onnx or .tflite")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the net's file")
    square: Square
    input: NetInput
    outputs: tuple[Output, ...] = Field(min_length=1)
    smallest_face: int = Field(ge=8, le=1024, description="pixels of the aligned face, below which the net is refused")
    origin: Text
    license: Text
    measured: tuple[Measured, ...] = ()

    @model_validator(mode="after")
    def _checked(self) -> Self:
        require(Path(self.file).suffix in SUFFIXES, "file", self.file, f"a file that ends with {' or '.join(SUFFIXES)}")
        names = self.attributes
        require(len(set(names)) == len(names), "outputs", list(names), "each attribute once")
        return self

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(name for output in self.outputs for name in output.attributes)


class AttributeNet(FrozenModel):
    """A card and where it lies."""

    path: Path
    card: NetCard

    def read(self) -> bytes:
        """The net's file; raises ModelError if it is missing or is not the one that the card describes."""
        path = self.path.parent / self.card.file
        try:
            if path.stat().st_size > MAX_NET:
                raise ModelError(f"{path}: got {path.stat().st_size:,} bytes; allowed: {MAX_NET:,}")
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{self.path}: file: {path}: {error.strerror}; put the net beside its card") from None
        found = hashlib.sha256(data).hexdigest()
        if found != self.card.sha256:
            raise ModelError(f"{self.path}: sha256: the card says {self.card.sha256}, {path} has {found}")
        return data


def read_card(path: str | Path) -> AttributeNet:
    """The net that a card file describes; its own file is not read yet. Raises ModelError in one line."""
    path = Path(path)
    if path.suffix in SUFFIXES:
        raise ModelError(f"{path}: a net; give its card, a JSON file that says what the net takes and gives")
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_CARD else b""
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; give the card of an attribute net, a JSON file") from None
    if not data:
        raise ModelError(f"{path}: got {path.stat().st_size:,} bytes; a card of a net has 1 to {MAX_CARD:,}")
    try:
        return AttributeNet(path=path, card=NetCard.model_validate(json.loads(data)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"{path}: {where}{': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not the JSON of a card: {str(error)[:160]}") from None
