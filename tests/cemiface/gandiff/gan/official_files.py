"""Small pickles with random weights, laid out as the official ones of StyleGAN2 and StyleGAN3."""

from __future__ import annotations

import io
import math
import pickle
import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

FILTER = torch.tensor([1.0, 3.0, 3.0, 1.0]).outer(torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64


def _reconstruct_persistent_obj(meta: Any) -> None:
    raise AssertionError("the official code was called")


class EasyDict(dict):  # type: ignore[type-arg]
    """As the official code has it."""


class Persistent:
    """An object that is pickled as the official code pickles its modules: with its class's source beside it."""

    def __init__(self, name: str, **state: Any) -> None:
        self.name, self.state = name, state

    def __reduce__(self) -> Any:
        source = "raise AssertionError('the code inside the pickle was run')"
        meta = EasyDict(type="class", version=6, module_src=source, class_name=self.name, state=self.state)
        return _reconstruct_persistent_obj, (meta,)


def module(name: str, *, tensors: Mapping[str, Any] = {}, buffers: Mapping[str, Any] = {}, **rest: Any) -> Persistent:
    """A module with parameters, buffers, modules inside it (`rest`) and plain attributes (`rest`)."""
    inside = OrderedDict((key, value) for key, value in rest.items() if isinstance(value, Persistent))
    plain = {key: value for key, value in rest.items() if key not in inside}
    parameters = OrderedDict((key, torch.nn.Parameter(value)) for key, value in tensors.items())
    common = {"training": False, "_non_persistent_buffers_set": set(), "_backward_hooks": OrderedDict()}
    state = {**common, **plain, "_parameters": parameters, "_buffers": OrderedDict(buffers), "_modules": inside}
    return Persistent(name, _init_args=(), _init_kwargs={}, **state)


def linear(inputs: int, outputs: int, *, rate: float = 1.0, bias: float = 0.0) -> Persistent:
    tensors = {"weight": torch.randn(outputs, inputs) / rate, "bias": (torch.randn(outputs) * 0.1 + bias) / rate}
    return module("FullyConnectedLayer", tensors=tensors, weight_gain=rate / math.sqrt(inputs), bias_gain=rate)


def mapping(*, z: int, w: int, layers: int) -> Persistent:
    inside = {f"fc{n}": linear(w if n else z, w, rate=0.01) for n in range(layers)}
    return module("MappingNetwork", buffers={"w_avg": torch.randn(w)}, z_dim=z, c_dim=0, w_dim=w, **inside)


def stylegan2(*, z: int = 6, w: int = 5, widths: tuple[int, ...] = (8, 6, 4), **state: Any) -> Persistent:
    torch.manual_seed(0)
    blocks: dict[str, Any] = {}
    for level, width in enumerate(widths):
        side = 4 * 2**level
        inside = {"conv1": _layer2(width, width, side=side, w=w)}
        if level:
            inside["conv0"] = _layer2(widths[level - 1], width, side=side, w=w)
        inside["torgb"] = module(
            "ToRGBLayer",
            tensors={"weight": torch.randn(3, width, 1, 1), "bias": torch.randn(3)},
            affine=linear(w, width, bias=1.0),
        )
        const = {} if level else {"const": torch.randn(width, 4, 4)}
        blocks[f"b{side}"] = module(
            "SynthesisBlock", tensors=const, buffers={"resample_filter": FILTER}, architecture="skip", **inside
        )
    synthesis = module("SynthesisNetwork", img_resolution=side, block_resolutions=[4, 8, 16], **blocks)
    return module("Generator", **{
        "z_dim": z, "c_dim": 0, "w_dim": w, "img_resolution": side, "img_channels": 3, "synthesis": synthesis,
        "mapping": mapping(z=z, w=w, layers=2), **state,
    })  # fmt: skip


def _layer2(inputs: int, outputs: int, *, side: int, w: int) -> Persistent:
    tensors = {"weight": torch.randn(outputs, inputs, 3, 3), "bias": torch.randn(outputs)}
    return module(
        "SynthesisLayer",
        tensors={**tensors, "noise_strength": torch.tensor(0.3)},
        buffers={"resample_filter": FILTER, "noise_const": torch.randn(side, side)},
        affine=linear(w, inputs, bias=1.0),
        conv_clamp=256,
    )


def stylegan3(*, z: int = 6, w: int = 5, kernel: int = 3, radial: bool = False) -> Persistent:
    """Two layers and the one to RGB; from 8 to 16 px with a margin of 2, or with 1x1 kernels and a radial filter."""
    torch.manual_seed(0)
    start = module(
        "SynthesisInput",
        tensors={"weight": torch.randn(8, 8)},
        buffers={"transform": torch.eye(3), "freqs": torch.randn(8, 2) * 2, "phases": torch.rand(8) - 0.5},
        affine=linear(w, 4, bias=1.0), size=np.array([12, 12]), sampling_rate=np.float64(8), bandwidth=np.float64(2.0),
    )  # fmt: skip
    layers = [
        _layer3(8, 6, in_size=12, out_size=20, up=4, down=2, kernel=kernel, radial=radial, w=w),
        _layer3(6, 4, in_size=20, out_size=16, up=2, down=2, kernel=kernel, radial=False, w=w),
        _layer3(4, 3, in_size=16, out_size=16, up=1, down=1, kernel=1, radial=False, w=w, to_rgb=True),
    ]
    named = {f"L{n}_{size}_{width}": layer for n, (size, width, layer) in enumerate(layers)}
    synthesis = module("SynthesisNetwork", img_resolution=16, output_scale=0.25, input=start, **named)
    return module(
        "Generator", z_dim=z, c_dim=0, w_dim=w, img_resolution=16, img_channels=3,
        synthesis=synthesis, mapping=mapping(z=z, w=w, layers=2),
    )  # fmt: skip


def _layer3(
    inputs: int, outputs: int, *, in_size: int, out_size: int, up: int, down: int, kernel: int, radial: bool, w: int,
    to_rgb: bool = False,
) -> tuple[int, int, Persistent]:  # fmt: skip
    up_taps, down_taps = (1 if to_rgb else 6 * factor if factor > 1 else 1 for factor in (up, down))
    total = (out_size - 1) * down + 1 - (in_size + kernel - 1) * up + up_taps + down_taps - 2
    low = (total + up) // 2
    filters = {
        "up_filter": torch.rand(up_taps) / up_taps if up_taps > 1 else None,
        "down_filter": torch.rand((down_taps, down_taps) if radial else down_taps) / down_taps
        if down_taps > 1
        else None,
    }
    layer = module(
        "SynthesisLayer",
        tensors={"weight": torch.randn(outputs, inputs, kernel, kernel), "bias": torch.randn(outputs)},
        buffers={**filters, "magnitude_ema": torch.tensor(1.7)},
        affine=linear(w, inputs, bias=1.0), up_factor=np.int64(up), down_factor=down, is_torgb=to_rgb, conv_clamp=256,
        padding=[low, total - low, low, total - low], in_size=np.array([in_size] * 2),
    )  # fmt: skip
    return out_size, outputs, layer


def pickled(generator: object, path: Path, *, protocol: int = 3) -> Path:
    """Write the pickle under the names of the official packages."""
    with pytest.MonkeyPatch.context() as patch:
        for name, item in (("torch_utils.persistence", _reconstruct_persistent_obj), ("dnnlib.util", EasyDict)):
            package, fake = ModuleType(name.partition(".")[0]), ModuleType(name)
            setattr(fake, item.__name__, item)
            patch.setattr(item, "__module__", name)
            patch.setitem(sys.modules, package.__name__, package)
            patch.setitem(sys.modules, name, fake)
        data = io.BytesIO()
        pickle.dump({"G": None, "D": None, "G_ema": generator, "training_set_kwargs": EasyDict()}, data, protocol)
    path.write_bytes(data.getvalue())
    return path
