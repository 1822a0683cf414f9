"""A published set is signed with the group's key, and whoever knows the signer can tell that nothing was changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run_folder
from jobs.frame.run import Run
from jobs.stages.publish.plan import PublishSet, check_launch, key_path
from jobs.stages.publish.signing import fingerprint, public_key

from ..command.test_sets import bare_python, command
from ..commands import flip_a_bit
from ..one_rank import edit_config, plan_stage, work_alone

needs_ssh_keygen = pytest.mark.skipif(
    "CI" not in os.environ and shutil.which("ssh-keygen") is None, reason="needs ssh-keygen (openssh-client)"
)
pytestmark = needs_ssh_keygen


def new_key(path: Path, *, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "ann@host", "-f", path], check=True)
    return path


def with_key(run: Run, key: Path) -> Run:
    edit_config(run.folder.root, publish={**run.section(PublishSet).model_dump(mode="json"), "signing_key": str(key)})
    return load_run_folder(run.folder.root)


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A folder that was published with a key."""

    folder: Path
    key: Path

    @property
    def signers(self) -> Path:
        return self.folder / "allowed_signers"

    def verify(self, *arguments: str) -> Any:
        return bare_python(str(self.folder / "verify.py"), *arguments)


@pytest.fixture
def signed(copied: Run, tmp_path: Path) -> Signed:
    key = new_key(tmp_path / "key")
    run = with_key(copied, key)
    shutil.rmtree(run.stage_folder("publish").root)
    plan_stage(run, "publish")
    work_alone(run, "publish")
    return Signed(folder=run.stage_folder("publish").output("tiny-set"), key=key)


def test_a_signed_set_is_accepted_by_openssh_itself_and_by_all_that_know_the_signer(
    signed: Signed, tmp_path: Path
) -> None:
    arguments = [
        "-f",
        signed.signers,
        "-I",
        "publisher",
        "-n",
        "cemiface-dataset",
        "-s",
        signed.folder / "manifest.json.sig",
    ]
    manifest = (signed.folder / "manifest.json").read_bytes()
    assert subprocess.run(["ssh-keygen", "-Y", "verify", *arguments], input=manifest, check=False).returncode == 0
    other = manifest.replace(b'"private"', b'"privatE"')
    assert subprocess.run(["ssh-keygen", "-Y", "verify", *arguments], input=other, check=False).returncode != 0
    for signer in (signed.signers, signed.key.with_suffix(".pub")):
        accepted = signed.verify("--signer", str(signer))
        assert (accepted.returncode, accepted.stderr) == (0, "")
        assert "; signed by publisher" in accepted.stdout
    imported = command("import", str(signed.folder), "--signer", str(signed.signers), cwd=tmp_path)
    assert imported.returncode == 0, imported.stderr
    assert "; signed by publisher" in imported.stdout
    copy = tmp_path / "sets" / "tiny-set" / "verify.py"
    assert bare_python(str(copy), "--signer", str(signed.signers)).returncode == 0
    again = command("import", str(signed.folder), "--signer", str(signed.signers), cwd=tmp_path)
    assert "is registered already" in again.stdout


def test_nobody_who_gives_no_signer_is_told_that_the_signature_is_good(signed: Signed, tmp_path: Path) -> None:
    told = "; signed, but not checked: give --signer FILE"
    assert told in signed.verify().stdout
    assert told in command("import", str(signed.folder), cwd=tmp_path).stdout


def test_the_folder_names_its_key_and_holds_no_private_one(signed: Signed, copied: Run) -> None:
    public = signed.key.with_suffix(".pub").read_text()
    shown = subprocess.run(["ssh-keygen", "-l", "-f", signed.key], capture_output=True, text=True, check=True).stdout
    assert fingerprint(public) in shown
    assert fingerprint(public) in (signed.folder / "README.md").read_text()
    secret = signed.key.read_bytes().splitlines()[1]
    for path in (*copied.folder.root.rglob("*"),):
        data = path.read_bytes() if path.is_file() else b""
        assert secret not in data, path
        if signed.folder in path.parents:
            assert b"ann@host" not in data
            assert str(signed.key).encode() not in data


def test_a_foreign_signature_and_a_changed_manifest_are_refused(signed: Signed, tmp_path: Path) -> None:
    stranger = new_key(tmp_path / "stranger").with_suffix(".pub")
    for arguments in (["import", str(signed.folder), "--signer", str(stranger)],):
        refused = command(*arguments, cwd=tmp_path)
        assert refused.returncode == 1
        assert "manifest.json.sig: not a signature by" in refused.stderr
        assert not (tmp_path / "sets").exists()
    refused = signed.verify("--signer", str(stranger))
    assert refused.returncode == 1
    (line,) = refused.stdout.splitlines()
    assert line.startswith(f"manifest.json.sig: not a signature by {stranger}")
    flip_a_bit(signed.folder / "manifest.json.sig")
    assert signed.verify("--signer", str(signed.signers)).returncode == 1
    manifest = signed.folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    refused = signed.verify("--signer", str(signed.signers))
    assert "manifest.json.sig: not a signature by" in refused.stdout
    assert "Traceback" not in refused.stderr


def test_a_set_without_a_signature_is_called_unsigned_and_refused_where_a_signer_is_asked_for(
    tiny_run: Any, tmp_path: Path
) -> None:
    folder = tiny_run.folder / "publish" / "tiny-set"
    assert "unsigned" in (folder / "README.md").read_text().lower()
    assert "; unsigned" in bare_python(str(folder / "verify.py")).stdout
    signer = new_key(tmp_path / "key").with_suffix(".pub")
    refused = bare_python(str(folder / "verify.py"), "--signer", str(signer))
    assert refused.returncode == 1
    assert refused.stdout == "manifest.json.sig: missing: the set is unsigned, and --signer was given\n"
    refused = command("import", str(folder), "--signer", str(signer), cwd=tmp_path)
    assert refused.returncode == 1
    assert "manifest.json.sig: missing" in refused.stderr


@pytest.mark.parametrize("what", ["nothing there", "a passphrase", "no key", "open to others"])
def test_a_key_that_cannot_sign_is_refused_before_anything_runs(copied: Run, tmp_path: Path, what: str) -> None:
    key = tmp_path / "key"
    if what == "no key":
        key.write_text("no key\n")
        key.chmod(0o600)
    elif what != "nothing there":
        new_key(key, passphrase="secret" if what == "a passphrase" else "")
        key.chmod(0o644 if what == "open to others" else 0o600)
    run = with_key(copied, key)
    with pytest.raises(ConfigError, match=r"publish.signing_key: got .*/key, ") as error:
        check_launch(run)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_without_a_key_nothing_is_signed(copied: Run) -> None:
    assert public_key(key_path(copied)) is None
