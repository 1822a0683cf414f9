"""Published weights by the names of their tensors: the net is recognized, the color order never guessed."""
# ruff: noqa: N802

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.errors import ModelError
from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.layouts import recognize
from cemiface.recognition.nets import Embedder, build_recognition, load_recognition, recognition_bytes
from cemiface.weights import weights_bytes

# Units per layer of the nets both repositories publish, as their papers' tables count them.
PUBLISHED = {"ir18": (2, 2, 2, 2), "ir50": (3, 4, 14, 3), "ir100": (3, 13, 30, 3)}


class PublishedSqueeze(nn.Module):
    """Squeeze-and-excitation, as both repositories name its two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


class InsightfaceUnit(nn.Module):
    """As arcface_torch builds it: a convolution in the shortcut of every unit that strides."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(width) for width in (inputs, outputs, outputs))
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False)
        self.prelu = nn.PReLU(outputs)
        self.downsample = None
        if stride != 1:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return out + (x if self.downsample is None else self.downsample(x))


class InsightfaceNet(nn.Module):
    def __init__(self, units: tuple[int, ...], *, side: int, embedding: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        inputs = 64
        for number, (count, width) in enumerate(zip(units, (64, 128, 256, 512), strict=True), start=1):
            first = InsightfaceUnit(inputs, width, 2)
            rest = [InsightfaceUnit(width, width, 1) for _ in range(count - 1)]
            self.add_module(f"layer{number}", nn.Sequential(first, *rest))
            inputs = width
        self.bn2, self.fc = nn.BatchNorm2d(512), nn.Linear(512 * side * side, embedding)
        self.features = nn.BatchNorm1d(embedding)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))


class AdaFaceUnit(nn.Module):
    """As the paper's repository builds it: a pooling shortcut where the width stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, squeeze: bool = False) -> None:
        super().__init__()
        norm, conv = nn.BatchNorm2d, nn.Conv2d
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(conv(inputs, outputs, 1, stride, bias=False), norm(outputs))
        self.res_layer = nn.Sequential(
            norm(inputs), conv(inputs, outputs, 3, 1, 1, bias=False), norm(outputs), nn.PReLU(outputs),
            conv(outputs, outputs, 3, stride, 1, bias=False), norm(outputs),
        )  # fmt: skip
        if squeeze:
            self.res_layer.add_module("se_block", PublishedSqueeze(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class AdaFaceNet(nn.Module):
    def __init__(self, units: tuple[int, ...], *, side: int, embedding: int, squeeze: bool = False) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        inputs, body = 64, []
        for count, width in zip(units, (64, 128, 256, 512), strict=True):
            for place in range(count):
                body.append(AdaFaceUnit(inputs, width, 1 if place else 2, squeeze=squeeze))
                inputs = width
        self.body = nn.Sequential(*body)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512), nn.Dropout(0.4), nn.Flatten(), nn.Linear(512 * side * side, embedding),
            nn.BatchNorm1d(embedding, affine=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.body(self.input_layer(x)))


def moved(net: nn.Module) -> nn.Module:
    """With statistics and scales other than a new net's."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
    return net.eval()


@pytest.mark.parametrize("prefix", ["module.", "net.", "_orig_mod.", "ema.", "ema.module._orig_mod."])
def test_B44_published_layouts_are_recognized_behind_every_prefix(tmp_path, prefix, backbone):
    torch.save({f"{prefix}{name}": value for name, value in torch.load(backbone).items()}, tmp_path / "net.pt")
    assert load_recognition(tmp_path / "net.pt", color="RGB").config.net


@pytest.mark.parametrize("wrapped", [False, True])
def test_B44_weights_in_adafaces_layout_compute_what_its_net_does(tmp_path, wrapped, draw):
    torch.manual_seed(0)
    net = moved(AdaFaceNet(PUBLISHED["ir18"], side=2, embedding=24))
    state = net.state_dict()
    if wrapped:  # a whole training checkpoint of theirs: the net under `model.`, beside the head
        state = {f"model.{name}": value for name, value in state.items()} | {"head.kernel": torch.zeros(3, 2)}
        state = {"state_dict": state, "epoch": 3}
    path = tmp_path / "adaface.ckpt.pt"
    torch.save(state, path)
    embedder = load_recognition(path, color="BGR")
    assert embedder.config == RecognitionConfig(net="ir18", embedding=24, image_size=32, color="BGR", shortcut="pool")
    x = torch.rand(3, 3, 32, 32, generator=draw) * 2 - 1
    torch.testing.assert_close(embedder(x), net(x.flip(1)), atol=1e-4, rtol=1e-4)


def test_B44_weights_in_adafaces_layout_with_squeeze_compute_what_its_net_does(tmp_path, draw):
    torch.manual_seed(0)
    net = moved(AdaFaceNet(PUBLISHED["ir50"], side=1, embedding=8, squeeze=True))
    path = tmp_path / "adaface_ir_se50.ckpt"
    torch.save({"state_dict": {f"model.{name}": value for name, value in net.state_dict().items()}}, path)
    embedder = load_recognition(path, color="BGR")
    assert (embedder.config.net, embedder.config.image_size) == ("irse50", 16)
    x = torch.rand(2, 3, 16, 16, generator=draw) * 2 - 1
    torch.testing.assert_close(embedder(x), net(x.flip(1)), atol=1e-4, rtol=1e-4)


def test_B44_weights_in_insightfaces_layout_compute_what_its_net_does(tmp_path, draw):
    torch.manual_seed(0)
    net = moved(InsightfaceNet(PUBLISHED["ir18"], side=2, embedding=24))
    path = tmp_path / "backbone.pth"
    torch.save(net.state_dict(), path)
    embedder = load_recognition(path, color="RGB")
    assert embedder.config == RecognitionConfig(net="ir18", embedding=24, image_size=32)
    x = torch.rand(3, 3, 32, 32, generator=draw) * 2 - 1
    torch.testing.assert_close(embedder(x), net(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("net", ["ir50", "ir100"])
@pytest.mark.parametrize("make", [InsightfaceNet, AdaFaceNet])
def test_B44_every_tensor_of_the_published_nets_at_112_px_has_its_place(net, make):
    """Names and shapes alone: recognized as the net they are, none left over and none missing."""
    with torch.device("meta"):
        published = make(PUBLISHED[net], side=7, embedding=512).state_dict()
        config, named = recognize(published, color="RGB", path="published")
        own = build_recognition(config).state_dict()
    assert (config.net, config.embedding, config.image_size) == (net, 512, 112)
    assert {name: value.shape for name, value in named.items()} == {name: value.shape for name, value in own.items()}


@pytest.mark.parametrize("net", ["ir18", "irse50", "ir_tiny"])
def test_insightface_names_identify_the_net(tmp_path, net, draw):
    config = RecognitionConfig(net=net, embedding=16, image_size=32)
    torch.manual_seed(0)
    module = moved(build_recognition(config))
    path = tmp_path / "backbone.pth"
    torch.save({f"module.{name}": value for name, value in module.state_dict().items()}, path)
    embedder = load_recognition(path, color="RGB")
    assert embedder.config == config
    x = torch.rand(2, 3, 32, 32, generator=draw)
    assert torch.equal(embedder(x), Embedder(module, config)(x))


@pytest.fixture
def backbone(tmp_path):
    config = RecognitionConfig(net="ir18", embedding=16, image_size=32)
    path = tmp_path / "backbone.pt"
    torch.save(build_recognition(config).state_dict(), path)
    return path


def test_B44_a_missing_color_order_is_refused_not_guessed(backbone):
    with pytest.raises(ModelError, match=r"a ir18 of 16 dimensions without a color order.*give color: RGB"):
        load_recognition(backbone)


def test_B44_a_color_order_against_the_files_own_is_refused(tmp_path):
    config = RecognitionConfig(net="ir_tiny", embedding=16, image_size=32, color="BGR")
    path = tmp_path / "net.safetensors"
    path.write_bytes(recognition_bytes(build_recognition(config), config))
    assert load_recognition(path, color="BGR").config.color == "BGR"
    with pytest.raises(ModelError, match="color gives RGB, the net's config BGR"):
        load_recognition(path, color="RGB")


@pytest.mark.parametrize("metadata", [{"color": "BGR"}, {"normalization": "[0,1]"}])
def test_B44_metadata_that_disagrees_with_the_config_is_refused(tmp_path, metadata):
    config = RecognitionConfig(net="ir_tiny", embedding=16, image_size=32)
    path = tmp_path / "net.safetensors"
    path.write_bytes(weights_bytes(build_recognition(config), metadata={"config": config.model_dump_json()} | metadata))
    with pytest.raises(ModelError, match=r"fix one of them|got normalization"):
        load_recognition(path)


def test_B44_other_numbers_of_units_are_refused_with_those_there_are(backbone):
    state = torch.load(backbone, weights_only=True)
    torch.save({name: value for name, value in state.items() if not name.startswith("layer3.1.")}, backbone)
    with pytest.raises(ModelError, match=r"got blocks \(2, 2, 1, 2\); allowed: ir18 \(2, 2, 2, 2\)"):
        load_recognition(backbone, color="RGB")


def test_B44_units_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "net.pt"
    torch.save({"body.0.res_layer.1.weight": torch.zeros(1), "input_layer.0.weight": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"body.0 has no res_layer.4.weight; allowed: AdaFace's blocks"):
        load_recognition(path, color="BGR")


def test_metadata_of_a_pooled_net_records_the_pooling(tmp_path, draw):
    config = RecognitionConfig(net="ir18", embedding=8, image_size=32, shortcut="pool")
    path = tmp_path / "net.safetensors"
    net = build_recognition(config).eval()
    path.write_bytes(recognition_bytes(net, config))
    assert json.loads(config.model_dump_json())["shortcut"] == "pool"
    x = torch.rand(1, 3, 32, 32, generator=draw)
    assert F.cosine_similarity(load_recognition(path)(x), net(x)).min() > 1 - 1e-5
