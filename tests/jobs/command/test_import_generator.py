"""`cemiface import-generator`: one file in, one file out, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from cemiface.gandiff.gan.generator import load_generator
from cemiface.weights import read_weights
from jobs.command.main import main
from jobs.stages.shared.gate.lineage import lineage_of_weights

from ...cemiface.gandiff.gan.official_files import pickled, stylegan2, stylegan3


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["import-generator", *arguments])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_license_origin_and_training_faces_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official = pickled(stylegan2(), tmp_path / "official.pkl")
    target = tmp_path / "generator.safetensors"
    options = ("--to", str(target), "--license", "CC BY 4.0", "--origin", "https://example.org", "--trained-on", "FFHQ")
    assert _run(str(official), *options) == 0
    assert "license: CC BY 4.0" in capsys.readouterr().out
    metadata = read_weights(target)[1]
    assert (metadata["license"], metadata["origin"]) == ("CC BY 4.0", "https://example.org")
    (faces,) = lineage_of_weights(target, field="generator")
    assert faces.name == "FFHQ"
    assert load_generator(target).image_size == 16


def test_without_the_training_faces_the_lineage_says_so(tmp_path: Path) -> None:
    official = pickled(stylegan3(), tmp_path / "official.pkl")
    target = tmp_path / "generator.safetensors"
    assert _run(str(official), "--to", str(target), "--license", "x", "--origin", "y") == 0
    (faces,) = lineage_of_weights(target, field="generator")
    assert faces.name == "unknown origin: generator.safetensors"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--to": "generator.bin"}, "--to: got"),
        ({"--to": "official.pkl.safetensors"}, "is already there"),
        ({"--license": " "}, "--license: got"),
        ({"--origin": "two\nlines"}, "--origin: got"),
        ({"--trained-on": "two\nlines"}, "lineage: got"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, str], message: str
) -> None:
    official = pickled(stylegan2(), tmp_path / "official.pkl")
    (tmp_path / "official.pkl.safetensors").touch()
    options = {"--to": "generator.safetensors", "--license": "x", "--origin": "y", **changed}
    options["--to"] = str(tmp_path / options["--to"])
    assert _run(str(official), *(text for pair in options.items() for text in pair)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_pickle_that_would_run_something_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    official = tmp_path / "official.pkl"
    official.write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    options = ("--to", str(tmp_path / "generator.safetensors"), "--license", "x", "--origin", "y")
    assert _run(str(official), *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "asks for posix.system" in line
    assert [path.name for path in tmp_path.iterdir()] == ["official.pkl"]
