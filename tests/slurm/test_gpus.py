"""Which GPUs of this machine count, by CUDA_VISIBLE_DEVICES or by the driver's list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm import gpus
from slurm.gpus import only, visible_gpus

TWO = "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5a-1)\nGPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-5a-2)\n"
DIVIDED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1)
  MIG 3g.20gb     Device  0: (UUID: MIG-7)
  MIG 3g.20gb     Device  1: (UUID: MIG-8)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-2)
"""


@pytest.fixture(autouse=True)
def _driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without a driver."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    gpus._all_gpus.cache_clear()
    yield
    gpus._all_gpus.cache_clear()


def _nvidia_smi(folder: Path, listed: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{listed}END\n")
    (folder / "nvidia-smi").chmod(0o755)


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ("", []),
        ("0", ["0"]),
        ("2, 3", ["2", "3"]),
        ("MIG-7", ["MIG-7"]),
        ("GPU-1,GPU-2", ["GPU-1", "GPU-2"]),
        ("NoDevFiles", []),
        ("-1", []),
        ("1,-1,2", ["1"]),
        ("1,1", ["1"]),
    ],
)
def test_what_the_variable_shows_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str, found: list[str]
) -> None:
    _nvidia_smi(tmp_path, TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert visible_gpus() == found


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        (TWO, ["GPU-5a-1", "GPU-5a-2"]),
        (DIVIDED, ["MIG-7", "MIG-8", "GPU-2"]),
        ("No devices were found\n", []),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", []),
    ],
)
def test_without_it_all_of_the_driver_count(tmp_path: Path, listed: str, found: list[str]) -> None:
    _nvidia_smi(tmp_path, listed)
    assert visible_gpus() == found


def test_a_machine_without_a_driver_has_none() -> None:
    assert visible_gpus() == []


def test_a_process_sees_its_own_gpu_or_none() -> None:
    assert only("MIG-7") == {"CUDA_VISIBLE_DEVICES": "MIG-7"}
    assert only(None) == {"CUDA_VISIBLE_DEVICES": ""}
