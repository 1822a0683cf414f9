"""From an official pickle to a safetensors file with the generator alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cemiface.errors import ModelError
from cemiface.gandiff.gan.stylegan.config import MappingConfig, StyleGan2Config, StyleGan3Config
from cemiface.gandiff.gan.stylegan.mapping import StyleGan
from cemiface.gandiff.gan.stylegan.pickles import Array, Stored, read_official
from cemiface.gandiff.gan.stylegan.stylegan2 import StyleGan2
from cemiface.gandiff.gan.stylegan.stylegan3 import StyleGan3
from cemiface.weights import built, weights_bytes

ARCHITECTURES: dict[str, tuple[type[MappingConfig], type[StyleGan]]] = {
    "stylegan2": (StyleGan2Config, StyleGan2),
    "stylegan3": (StyleGan3Config, StyleGan3),
}


def converted(path: str | Path, *, license: str, origin: str, lineage: str = "") -> bytes:  # noqa: A002 (its name)
    """The safetensors file of the averaged generator in an official pickle.

    Args:
        license: of the weights, as their publisher states it.
        origin: where the file is from.
        lineage: see `weights_bytes`.

    Raises:
        ModelError: as `read_official`; or the generator has conditions, no RGB output, or another architecture.
    """
    stored = read_official(path)
    if stored.state.get("c_dim", 0) != 0:
        raise ModelError(f"generator {path}: it has a condition on classes; allowed: generators without one")
    if stored.state.get("img_channels", 3) != 3:
        raise ModelError(f"generator {path}: it makes {stored.state['img_channels']} channels; allowed: 3, RGB")
    try:
        tensors = {name: tensor.float() for name, tensor in stored.tensors().items()}
        architecture, config = _described(stored, tensors)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelError(
            f"generator {path}: not laid out as StyleGAN2 or StyleGAN3 ({str(error).partition(chr(10))[0][:100]})"
        ) from None
    net = built(lambda: _net(architecture, config), tensors, path=path)
    metadata = {"architecture": architecture, "config": config.model_dump_json()}
    return weights_bytes(net, metadata={**metadata, "license": license, "origin": origin}, lineage=lineage)


def build(architecture: str, config: str, tensors: Mapping[str, Tensor], *, path: str | Path) -> StyleGan:
    """The generator of a file that `converted` made, from its metadata and tensors.

    Raises:
        ValidationError: the config cannot be.
        ModelError: the tensors do not fit it.
    """
    shape = ARCHITECTURES[architecture][0].model_validate_json(config)
    return built(lambda: _net(architecture, shape), tensors, path=path)


def _net(architecture: str, config: MappingConfig) -> StyleGan:
    net: StyleGan = ARCHITECTURES[architecture][1](config)  # type: ignore[call-arg]
    return net


def _described(stored: Stored, tensors: Mapping[str, Tensor]) -> tuple[str, MappingConfig]:
    parts = stored.modules()
    mapping, synthesis = parts["mapping"].modules(), parts["synthesis"]
    layers = sum(re.fullmatch(r"fc\d+", name) is not None for name in mapping)
    first, last = (tensors[f"mapping.fc{number}.weight"] for number in (0, layers - 1))
    shared = {
        "z_width": first.shape[1],
        "w_width": last.shape[0],
        "mapping_layers": layers,
        "mapping_rate": float(mapping["fc0"].state["bias_gain"]),
    }
    if "synthesis.input.freqs" in tensors:
        return "stylegan3", StyleGan3Config(**shared, **_stylegan3(synthesis, tensors))
    return "stylegan2", StyleGan2Config(**shared, **_stylegan2(synthesis, tensors))


def _stylegan2(synthesis: Stored, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    blocks = synthesis.modules()
    sides = [4 * 2**level for level in range(len(blocks))]
    for block in blocks.values():
        if block.state.get("architecture", "skip") != "skip":
            raise ValueError(f"an architecture {str(block.state['architecture'])[:20]!r}, allowed: skip")
    last = blocks[f"b{sides[-1]}"].modules()["conv1"]
    widths = tuple(tensors[f"synthesis.b{side}.conv1.weight"].shape[0] for side in sides)
    return {"widths": widths, "clamp": last.state.get("conv_clamp")}


def _stylegan3(synthesis: Stored, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    start = synthesis.modules()["input"].state
    named = [(name, part) for name, part in synthesis.modules().items() if name.startswith("L")]
    named.sort(key=lambda one: int(one[0][1:].partition("_")[0]))
    return {
        "image_size": int(synthesis.state["img_resolution"]),
        "input_channels": tensors["synthesis.input.weight"].shape[0],
        "input_size": tuple(_numbers(start["size"])),
        "sampling_rate": float(start["sampling_rate"]),
        "bandwidth": float(start["bandwidth"]),
        "output_scale": float(synthesis.state["output_scale"]),
        "layers": tuple(_layer(name, part.state, tensors) for name, part in named),
    }


def _layer(name: str, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    def taps(kind: str) -> tuple[int, ...] | None:
        found = tensors.get(f"synthesis.{name}.{kind}")
        return None if found is None else tuple(found.shape)

    weight = tensors[f"synthesis.{name}.weight"]
    return {
        "name": name,
        "inputs": weight.shape[1],
        "outputs": weight.shape[0],
        "kernel": weight.shape[2],
        "up": int(state["up_factor"]),
        "down": int(state["down_factor"]),
        "padding": tuple(_numbers(state["padding"])),
        "up_taps": taps("up_filter"),
        "down_taps": taps("down_filter"),
        "to_rgb": bool(state["is_torgb"]),
        "clamp": state.get("conv_clamp"),
    }


def _numbers(value: Any) -> list[int]:
    return [int(one) for one in (value.numbers if isinstance(value, Array) else value)]
