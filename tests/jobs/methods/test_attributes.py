"""The file of attributes is read however tables are written, and a line that is none is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from cemiface.errors import ModelError
from jobs.frame.experiment import load_run
from jobs.methods.cemiface.identities.work import _read_attributes

from ..chain_config import CHAIN


def read(folder: Path, data: bytes) -> dict[str, str]:
    (folder / "groups.tsv").write_bytes(data)
    (folder / "chain.yaml").write_text(
        CHAIN.replace("identities: {}", "identities: {attributes: groups.tsv, quotas: {a: 1.0}}")
    )
    return _read_attributes(load_run(folder / "chain.yaml"))


@pytest.mark.parametrize(
    "data",
    [
        b"candidate-0000000\ta\ncandidate-0000001\tb c\n",
        b"\xef\xbb\xbfcandidate-0000000\ta\r\n\r\ncandidate-0000001\tb c\r\n\r\n",
        b"candidate-0000000;a\ncandidate-0000001;b c\n",
        b"candidate-0000000, a\ncandidate-0000001, b c\n",
        b"candidate-0000000.jpg\ta\ncandidate-0000001.jpg\tb c\n",
        "candidate-0000000\ta\ncandidate-0000001\tb c\n".encode("utf-16"),
    ],
)
def test_groups_are_read_from_any_table(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data) == {"candidate-0000000": "a", "candidate-0000001": "b c"}


def test_a_line_without_a_group_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"groups\.tsv: line 3: got 'candidate-0000001'; allowed: candidate-0000012"):
        read(tmp_path, b"candidate-0000000\ta\n\ncandidate-0000001\n")
