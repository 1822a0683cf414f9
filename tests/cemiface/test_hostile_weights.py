"""Weights files that are no weights: refused in one line that names the tensor, before they take memory or run code."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from cemiface.diffusion.config import DiffusionConfig
from cemiface.errors import ModelError
from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.nets import build_recognition, load_recognition, recognition_bytes
from cemiface.semihard.config import DenoiserConfig
from cemiface.semihard.denoiser import load_denoiser
from cemiface.weights import built, read_weights

CONFIG = RecognitionConfig(net="ir_tiny", embedding=8, image_size=16)
WHOLE = {"first.weight": torch.ones(3, 2), "second.bias": torch.zeros(4)}
BAD: dict[str, Tensor] = {
    "complex": torch.zeros(3, dtype=torch.complex64),
    "NaN or infinite": torch.tensor([0.0, float("nan")]),
    "NaN or infinite in places": torch.tensor([0.0, float("-inf")], dtype=torch.bfloat16),
    "sparse": torch.eye(3).to_sparse(),
    "sparse ": torch.eye(3).to_sparse_csr(),
    "without values": torch.zeros(3, device="meta"),
    "of type torch.float8": torch.zeros(3).to(torch.float8_e5m2),
    "more than the file holds": torch.zeros(1).expand(10**6, 10**6),
}


def refusal(path: Path, *, match: str | None = None, read: Callable[[Path], object] = read_weights) -> str:
    with pytest.raises(ModelError, match=match) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"weights {path}: ")
    assert "\n" not in message
    assert len(message) < 700
    return message


def stored(path: Path, value: object, *, new: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=new)
    return path


@pytest.mark.parametrize("problem", BAD)
def test_a_tensor_that_is_no_weight_is_refused_by_its_name(tmp_path, problem):
    path = stored(tmp_path / "x.pth", {**WHOLE, "third.weight": BAD[problem]})
    refusal(path, match=rf"third\.weight is .*{problem.strip()}.*; allowed: finite real numbers")


@pytest.mark.filterwarnings("ignore")
def test_a_quantized_tensor_is_refused_by_its_name(tmp_path):
    quantized = torch.quantize_per_tensor(torch.ones(4), 0.1, 2, torch.qint8)
    refusal(stored(tmp_path / "x.pth", {"a.weight": quantized}), match=r"a\.weight is quantized")


@pytest.mark.parametrize("problem", ["complex", "NaN or infinite", "of type torch.float8"])
def test_safetensors_are_checked_as_well(tmp_path, problem):
    path = tmp_path / "x.safetensors"
    path.write_bytes(save({**WHOLE, "third.weight": BAD[problem]}))
    refusal(path, match=rf"third\.weight is .*{problem}")


def test_one_storage_behind_a_thousand_tensors_is_refused(tmp_path):
    shared = torch.zeros(100_000)
    refusal(
        stored(tmp_path / "x.pth", {str(number): shared for number in range(1000)}), match="more than the file holds"
    )
    twice = stored(tmp_path / "tied.pth", {"a": shared, "b": shared})
    assert sorted(read_weights(twice)[0]) == ["a", "b"]


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_mutated_state_dicts_are_tensors_or_one_line(tmp_path, new, seed):
    whole = stored(tmp_path / "x.pth", {"state_dict": WHOLE, "epoch": 3}, new=new).read_bytes()
    draw = random.Random(seed)
    path = tmp_path / "y.pth"
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data)
        try:
            read_weights(path)
        except ModelError as error:
            message = str(error)
            assert "\n" not in message


def test_a_compressed_state_dict_is_refused_as_it_may_be_of_any_size(tmp_path):
    path, packed = tmp_path / "x.pth", io.BytesIO()
    stored(path, {"a": torch.zeros(100_000)})
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    path.write_bytes(packed.getvalue())
    refusal(path, match="a compressed archive")


@pytest.mark.parametrize("name", [b"cbuiltins\nbytearray\n", b"ctorch\nTensor\n", b"ctorch\nFloatTensor\n"])
@pytest.mark.parametrize("as_zip", [True, False])
def test_what_allocates_as_much_as_it_is_told_is_refused(tmp_path, name, as_zip):
    pickle = b"\x80\x02}X\x01\x00\x00\x00a" + name + b"\x8a\x05" + struct.pack("<Q", 10**11)[:5] + b"\x85Rs."
    path = tmp_path / "x.pth"
    if as_zip:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle)
            archive.writestr("archive/version", "3\n")
    else:
        path.write_bytes(pickle)
    refusal(path, match="holds .*; allowed: tensors with their storages")


@pytest.mark.parametrize("keys", [{1: torch.ones(2)}, {("a", 1): torch.ones(2)}, {None: torch.ones(2)}])
def test_names_that_are_no_text_are_refused(tmp_path, keys):
    refusal(stored(tmp_path / "x.pth", keys), match="allowed: a state dict of tensors")


def safetensors_file(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**64 - 1, 0], "data_offsets": [0, 0]}},
        {"a": {"dtype": "F32", "shape": [2**64 - 1, 2**64 - 1], "data_offsets": [0, 0]}},
        {"a": {"dtype": "F32", "shape": [2**64], "data_offsets": [0, 2**64]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}},
        {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 0]}},
        {"__metadata__": {"a": {"b": {"c": 1}}}},
        {"__metadata__": [1]},
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff" * 100,
        b"",
    ],
)
def test_any_header_of_safetensors_is_one_line(tmp_path, header):
    refusal(safetensors_file(tmp_path / "x.safetensors", header), match="not a whole safetensors file")


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 10**9, 0])
def test_any_length_of_the_header_is_one_line(tmp_path, size):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", size) + b"{}")
    refusal(path)


def described(path: Path, metadata: dict[str, str]) -> Path:
    path.write_bytes(save(WHOLE, metadata=metadata))
    return path


@pytest.mark.parametrize(
    "config",
    [
        "[" * 100_000,
        "{",
        "1",
        '{"net": "ir_tiny", "embedding": 1000000000000, "image_size": 16}',
        '{"net": "ir_tiny", "embedding": 8, "image_size": 1600000000}',
        '{"net": "ir_tiny", "embedding": ' + "9" * 30 + ', "image_size": 16}',
        '{"dim": 1000000000000}',
        '{"last": [1000000000, 1000000000]}',
    ],
)
def test_metadata_that_describes_any_net_is_one_line_and_builds_none(tmp_path, config):
    refusal(described(tmp_path / "x.safetensors", {"config": config}), read=load_recognition)


@pytest.mark.parametrize(
    "change", [{"channels": 32 * 10**9}, {"blocks": 10**9}, {"multipliers": [1] * 10_000}, {"head_channels": 10**30}]
)
def test_a_denoiser_of_any_size_is_one_line_and_is_not_built(tmp_path, change):
    config = json.dumps(DenoiserConfig().model_dump() | change)
    metadata = {"config": config, "diffusion": DiffusionConfig().model_dump_json(), "embedder": "x"}
    refusal(described(tmp_path / "x.safetensors", metadata), read=load_denoiser)


@pytest.mark.parametrize(
    "names",
    [
        ["layer999999999999.0.x", "fc.weight", "conv1.weight"],
        ["layer1." + "9" * 5000 + ".x", "fc.weight", "conv1.weight"],
        ["body." + "9" * 5000 + ".x", "fc.weight"],
        ["body.99999999.x", "input_layer.0.weight", "output_layer.3.weight"],
        ["body.", "fc.weight", "conv1.weight"],
        ["body.x.y"],
        ["fc.weight", "conv1.weight", "layer1.0.x", "layer1.1.x", "bn2.weight"],
    ],
)
def test_names_and_shapes_that_no_layout_has_are_one_line(tmp_path, names):
    for tensor in (torch.ones(2, 3), torch.ones(()), torch.ones(0, 0)):
        path = stored(tmp_path / "x.pth", dict.fromkeys(names, tensor))
        refusal(path, read=lambda path: load_recognition(path, color="RGB"))


def test_a_net_that_is_first_built_without_memory_is_the_same_net(tmp_path):
    torch.manual_seed(3)
    net = build_recognition(CONFIG)
    path = tmp_path / "x.safetensors"
    path.write_bytes(recognition_bytes(net, CONFIG))
    state = torch.random.get_rng_state()
    outline_first = built(lambda: build_recognition(CONFIG), read_weights(path)[0], path=path)
    after = torch.random.get_rng_state()
    torch.random.set_rng_state(state)
    build_recognition(CONFIG)
    assert torch.equal(after, torch.random.get_rng_state())  # the outline draws no random numbers
    assert isinstance(outline_first, nn.Module)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, outline_first.state_dict()[name])
    assert load_recognition(path).embedding == 8
