"""Packs of adapters are read one identity at a time, and a cut pack is one line."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from cemiface.errors import ModelError
from cemiface.gandiff.personal.adapters import AdapterPack, pack_bytes

ADAPTERS = {
    f"{number:06d}": {"token": torch.full((4,), float(number)), "base_model.model.a.lora_A.weight": torch.ones(2, 3)}
    for number in (9, 10)
}


@pytest.fixture
def pack(tmp_path):
    path = tmp_path / "adapters-00000.safetensors"
    path.write_bytes(pack_bytes(ADAPTERS, metadata={"rank": "2"}))
    return path


def test_an_identity_is_read_from_its_pack(pack):
    found = AdapterPack(pack)
    assert found.names == ("000009", "000010")
    assert found.metadata == {"rank": "2"}
    read = found.read("000010")
    assert read.keys() == ADAPTERS["000010"].keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in ADAPTERS["000010"].items())


def test_adapters_stored_in_half_precision_come_back_in_single(pack):
    halved = {who: {name: tensor.half() for name, tensor in one.items()} for who, one in ADAPTERS.items()}
    pack.write_bytes(pack_bytes(halved, metadata={}))
    assert {tensor.dtype for tensor in AdapterPack(pack).read("000009").values()} == {torch.float32}


def test_the_same_adapters_are_the_same_bytes_in_any_order():
    turned = {who: dict(reversed(one.items())) for who, one in reversed(ADAPTERS.items())}
    assert pack_bytes(ADAPTERS, metadata={"a": "1", "b": "2"}) == pack_bytes(turned, metadata={"b": "2", "a": "1"})


@pytest.mark.parametrize("left", [0, 5, 60, 0.5, 0.99])
def test_a_cut_pack_is_one_line(pack, left):
    data = pack.read_bytes()
    pack.write_bytes(data[: left if isinstance(left, int) else int(left * len(data))])
    with pytest.raises(
        ModelError, match=r"adapters .*: not a whole safetensors file .*run `personalize` again"
    ) as error:
        AdapterPack(pack)
    assert "\n" not in str(error.value)


def test_other_files_and_unknown_identities_are_one_line(pack, tmp_path):
    with pytest.raises(ModelError, match="identity 000011 is not in it"):
        AdapterPack(pack).read("000011")
    with pytest.raises(ModelError, match="no such file; run the stage personalize"):
        AdapterPack(tmp_path / "none.safetensors")
    save_file({"stem.weight": torch.ones(1)}, pack)
    with pytest.raises(ModelError, match=r"holds 'stem\.weight', allowed: IDENTITY/TENSOR"):
        AdapterPack(pack)
    pack.write_bytes(pack_bytes({"000001": {"token": torch.full((1,), float("nan"))}}, metadata={}))
    with pytest.raises(ModelError, match="000001/token is not finite"):
        AdapterPack(pack).read("000001")
