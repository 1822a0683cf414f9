from __future__ import annotations

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cemiface.recognition.class_head import ClassHead
from cemiface.recognition.config import FoldedConfig, MarginConfig, RecognitionConfig
from cemiface.recognition.iresnet import IRBlock
from cemiface.recognition.mobilefacenet import ConvBlock, MobileFaceNet
from cemiface.recognition.nets import Embedder, build_recognition, fold_norms, load_recognition, resize
from cemiface.weights import weights_bytes

TINY = RecognitionConfig(net="ir_tiny", image_size=32, embedding=16)
NETS = ["ir18", "ir50", "ir100", "irse50", "mobilefacenet", "ir_tiny"]


def on_meta(net: str, size: int = 112, embedding: int = 512) -> nn.Module:
    with torch.device("meta"):
        return build_recognition(RecognitionConfig(net=net, image_size=size, embedding=embedding)).eval()


@pytest.mark.parametrize(
    ("net", "parameters"),
    [("ir18", 24_025_600), ("ir50", 43_590_848), ("ir100", 65_156_160), ("irse50", 43_813_568)],
)
def test_the_residual_nets_have_their_number_of_parameters(net, parameters):
    assert sum(parameter.numel() for parameter in on_meta(net).parameters()) == parameters


def test_irse50_with_the_papers_head_has_54_05_million_parameters():
    head = ClassHead(20_000, 512, MarginConfig(), seed=0)
    total = sum(parameter.numel() for module in (on_meta("irse50"), head) for parameter in module.parameters())
    assert total / 1e6 == pytest.approx(54.05, abs=0.005)


def test_irse50_costs_6_32_gmac(mac_count):
    """As the paper's log counts: batch norms and PReLUs one per output, beside convolutions and linear layers."""
    macs = mac_count(on_meta("irse50"), torch.empty(1, 3, 112, 112, device="meta"))
    kinds = ("Conv2d", "Linear", "BatchNorm2d", "BatchNorm1d", "PReLU")
    assert sum(macs[kind] for kind in kinds) / 1e9 == pytest.approx(6.32, abs=0.005)


def test_the_small_nets_are_small():
    mobile, tiny = on_meta("mobilefacenet"), on_meta("ir_tiny", size=32, embedding=128)
    assert sum(parameter.numel() for parameter in mobile.parameters()) / 1e6 == pytest.approx(1.2, abs=0.05)
    assert 0.5 < sum(parameter.numel() for parameter in tiny.parameters()) / 1e6 < 1


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("size", [32, 112])
def test_every_net_gives_embeddings_at_every_size(net, size):
    assert on_meta(net, size=size, embedding=64)(torch.empty(2, 3, size, size, device="meta")).shape == (2, 64)


def test_residual_nets_have_the_names_of_arcface_torch():
    """Files like its published backbone.pth load."""
    names = set(on_meta("ir50").state_dict())
    wanted = ["conv1.weight", "bn1.running_mean", "prelu.weight", "bn2.weight", "fc.bias", "features.running_var"]
    wanted += ["layer1.0.downsample.0.weight", "layer1.0.downsample.1.running_var", "layer3.13.conv2.weight"]
    wanted += ["layer4.2.bn3.bias", "layer1.0.prelu.weight"]
    assert names.issuperset(wanted)
    assert not any(name.startswith("layers") for name in names)


@pytest.mark.parametrize("squeeze", [False, True])
def test_a_residual_block_adds_the_squeezed_branch_to_the_shortcut(squeeze, draw):
    torch.manual_seed(0)
    block = IRBlock(8, 32, stride=2, squeeze=squeeze).eval()
    x = torch.randn(2, 8, 6, 6, generator=draw)
    branch = block.bn3(block.conv2(F.prelu(block.bn2(block.conv1(block.bn1(x))), block.prelu.weight)))
    if squeeze:
        hidden = F.relu(branch.mean((2, 3)) @ block.se.fc1.weight[:, :, 0, 0].T)
        branch = branch * torch.sigmoid(hidden @ block.se.fc2.weight[:, :, 0, 0].T)[:, :, None, None]
    conv, norm = block.downsample
    torch.testing.assert_close(block(x), norm(conv(x)) + branch)


def test_a_tiny_net_learns_a_tiny_set(draw):
    """Two patterns under noise, fewer than 30 steps: every second image of them was not seen."""
    patterns = torch.randn(4, 3, 32, 32, generator=draw)
    torch.manual_seed(0)
    net, head = build_recognition(TINY), ClassHead(4, 16, MarginConfig(scale=16, margin=0.1), seed=0)
    optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1, momentum=0.9)

    def images(labels: torch.Tensor) -> torch.Tensor:
        return 0.3 * patterns[labels] + 0.5 * torch.randn(len(labels), 3, 32, 32, generator=draw)

    for _ in range(25):
        labels = torch.randint(4, (32,), generator=draw)
        loss = head(net(images(labels)), labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    embedder = Embedder(net, TINY)
    labels = torch.arange(4).repeat(8)
    nearest = F.normalize(embedder(images(labels))) @ F.normalize(head.weight).T
    assert (nearest.argmax(1) == labels).float().mean() > 0.9


@pytest.mark.parametrize(("source", "target"), [(32, 112), (112, 32), (64, 112), (112, 112), (7, 5)])
def test_resizing_is_bicubic_with_antialias(source, target, draw):
    x = torch.rand(2, 3, source, source, generator=draw) * 2 - 1
    expected = F.interpolate(x, size=(target, target), mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(resize(x, size=target), expected, atol=1e-5, rtol=0)


def test_resizing_is_not_rounded_by_autocast(draw):
    x = torch.rand(1, 3, 16, 16, generator=draw)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(resize(x, size=32), resize(x.float(), size=32))
        assert resize(x, size=32).dtype == torch.float32


def test_the_embedder_is_frozen_but_lets_the_gradient_through(draw):
    embedder = Embedder(build_recognition(TINY), TINY)
    x = torch.rand(2, 3, 20, 20, generator=draw).requires_grad_()
    embedder(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(not parameter.requires_grad for parameter in embedder.parameters())


def test_the_embedder_stays_in_eval_mode_inside_a_training_module(draw):
    embedder = Embedder(build_recognition(TINY), TINY)
    nn.ModuleList([embedder]).train()
    assert not any(module.training for module in embedder.modules())


def test_an_embedder_made_during_training_leaves_the_net_trainable():
    net = build_recognition(TINY).train()
    Embedder(net, TINY)
    assert net.training
    assert all(parameter.requires_grad for name, parameter in net.named_parameters() if name != "features.weight")


def test_bgr_nets_receive_bgr_input(draw):
    net = build_recognition(TINY).eval()
    x = torch.rand(2, 3, 32, 32, generator=draw)
    bgr = Embedder(net, TINY.model_copy(update={"color": "BGR"}))
    assert torch.equal(bgr(x), Embedder(net, TINY)(x.flip(1)))


def fold(block: ConvBlock) -> dict[str, torch.Tensor]:
    """The weights of a block with its batch norm in the convolution's weight and bias."""
    norm = block.norm
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    return {
        "conv.weight": block.conv.weight * factor[:, None, None, None],
        "conv.bias": norm.bias - norm.running_mean * factor,
        **{f"act.{name}": value for name, value in block.act.state_dict().items()},
    }


def test_the_folded_layout_computes_what_the_trained_one_does(tmp_path, draw):
    """Through a file as such weights are published: layout in the metadata, input scaled, channels turned."""
    torch.manual_seed(0)
    plain = MobileFaceNet(embedding=24, last=(2, 2), act="relu6", separable_stem=True)
    plain.train()(torch.randn(8, 3, 32, 32, generator=draw))  # moves the statistics
    plain.eval()
    state = {}
    for name, block in plain.named_modules():
        if isinstance(block, ConvBlock):
            state |= {f"{name}.{key}": value for key, value in fold(block).items()}
    layout = {"dim": 24, "last": [2, 2], "act": "relu6", "stem_pw": True, "bgr": True}
    layout |= {"scale": [2.0, 1.0, 0.5], "shift": [0.1, 0.0, -0.1]}
    carrier = build_recognition(
        RecognitionConfig(net="mobilefacenet_folded", embedding=24, folded=FoldedConfig.model_validate(layout))
    )
    carrier.load_state_dict(state)
    path = tmp_path / "folded.safetensors"
    path.write_bytes(weights_bytes(carrier, metadata={"config": json.dumps(layout)}))
    embedder = load_recognition(path, config=None)
    assert embedder.embedding == 24
    x = torch.rand(2, 3, 32, 32, generator=draw) * 2 - 1
    scaled = x * torch.tensor([2.0, 1.0, 0.5]).view(3, 1, 1) + torch.tensor([0.1, 0.0, -0.1]).view(3, 1, 1)
    torch.testing.assert_close(embedder.net(x), plain(scaled.flip(1)), atol=1e-4, rtol=1e-4)


def test_a_cropped_net_sees_only_its_columns(draw):
    layout = FoldedConfig(dim=8, last=(7, 6), crop=(8, 104))
    net = build_recognition(RecognitionConfig(net="mobilefacenet_folded", embedding=8, folded=layout)).eval()
    x = torch.rand(1, 3, 112, 112, generator=draw)
    other = x.clone()
    other[..., :8] = other[..., 104:] = 0
    assert torch.equal(net(x), net(other))


@pytest.mark.parametrize("net", ["ir18", "irse50", "mobilefacenet", "ir_tiny"])
def test_norms_folded_into_convolutions_compute_the_same(net, draw):
    torch.manual_seed(0)
    plain = build_recognition(RecognitionConfig(net=net, embedding=16, image_size=32)).train()
    plain(torch.randn(8, 3, 32, 32, generator=draw))  # moves the statistics
    plain.eval()
    folded = fold_norms(copy.deepcopy(plain))
    norms = [sum(isinstance(module, nn.BatchNorm2d) for module in one.modules()) for one in (plain, folded)]
    assert norms[1] < 0.5 * norms[0]
    x = torch.rand(4, 3, 32, 32, generator=draw) * 2 - 1
    assert F.cosine_similarity(folded(x), plain(x)).min() > 1 - 1e-5
