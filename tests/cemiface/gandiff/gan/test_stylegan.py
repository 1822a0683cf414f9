"""Given StyleGAN generators: nothing in their pickles runs, and layers compute what the papers' formulas say."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cemiface.errors import ModelError
from cemiface.gandiff.gan.generator import StyleGenerator, load_generator
from cemiface.gandiff.gan.stylegan.convert import converted
from cemiface.gandiff.gan.stylegan.pickles import Stored, read_official
from cemiface.gandiff.gan.stylegan.resample import resample
from cemiface.gandiff.gan.stylegan.stylegan2 import StyleGan2
from cemiface.gandiff.gan.stylegan.stylegan3 import StyleGan3
from cemiface.weights import read_weights

from .official_files import FILTER, EasyDict, Persistent, module, pickled, stylegan2, stylegan3

GENERATORS = {
    "stylegan2": lambda: stylegan2(),
    "stylegan3-t": lambda: stylegan3(),
    "stylegan3-r": lambda: stylegan3(kernel=1, radial=True),
}


def _loaded(generator: Persistent, folder: Path) -> Any:
    path = folder / "generator.safetensors"
    path.write_bytes(converted(pickled(generator, folder / "official.pkl"), license="CC BY 4.0", origin="a test"))
    return load_generator(path)


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("protocol", [3, 4])
def test_an_official_pickle_is_converted_once_and_loaded(name: str, protocol: int, tmp_path: Path) -> None:
    official = pickled(GENERATORS[name](), tmp_path / "official.pkl", protocol=protocol)
    path = tmp_path / "generator.safetensors"
    path.write_bytes(converted(official, license="CC BY 4.0", origin="a test"))
    metadata = read_weights(path)[1]
    assert (metadata["architecture"], metadata["license"]) == (name[:9], "CC BY 4.0")
    generator: StyleGenerator = load_generator(path)
    assert (generator.image_size, generator.z_width, generator.w_width) == (16, 6, 5)
    w = generator.mapping(torch.randn(3, 6))
    faces = generator.synthesis(w)
    assert faces.shape == (3, 3, 16, 16)
    assert torch.isfinite(faces).all()
    assert torch.equal(faces, generator.synthesis(w))
    torch.testing.assert_close(generator.synthesis(w[1:2]), faces[1:2], rtol=1e-4, atol=1e-5)
    state = read_official(official).tensors()
    assert torch.equal(generator.w_mean, state["mapping.w_avg"])
    assert set(read_weights(path)[0]) == set(state)


class Hostile:
    """An object whose pickle would run a program."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.program),)


@pytest.mark.parametrize("hidden", [True, False])
def test_a_hostile_pickle_is_refused_in_one_line_and_not_run(tmp_path: Path, hidden: bool) -> None:
    bait = Hostile(tmp_path / "ran")
    official = pickled(stylegan2(extra=bait) if hidden else bait, tmp_path / "official.pkl")
    with pytest.raises(ModelError, match=r"it asks for (posix|os|nt)\.mkdir, which no StyleGAN2") as caught:
        converted(official, license="", origin="")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a whole pickle"),
        (b"\x80\x04]\x94.", "holds no G_ema"),
        (pickle.dumps({"G_ema": [1]}), "holds no G_ema"),
        (b"<html>", "not a whole pickle"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "asks for builtins.eval"),
        (b"\x80\x04\x8c\x05torch\x8c\x0ehub.load_state\x93.", "asks for torch.hub.load_state"),
        (b"Pelsewhere\n.", "outside of the file"),
    ],
)
def test_what_is_no_official_pickle_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "official.pkl"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        converted(path, license="", origin="")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="cemiface import-generator"):
        load_generator(path)


def test_every_cut_of_a_pickle_is_refused(tmp_path: Path) -> None:
    data = pickled(stylegan2(), tmp_path / "official.pkl").read_bytes()
    for length in range(0, len(data) - 1, len(data) // 60):
        (tmp_path / "cut.pkl").write_bytes(data[:length])
        with pytest.raises(ModelError, match="not a whole pickle"):
            converted(tmp_path / "cut.pkl", license="", origin="")


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (lambda: stylegan2(c_dim=10), "condition on classes"),
        (lambda: stylegan2(img_channels=1), "makes 1 channels"),
        (lambda: stylegan2(more=module("Extra", tensors={"two\nlines": torch.ones(2)})), "names that are none"),
        (lambda: module("Generator", c_dim=0), "not laid out as StyleGAN2 or StyleGAN3"),
        (lambda: stylegan2(mapping=module("MappingNetwork")), "not laid out as StyleGAN2 or StyleGAN3"),
        (lambda: stylegan2(more=module("Extra", tensors={"weight": torch.ones(2)})), "unexpected more.weight"),
    ],
)
def test_generators_of_another_kind_are_refused(tmp_path: Path, generator: Any, message: str) -> None:
    official = pickled(generator(), tmp_path / "official.pkl")
    with pytest.raises(ModelError, match=message) as caught:
        converted(official, license="", origin="")
    assert "\n" not in str(caught.value)


def test_a_module_that_contains_itself_ends(tmp_path: Path) -> None:
    generator = stylegan2()
    generator.state["_modules"]["again"] = generator
    inner = Stored(name="loop", state={})
    inner.state = {"_modules": {"again": inner}}
    with pytest.raises(ValueError, match="there twice"):
        inner.tensors()


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    class Large:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (torch.FloatStorage(2), 0, (2**40,), (0,), False, {})

    with pytest.raises(ModelError, match=r"more than its storage"):
        converted(pickled(stylegan2(extra=Large()), tmp_path / "official.pkl"), license="", origin="")


def test_resampling_inserts_zeros_pads_filters_and_keeps_every_nth() -> None:
    x, taps = torch.randn(2, 3, 5, 5).double(), torch.rand(4).double()
    up, down, padding = 3, 2, (2, -1, 1, 3)
    found = resample(x, taps, up=up, down=down, padding=padding)
    for image in range(2):
        for channel in range(3):
            plane = np.zeros((15, 15))
            plane[::up, ::up] = x[image, channel].numpy() * up**2
            plane = np.pad(plane, ((1, 3), (2, 0)))[:, :-1]
            rows = np.apply_along_axis(lambda line: np.convolve(line, taps.numpy(), "valid"), 1, plane)
            both = np.apply_along_axis(lambda line: np.convolve(line, taps.numpy(), "valid"), 0, rows)
            np.testing.assert_allclose(found[image, channel].numpy(), both[::down, ::down])
    torch.testing.assert_close(resample(x, taps.outer(taps), up=up, down=down, padding=padding), found)


def _demodulated(weight: Tensor, style: Tensor) -> Tensor:
    scaled = weight * style[None, :, None, None]
    return scaled / (scaled.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()


def test_a_stylegan2_layer_that_doubles_the_resolution_is_a_transposed_convolution_and_a_filter(tmp_path: Path) -> None:
    generator: StyleGan2 = _loaded(stylegan2(), tmp_path).double()
    layer = generator.synthesis.get_submodule("b8.conv0")
    x, w = torch.randn(2, 8, 4, 4).double(), torch.randn(2, 5).double()
    found = layer(x, w)
    for image in range(2):
        style = w[image] @ layer.affine.weight.T / math.sqrt(5) + layer.affine.bias
        weight = _demodulated(layer.weight, style)
        large = F.conv_transpose2d(x[image : image + 1], weight.transpose(0, 1), stride=2)  # 9 x 9
        kernel = (4 * FILTER.double()).expand(6, 1, 4, 4)
        smooth = F.conv2d(F.pad(large, (1, 1, 1, 1)), kernel, groups=6)
        noisy = smooth + layer.noise_const * layer.noise_strength + layer.bias[:, None, None]
        torch.testing.assert_close(found[image : image + 1], F.leaky_relu(noisy, 0.2) * math.sqrt(2))


def test_stylegan2_adds_what_each_resolution_draws(tmp_path: Path) -> None:
    generator: StyleGan2 = _loaded(stylegan2(widths=(8,)), tmp_path)
    w = torch.randn(1, 5)
    block = generator.synthesis.get_submodule("b4")
    features = block.conv1(block.const[None], w)
    style = (w @ block.torgb.affine.weight.T / math.sqrt(5) + block.torgb.affine.bias) / math.sqrt(8)
    expected = torch.einsum("nchw,oc,nc->nohw", features, block.torgb.weight[..., 0, 0], style)
    torch.testing.assert_close(generator.synthesis(w), expected + block.torgb.bias[:, None, None])


def test_the_waves_of_stylegan3_are_turned_and_moved_by_w(tmp_path: Path) -> None:
    generator: StyleGan3 = _loaded(stylegan3(), tmp_path).double()
    start = generator.synthesis.input
    w = torch.randn(1, 5).double()
    cosine, sine, right, down = (w @ start.affine.weight.T / math.sqrt(5) + start.affine.bias)[0].tolist()
    length = math.hypot(cosine, sine)
    cosine, sine, right, down = (value / length for value in (cosine, sine, right, down))
    found = start(w)
    assert found.shape == (1, 8, 12, 12)
    for row, column in ((0, 0), (3, 7), (11, 5)):
        x, y = (column - 5.5) / 8, (row - 5.5) / 8  # 8 pixels are the side of the picture without its margin
        # A point of the picture, first moved, then turned back to the waves' own axes.
        moved = x - right, y - down
        own = cosine * moved[0] - sine * moved[1], sine * moved[0] + cosine * moved[1]
        waves = []
        for (a, b), phase in zip(start.freqs.tolist(), start.phases.tolist(), strict=True):
            strength = min(max(1 - (math.hypot(a, b) - 2.0) / (4.0 - 2.0), 0), 1)
            waves.append(strength * math.sin(2 * math.pi * (a * own[0] + b * own[1] + phase)))
        expected = start.weight @ torch.tensor(waves).double() / math.sqrt(8)
        torch.testing.assert_close(found[0, :, row, column], expected)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_stylegan3_layer_is_what_the_paper_says(number: int, tmp_path: Path) -> None:
    generator: StyleGan3 = _loaded(stylegan3(), tmp_path).double()
    layer = generator.synthesis.get_submodule(generator.synthesis.names[number])
    config = layer.config
    size = (12, 20, 16)[number]
    x, w = torch.randn(1, config.inputs, size, size).double(), torch.randn(1, 5).double()
    style = (w @ layer.affine.weight.T / math.sqrt(5) + layer.affine.bias)[0]
    if config.to_rgb:
        weight = layer.weight * style[None, :, None, None] / math.sqrt(config.inputs)
    else:
        weight = _demodulated(layer.weight, style)
    h = F.conv2d(x, weight, padding=config.kernel - 1) / math.sqrt(1.7) + layer.bias[:, None, None]
    h = resample(h, layer.up_filter, up=config.up, padding=config.padding)
    h = h if config.to_rgb else F.leaky_relu(h, 0.2) * math.sqrt(2)
    h = resample(h.clamp(-256, 256), layer.down_filter, down=config.down)
    torch.testing.assert_close(layer(x, w), h, rtol=1e-5, atol=1e-6)
    assert h.shape[-1] == (20, 16, 16)[number]


def test_the_reader_runs_no_code_of_the_file(tmp_path: Path) -> None:
    """The source inside the pickle raises if it runs, and so does the function that would rebuild objects."""
    stored = read_official(pickled(stylegan2(extra=EasyDict(a=1)), tmp_path / "official.pkl"))
    assert stored.name == "Generator"
    assert stored.state["extra"] == {"a": 1}
