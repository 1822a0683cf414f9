from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from cemiface.errors import ModelError
from cemiface.gandiff.gan.config import GanConfig
from cemiface.gandiff.gan.generator import critic_bytes, generator_bytes
from cemiface.gandiff.gan.head import check_initial_gan, generator_head
from cemiface.gandiff.gan.nets import Critic, Generator
from cemiface.weights_head import read_head

TINY = GanConfig.named("tiny32")


def test_the_metadata_of_a_whole_file_is_read_and_of_torchs_format_there_is_none(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "a.safetensors", metadata={"kind": "net"})
    assert read_head(tmp_path / "a.safetensors") == {"kind": "net"}
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
    assert read_head(tmp_path / "a.pth") == {}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.safetensors", None, "no such file"),
        ("a.npz", b"\x00\xff", "got suffix '.npz'; allowed: .safetensors"),
        ("a.safetensors", b"\xff" * 20, "not a whole safetensors file"),
        ("a.pth", b"PK\x03\x04\xff\xff", "not a whole weights file"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer of 43 bytes"),
        ("a.pth", b"<html>\xff", "text of 7 bytes"),
    ],
)
def test_what_is_no_whole_weights_file_is_refused(tmp_path: Path, name: str, data: bytes | None, message: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_head(tmp_path / name)


def test_a_generator_says_its_size_and_origin_and_what_is_none_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "generator.safetensors", tmp_path / "other.safetensors"
    path.write_bytes(generator_bytes(Generator(TINY)))
    assert generator_head(path).image_size == TINY.image_size
    save_file({"a": np.zeros(2, np.float32)}, other)
    with pytest.raises(ModelError, match="not a generator; give the file that train-gan"):
        generator_head(other)
    with pytest.raises(ModelError, match="no such file"):
        generator_head(tmp_path / "missing.safetensors")
    (tmp_path / "net.pkl").write_bytes(b"")
    with pytest.raises(ModelError, match="a pickle; convert it once: cemiface import-generator"):
        generator_head(tmp_path / "net.pkl")


def test_a_gan_of_another_shape_is_no_start_of_a_training(tmp_path: Path) -> None:
    path = tmp_path / "critic.safetensors"
    path.write_bytes(critic_bytes(Critic(TINY)))
    check_initial_gan(path, TINY)
    with pytest.raises(ModelError, match="trained with image_size 32, here it is 64; give both the same"):
        check_initial_gan(path, TINY.model_copy(update={"image_size": 64}))
    with pytest.raises(ModelError, match="not of this suite's GAN"):
        check_initial_gan(tmp_path / "missing.safetensors", TINY)
