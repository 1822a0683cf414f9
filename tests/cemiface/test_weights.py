# ruff: noqa: N802 (the ids of the fault matrix)
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cemiface.errors import ModelError
from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.nets import Embedder, build_recognition, load_recognition, recognition_bytes
from cemiface.weights import read_weights, share_weights, weights_bytes

CONFIG = RecognitionConfig(net="ir_tiny", image_size=32, embedding=16)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return build_recognition(CONFIG).eval()


def refusal(path: Path, config: RecognitionConfig | None = CONFIG) -> str:
    with pytest.raises(ModelError) as error:
        load_recognition(path, config=config)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def test_the_bytes_do_not_depend_on_the_process():
    code = (
        "import sys, torch; from cemiface.weights import weights_bytes\n"
        "torch.manual_seed(0); net = torch.nn.Linear(3, 2)\n"
        "sys.stdout.buffer.write(weights_bytes(net, metadata={k: k for k in 'abcdefgh'}))"
    )
    made = set()
    for seed in "12":
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        made.add(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment).stdout)
    assert len(made) == 1


def test_written_weights_are_read_back_unchanged(tmp_path):
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    path = tmp_path / "net.safetensors"
    path.write_bytes(weights_bytes(module, metadata={"b": "2", "a": "1"}))
    tensors, metadata = read_weights(path)
    assert metadata == {"a": "1", "b": "2"}
    assert all(torch.equal(tensors[name], value) for name, value in module.state_dict().items())
    assert len(tensors) == len(module.state_dict())


def test_the_header_is_aligned():
    file = weights_bytes(nn.Linear(3, 2), metadata={"a": "1"})
    assert int.from_bytes(file[:8], "little") % 8 == 0


def test_B44_a_missing_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "net.pt")


def test_B44_a_git_lfs_pointer_is_refused_with_its_remedy(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1000\n")
    message = refusal(path)
    assert "a Git LFS pointer of 66 bytes" in message
    assert "git lfs pull" in message


@pytest.mark.parametrize("text", ["<!DOCTYPE html>\n<title>Sign in</title>", "Quota exceeded.\nTry again."])
def test_B44_an_error_page_is_refused_with_its_first_bytes(tmp_path, text):
    path = tmp_path / "net.pth"
    path.write_text(text)
    message = refusal(path)
    assert "text of" in message
    assert text[:15] in message


def test_B44_another_suffix_is_refused(tmp_path):
    path = tmp_path / "net.bin"
    path.write_bytes(b"\x00\x01\x02\xff" * 20)
    assert "got suffix '.bin'; allowed: .safetensors, .pt, .pth" in refusal(path)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("kept", [0, 7, 500, -100])
def test_B44_a_partly_written_file_is_refused(tmp_path, net, suffix, kept):
    path = tmp_path / f"net.{suffix}"
    path.write_bytes(recognition_bytes(net, CONFIG)) if suffix == "safetensors" else torch.save(net.state_dict(), path)
    path.write_bytes(path.read_bytes()[:kept])
    assert "weights" in refusal(path)


def test_B44_another_architecture_is_refused_with_five_keys_each(tmp_path, net):
    path = tmp_path / "net.safetensors"
    path.write_bytes(recognition_bytes(net, CONFIG))
    message = refusal(path, RecognitionConfig(net="mobilefacenet", image_size=32, embedding=16))
    missing, unexpected = message.split("; ")[1:]
    assert missing.startswith("missing net.0.conv.weight")
    assert missing.count(",") == unexpected.count(",") == 4
    assert " more" in missing
    assert unexpected.startswith("unexpected bn1.bias")


def test_B44_another_width_is_refused_with_both_shapes(tmp_path, net):
    path = tmp_path / "net.safetensors"
    path.write_bytes(recognition_bytes(net, CONFIG))
    message = refusal(path, CONFIG.model_copy(update={"embedding": 32}))
    assert "fc.weight (16, 2048), allowed (32, 2048)" in message


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "state_dict_backbone"])
@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "net.", "backbone.", "_orig_mod.", "ema.", "module.ema.", "_orig_mod.module.net."],
)
def test_B44_data_parallel_prefixes_and_wrappers_are_understood(tmp_path, net, wrapper, prefix, draw):
    state = {prefix + name: value for name, value in net.state_dict().items()}
    path = tmp_path / "net.pth"
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, path)
    x = torch.rand(2, 3, 32, 32, generator=draw)
    assert torch.equal(load_recognition(path, config=CONFIG)(x), Embedder(net, CONFIG)(x))


def test_B44_a_compiled_part_inside_a_net_is_understood(tmp_path, net, draw):
    state = {name.replace("layer1.", "layer1._orig_mod."): value for name, value in net.state_dict().items()}
    torch.save(state, tmp_path / "net.pth")
    x = torch.rand(2, 3, 32, 32, generator=draw)
    assert torch.equal(load_recognition(tmp_path / "net.pth", config=CONFIG)(x), Embedder(net, CONFIG)(x))


def test_B44_a_prefix_is_taken_off_only_if_the_rest_fits(tmp_path, net):
    state = {f"model.{name}": value for name, value in net.state_dict().items() if name != "fc.weight"}
    torch.save(state, tmp_path / "net.pth")
    assert "missing fc.weight; unexpected nothing" in refusal(tmp_path / "net.pth")
    both = {f"{kind}.{name}": value for name, value in net.state_dict().items() for kind in ("model", "ema")}
    torch.save(both, tmp_path / "net.pth")
    assert "unexpected model.conv1.weight, ema.conv1.weight" in refusal(tmp_path / "net.pth")


def test_B44_half_precision_weights_are_loaded_as_float32(tmp_path, net):
    path = tmp_path / "net.pt"
    torch.save(net.half().state_dict(), path)
    embedder = load_recognition(path, config=CONFIG)
    assert {parameter.dtype for parameter in embedder.parameters()} == {torch.float32}


def test_B44_weights_of_old_torch_without_batch_counts_are_loaded(tmp_path, net):
    path = tmp_path / "net.pt"
    torch.save({name: v for name, v in net.state_dict().items() if not name.endswith("num_batches_tracked")}, path)
    load_recognition(path, config=CONFIG)


def test_B44_a_checkpoint_without_the_weights_is_refused_with_its_keys(tmp_path, net):
    path = tmp_path / "net.pt"
    torch.save({"ema": net.state_dict(), "step": 3}, path)
    assert "got ema, step; allowed: a state dict of tensors" in refusal(path)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", ["code", "numpy"])
def test_B45_weights_that_need_code_are_refused_and_never_run(tmp_path, net, protocol):
    path = tmp_path / "net.pt"
    extra = Bomb(tmp_path / "exploded") if protocol == "code" else np.float64(0.5)
    torch.save({"state_dict": net.state_dict(), "extra": extra}, path)
    message = refusal(path)
    assert "refuses it as more than tensors" in message
    assert "store model.state_dict() as safetensors" in message
    assert not (tmp_path / "exploded").exists()


def test_weights_that_do_not_name_their_net_are_refused(tmp_path):
    path = tmp_path / "net.pt"
    torch.save(nn.Linear(3, 2).state_dict(), path)
    message = refusal(path, None)
    assert "has no net in its metadata, and its names are neither insightface's nor AdaFace's: weight" in message
    assert message.endswith("give weights that one of the two published, or this suite wrote")


@pytest.mark.parametrize("config", ["{", '{"net": "ir34"}', '{"dim": 0}', "[]"])
def test_metadata_that_describes_no_net_is_refused(tmp_path, net, config):
    path = tmp_path / "net.safetensors"
    path.write_bytes(weights_bytes(net, metadata={"config": config}))
    assert "its metadata does not describe a recognition net" in refusal(path, None)


def test_metadata_of_written_weights_describes_the_net(tmp_path, net):
    path = tmp_path / "net.safetensors"
    path.write_bytes(recognition_bytes(net, CONFIG))
    metadata = read_weights(path)[1]
    assert json.loads(metadata["config"])["net"] == "ir_tiny"
    assert (metadata["color"], metadata["normalization"]) == ("RGB", "[-1,1]")
    assert load_recognition(path).config == CONFIG


@pytest.mark.parametrize("change", ["metadata", "names", "half", "one tensor"])
def test_a_net_is_recognized_under_other_names_metadata_and_precision(change):
    net = {f"layer{number}.weight": torch.randn(8, 8) for number in range(4)}
    other = {
        "metadata": dict(net),
        "names": {f"module.{name}": tensor for name, tensor in net.items()},
        "half": {name: tensor.half() for name, tensor in net.items()},
        "one tensor": {**net, "layer0.weight": torch.randn(8, 8)},
    }[change]
    assert share_weights(other, net)


def test_another_net_of_the_same_architecture_shares_no_weights():
    nets = [{"layer.weight": torch.randn(8, 8), "norm.weight": torch.ones(8)} for _ in range(2)]
    assert not share_weights(*nets)
