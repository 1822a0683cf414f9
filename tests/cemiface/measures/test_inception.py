from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cemiface.errors import ModelError
from cemiface.measures.inception import Conv, Inception, load_inception


@pytest.fixture(scope="module")
def net() -> Inception:
    torch.manual_seed(0)
    return Inception().eval()


def test_parameter_count_is_that_of_inception_v3_without_classifiers():
    """23,834,568 with a classifier of 1,000 classes (2,049,000), without the auxiliary one."""
    with torch.device("meta"):
        whole = Inception()
    assert sum(parameter.numel() for parameter in whole.parameters()) == 23_834_568 - 2_049_000


def test_forward_pass_costs_5_7_gmac(mac_count):
    with torch.device("meta"):
        whole = Inception().eval()
    macs = mac_count(whole, torch.empty(1, 3, 299, 299, device="meta"))
    assert macs["Conv2d"] / 1e9 == pytest.approx(5.71, abs=0.02)


def test_parameter_names_match_the_published_files():
    with torch.device("meta"):
        names = set(Inception().state_dict())
    wanted = ["Conv2d_1a_3x3.conv.weight", "Conv2d_4a_3x3.bn.running_var", "Mixed_5b.branch5x5_2.conv.weight"]
    wanted += [
        "Mixed_6a.branch3x3dbl_3.bn.bias",
        "Mixed_6e.branch7x7dbl_5.conv.weight",
        "Mixed_7a.branch7x7x3_4.bn.weight",
    ]
    wanted += ["Mixed_7c.branch3x3dbl_3b.conv.weight", "Mixed_7b.branch_pool.conv.weight"]
    assert names.issuperset(wanted)


def test_a_block_with_forked_branches_matches_the_paper(net, draw):
    """The branches of the last block, written out."""
    x, block = torch.rand(1, 2048, 8, 8, generator=draw), net.get_submodule("Mixed_7c")
    at = block.get_submodule
    three, twice = at("branch3x3_1")(x), at("branch3x3dbl_2")(at("branch3x3dbl_1")(x))
    expected = [
        at("branch1x1")(x),
        *(at(f"branch3x3_2{end}")(three) for end in "ab"),
        *(at(f"branch3x3dbl_3{end}")(twice) for end in "ab"),
        at("branch_pool")(F.max_pool2d(x, 3, 1, 1)),
    ]
    assert torch.equal(block(x), torch.cat(expected, 1))


def test_a_strided_block_appends_its_max_pooled_input(net, draw):
    x = torch.rand(1, 288, 9, 9, generator=draw)
    out = net.get_submodule("Mixed_6a")(x)
    assert out.shape == (1, 768, 4, 4)
    assert torch.equal(out[:, -288:], F.max_pool2d(x, 3, 2))


def test_a_convolution_applies_batch_norm_and_relu(draw):
    conv = Conv(3, 4, kernel=(1, 7), padding=(0, 3)).eval()
    x = torch.randn(1, 3, 8, 8, generator=draw)
    torch.testing.assert_close(conv(x), F.relu(conv.conv(x) / (1 + 0.001) ** 0.5))


def test_published_files_with_classifiers_are_read_and_others_refused(tmp_path, net, draw):
    path = tmp_path / "inception.pth"
    state = net.state_dict() | {"fc.weight": torch.zeros(2, 2048), "AuxLogits.fc.bias": torch.zeros(2)}
    torch.save(state, path)
    x = torch.rand(1, 3, 32, 32, generator=draw) * 2 - 1
    found = load_inception(path)(x)
    assert found.shape == (1, 2048)
    assert torch.equal(found, net(x))
    torch.save({name: value for name, value in state.items() if "Mixed_7c" not in name}, path)
    with pytest.raises(ModelError, match=r"another architecture; missing Mixed_7c.branch1x1.conv.weight"):
        load_inception(path)
