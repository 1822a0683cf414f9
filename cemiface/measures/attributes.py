"""Attributes of aligned faces, measured by small nets: gender, age, pose, expression, light, and a user's own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cemiface.errors import ModelError
from cemiface.measures.attribute_choice import LIGHT, choose_nets
from cemiface.measures.face_mesh import pose_and_expression
from cemiface.measures.net_cards import AttributeNet, NetInput, Output, Square
from cemiface.measures.runtimes import Runtime, numbers, open_net

TEMPLATE = 112  # pixels; the size that a card's square is given for
LUMA = (0.299, 0.587, 0.114)  # of red, green, blue (ITU-R BT.601)
FACE = Square(left=28, top=36, side=64)  # of the template: brows to mouth, little background


@dataclass(frozen=True, kw_only=True)
class OpenNet:
    """A net that is ready to run, and the attributes that are taken from it."""

    net: AttributeNet
    names: tuple[str, ...]
    runtime: Runtime

    def measure(self, face: np.ndarray) -> dict[str, float]:
        """The attributes of one aligned face, uint8 (S, S, 3)."""
        card = self.net.card
        given = self.runtime.run(net_input(face, square=card.square, form=card.input))
        found = {
            name: value for output in card.outputs for name, value in _read(output, numbers(output, given)).items()
        }
        return {name: found[name] for name in self.names}


@dataclass(frozen=True, kw_only=True)
class AttributeNets:
    """Nets for aligned faces of one size. `names` are the attributes that `measure` gives."""

    size: int
    nets: tuple[OpenNet, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (*(name for net in self.nets for name in net.names), LIGHT)

    def measure(self, faces: np.ndarray) -> dict[str, np.ndarray]:
        """The attributes of faces, float32 (N,) by name.

        Each face goes through the nets alone, so its values do not depend on the others.

        Args:
            faces: uint8 (N, 3, S, S), RGB, aligned on the ArcFace template; a CPU tensor works too.

        Raises:
            ModelError: faces of another type, shape or size.
        """
        faces = np.asarray(faces)
        if faces.dtype != np.uint8 or faces.ndim != 4 or faces.shape[1:] != (3, self.size, self.size):
            wanted = f"uint8 (N, 3, {self.size}, {self.size})"
            raise ModelError(f"faces: got {faces.dtype} {faces.shape}; allowed: {wanted}, as the nets were opened for")
        rows = [self._measure_one(np.ascontiguousarray(face.transpose(1, 2, 0))) for face in faces]
        return {name: np.array([row[name] for row in rows], dtype=np.float32) for name in self.names}

    def _measure_one(self, face: np.ndarray) -> dict[str, float]:
        found = {LIGHT: light(face)}
        for net in self.nets:
            found |= net.measure(face)
        return found


def open_attribute_nets(
    cards: Sequence[str | Path] = (), *, size: int, wanted: Collection[str] | None = None
) -> AttributeNets:
    """Open the embedded nets and the user's for faces of `size` px; arguments and errors are those of `choose_nets`."""
    chosen = choose_nets(cards, size=size, wanted=wanted)
    nets = (OpenNet(net=net, names=names, runtime=open_net(net)) for net, names in chosen.nets)
    return AttributeNets(size=size, nets=tuple(nets))


def net_input(face: np.ndarray, *, square: Square, form: NetInput) -> np.ndarray:
    """A square of an aligned face, uint8 (S, S, 3), as a net takes it: float32 with a leading 1."""
    return net_levels(cut_square(face, square=square, size=form.size), form=form)


def net_levels(view: np.ndarray, *, form: NetInput) -> np.ndarray:
    """An image of the net's size, uint8 (S, S, 3), normalized and with its axes in the net's order."""
    levels = view.astype(np.float32)
    if form.channels == "BGR":
        levels = levels[:, :, ::-1]
    mean, std = (np.array(channels, dtype=np.float32) for channels in (form.mean, form.std))
    levels = ((levels - mean) / std).astype(np.float32)
    return np.ascontiguousarray((levels.transpose(2, 0, 1) if form.layout == "NCHW" else levels)[None])


def cut_square(face: np.ndarray, *, square: Square, size: int) -> np.ndarray:
    """A square of the template from an aligned face, uint8 (S, S, 3), scaled to `size` px with antialiasing."""
    side = face.shape[0]
    scale = side / TEMPLATE
    left, top, width = square.left * scale, square.top * scale, square.side * scale
    outside = max(-left, -top, left + width - side, top + width - side, 0.0)
    margin = int(np.ceil(outside)) + 1
    padded = np.pad(face, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    box = (left + margin, top + margin, left + width + margin, top + width + margin)
    return np.asarray(Image.fromarray(padded).resize((size, size), Image.Resampling.BILINEAR, box=box))


def light(face: np.ndarray) -> float:
    """Mean luminance of the face's middle, 0 (black) to 1 (white), of an aligned face, uint8 (S, S, 3)."""
    levels = cut_square(face, square=FACE, size=32).astype(np.float64)
    return float((levels @ np.array(LUMA)).mean() / 255)


def _read(output: Output, found: np.ndarray) -> dict[str, float]:
    values = found.astype(np.float64)
    if output.kind == "mesh":
        return pose_and_expression(values.reshape(-1, 3))
    if output.activation == "softmax":
        values = np.exp(values - values.max())
        values /= values.sum()
    elif output.activation == "sigmoid":
        values = 1 / (1 + np.exp(-values))
    if output.kind == "expected":
        return {output.name: float(values @ np.array(output.values))}
    if output.kind == "probability":
        return {output.name: float(values[output.labels.index(output.name)])}
    if output.kind == "classes":
        return dict(zip(output.attributes, values.tolist(), strict=True))
    return {output.name: float(values[0]) * output.scale + output.offset}
