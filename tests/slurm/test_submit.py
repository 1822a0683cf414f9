"""What Slurm gets: jobs, their scripts and their environment. Slurm's commands are scripts here."""
# ruff: noqa: N802

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slurm.cluster import Cluster
from slurm.errors import RunError
from slurm.run_folder import RunFolder, StageFolder
from slurm.submission.environment import allowed, only_allowed
from slurm.submission.job_script import script, slurm_parameters
from slurm.submission.ownership import Ownership
from slurm.submission.payload import Payload, payloads
from slurm.submission.slurm_job import SlurmJob, slurm_jobs
from slurm.submission.snapshot import code_digest, snapshot
from slurm.submission.submit import submit_slurm

STAGE = StageFolder(Path("/runs/demo/generate"))
CODE = Path("/runs/demo/code/0123456789ab")
PROJECT = Path(__file__).parent.parent.parent
GOLDEN = Path(__file__).parent / "scripts"
EVERYTHING: dict[str, Any] = {
    "partition": "gpu",
    "account": "project-1",
    "qos": "normal",
    "constraint": "a100&nvlink",
    "exclude": "n[7-8]",
    "setup": ["module load cuda/12.6", 'echo "$HOSTNAME; it works"'],
    "environment": {"NCCL_SOCKET_IFNAME": "ib0", "TOLD": "it's $HOME; `id`"},
    "array": {"ranks": 2500, "parallel": 64, "ranks_per_task": 4, "gpus": 1, "cpus": 8, "memory_gb": 64, "minutes": 30},
    "train": {"nodes": 2, "ranks_per_node": 4, "gpus": 1, "cpus": 8, "memory_gb": 64, "minutes": 720},
}


def _payload(**fields: Any) -> Payload:
    return Payload(
        **{"entry": "builtins:print", "run": "/runs/demo", "stage": "generate", "rank": 0, "ranks": 1, **fields}
    )


def _script(cluster: Cluster, job: SlurmJob, *, dependency: str = "") -> str:
    parameters = slurm_parameters(
        job, stage=STAGE, cluster=cluster, comment="cemiface:0123456789ab:generate", dependency=dependency
    )
    text = script(stage=STAGE, parameters=parameters, tasks=job.tasks, code=CODE)
    return text.replace(shlex.quote(sys.executable), "PYTHON")


@pytest.mark.parametrize("name", ["canary", "array", "distributed", "plain"])
def test_the_job_script_is_the_one_on_record(name: str) -> None:
    """`scripts/` holds what sbatch gets; a change of ours or of submitit's shows in a review."""
    cluster = Cluster() if name == "plain" else Cluster.model_validate({"executor": "slurm", **EVERYTHING})
    if name == "plain":
        cluster = Cluster.model_validate({"array": {"cpus": 1}})
    jobs = {
        "canary": SlurmJob(kind="canary", first_rank=0, ranks=1, ranks_per_task=1),
        "array": SlurmJob(kind="array", first_rank=0, ranks=2500, ranks_per_task=4),
        "distributed": SlurmJob(kind="distributed", first_rank=0, ranks=8, ranks_per_task=8),
        "plain": SlurmJob(kind="array", first_rank=0, ranks=1, ranks_per_task=1),
    }
    dependency = "" if name == "plain" else "afterok:17:18,afterany:19"
    path = GOLDEN / f"{name}.sh"
    assert _script(cluster, jobs[name], dependency=dependency) == path.read_text()


@pytest.mark.parametrize("ranks", [1, 2, 31, 32, 999, 1000, 1001, 2500, 20_000])
@pytest.mark.parametrize(("largest", "each"), [(1001, 1), (1001, 4), (11, 3), (2, 1)])
def test_F23_F24_arrays_stay_below_the_limit_and_every_rank_runs_exactly_once(
    ranks: int, largest: int, each: int
) -> None:
    cluster = Cluster.model_validate({"array": {"ranks": ranks, "ranks_per_task": each}})
    jobs = slurm_jobs(cluster, stage="generate", distributed=False, units=10**6, largest_array=largest)
    canaries = [job for job in jobs if job.kind == "canary"]
    assert len(canaries) == (ranks >= 32)
    arrays = jobs[len(canaries) :]
    assert all(job.tasks <= max(1, largest - 1) for job in arrays)
    run = []
    for job in arrays:
        tasks = payloads(job, payload=_payload(ranks=ranks))
        assert len(tasks) == job.tasks
        run += [task.rank + process for task in tasks for process in range(job.ranks_per_task)]
    assert sorted(rank for rank in run if rank < ranks) == list(range(ranks))
    assert len(run) == len(set(run))


def test_there_are_no_more_ranks_than_units() -> None:
    cluster = Cluster.model_validate({"array": {"ranks": 64, "ranks_per_task": 4}})
    (job,) = slurm_jobs(cluster, stage="generate", distributed=False, units=3, largest_array=1001)
    assert (job.ranks, job.ranks_per_task, job.tasks) == (3, 3, 1)


def test_the_canary_looks_for_one_unit_as_if_it_were_alone() -> None:
    canary = SlurmJob(kind="canary", first_rank=0, ranks=1, ranks_per_task=1)
    (task,) = payloads(canary, payload=_payload(ranks=64))
    assert (task.rank, task.ranks, task.units) == (0, 1, 1)


def test_a_payload_calls_the_entry_it_names_with_itself(capsys: pytest.CaptureFixture[str]) -> None:
    _payload(stage="this one")()
    assert "this one" in capsys.readouterr().out


def test_secrets_and_other_variables_of_the_shell_do_not_reach_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "WANDB_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "RANK",
        "WORLD_SIZE",
        "SLURM_JOB_ID",
        "CUDA_VISIBLE_DEVICES",
    ):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/site.conf")
    before = dict(os.environ)
    with only_allowed():
        assert os.environ["SLURM_CONF"] == "/etc/site.conf"
        assert os.environ["PATH"] == before["PATH"]
        assert not {"WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "RANK", "SLURM_JOB_ID"} & set(os.environ)
    assert dict(os.environ) == before
    assert allowed({"LC_ALL": "C", "LCX": "1"}) == {"LC_ALL": "C"}


SBATCH = """#!/bin/sh
cat "$1" > {folder}/script.sh
env > {folder}/environment
{answer}
"""
SCONTROL = "#!/bin/sh\necho 'JobId=7 Comment={comment}'\n"
SQUEUE = """#!/bin/sh
echo '5|0|RUNNING|0|0|c1|None|(null)|here|demo.generate|/dev/null|cemiface:0123456789ab:generate|'
echo '6|N/A|RUNNING|0|0|c1|None|(null)|here|demo.embed|/dev/null|cemiface:0123456789ab:embed|'
echo '7|N/A|PENDING|0|0||Priority|(null)|here|demo.generate|/dev/null|cemiface:0123456789ab:generate|'
echo '8|N/A|RUNNING|0|0|c1|None|(null)|here|demo.generate|/dev/null|other|'
echo '9|N/A|COMPLETED|0|0|c1|None|(null)|here|demo.generate|/dev/null|cemiface:0123456789ab:generate|'
"""
COMMENT = "cemiface:0123456789ab:generate"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands named like Slurm's, first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    _command(folder, "squeue", SQUEUE)
    _command(folder, "srun", "#!/bin/sh\n")
    _command(folder, "scontrol", SCONTROL.format(comment=COMMENT))
    _command(folder, "scancel", f'#!/bin/sh\necho "$@" > {tmp_path}/canceled\n')
    return tmp_path


def _command(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def _submit(site: Path, *, answer: str, tasks: int = 2) -> str:
    _command(site / "bin", "sbatch", SBATCH.format(folder=site, answer=answer))
    run = RunFolder(site / "runs" / "demo")
    run.root.mkdir(parents=True)
    run.identity.write_text(json.dumps({"id": "0123456789ab", "path": str(run.root)}))
    stage = run.stage("generate")
    job = SlurmJob(kind="array", first_rank=0, ranks=tasks, ranks_per_task=1)
    parameters = slurm_parameters(job, stage=stage, cluster=Cluster(), comment=COMMENT)
    work = payloads(job, payload=_payload(ranks=tasks))
    return submit_slurm(work, stage=stage, parameters=parameters, code=CODE, owner=Ownership.of(run), known=["5"])


@pytest.mark.parametrize("tasks", [1, 2])
def test_F24_one_task_or_many_are_submitted_alike(site: Path, tasks: int) -> None:
    assert _submit(site, answer="echo Submitted batch job 7", tasks=tasks) == "7"
    text = (site / "script.sh").read_text()
    assert ("--array=0-1%2" in text) == (tasks == 2)
    assert "HOME=" in (site / "environment").read_text()
    assert not (site / "canceled").exists()


@pytest.mark.parametrize(
    "answer",
    [
        "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1",
        "echo 'Thank you for using this site'",
        "exit 0",
    ],
)
def test_F25_a_job_whose_answer_is_lost_is_canceled_not_submitted_twice(site: Path, answer: str) -> None:
    with pytest.raises(RunError, match=r"generate: sbatch: .*job 7 was accepted anyway and is now canceled"):
        _submit(site, answer=answer)
    assert (site / "canceled").read_text().split() == ["7"]  # neither 5, which was there before, nor another's


@pytest.mark.parametrize("comment", ["(null)", "charged to project-1 by the site"])
def test_a_site_that_writes_comments_of_its_own_leaves_no_orphan(site: Path, comment: str) -> None:
    logs = site / "runs" / "demo" / "generate" / "logs" / "submitit"
    shown = f"JobId=7 JobName=demo.generate\n   JobState=PENDING\n   Comment={comment}\n   StdOut={logs}/7_0_log.out"
    _command(site / "bin", "scontrol", f"#!/bin/sh\necho '{shown}'\n")
    assert _submit(site, answer="echo Submitted batch job 7") == "7"
    assert not (site / "canceled").exists()


def test_F25_another_number_in_the_output_of_sbatch_is_not_taken_for_the_job(site: Path) -> None:
    _command(site / "bin", "scontrol", SCONTROL.format(comment="other"))
    with pytest.raises(RunError, match="it answered job 3, which is not ours"):
        _submit(site, answer="echo You have job 3 left this month; echo Submitted batch job 7")


def test_F42_a_snapshot_is_whole_named_by_its_content_and_stays_as_it_is(tmp_path: Path) -> None:
    for package in ("jobs", "slurm", "shards", "cemiface"):
        (tmp_path / "project" / package).mkdir(parents=True)
        (tmp_path / "project" / package / "a.py").write_text("A = 1\n")
    (tmp_path / "project" / "jobs" / "private.png").write_text("a face")
    first = snapshot(tmp_path / "project", folder=tmp_path / "code")
    assert first.name == code_digest(tmp_path / "project") == code_digest(first)
    assert snapshot(tmp_path / "project", folder=tmp_path / "code") == first
    (tmp_path / "project" / "jobs" / "a.py").write_text("A = 2\n")
    second = snapshot(tmp_path / "project", folder=tmp_path / "code")
    assert second != first
    assert (first / "jobs" / "a.py").read_text() == "A = 1\n"
    assert not list((tmp_path / "code").rglob("*.png"))
    assert sorted(path.name for path in (tmp_path / "code").iterdir()) == sorted([first.name, second.name])


SAYS = """
import json, os, signal, slurm
pending = signal.pthread_sigmask(signal.SIG_BLOCK, [])
print(json.dumps({"slurm": slurm.__file__, "blocked": sorted(pending), "code": os.environ["CEMIFACE_CODE"]}))
"""


def test_F13_F42_a_task_starts_from_its_snapshot_with_signals_blocked(tmp_path: Path) -> None:
    code = snapshot(PROJECT, folder=tmp_path)
    command = [sys.executable, "-S", "-E", str(code / "slurm" / "start.py"), "-c", SAYS]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout)
    assert Path(found["slurm"]).is_relative_to(code)
    assert found["code"] == code.name
    assert {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2} <= set(found["blocked"])


def test_no_value_adds_a_line_to_a_script(site: Path) -> None:
    """Every value that the cluster file accepts stays on its own line."""
    text = _script(Cluster.model_validate(EVERYTHING), SlurmJob(kind="array", first_rank=0, ranks=2, ranks_per_task=1))
    lines = text.splitlines()
    assert sum(line.startswith("#SBATCH") for line in lines) == len(
        re.findall(r"^#SBATCH --[a-z-]+(=.*)?$", text, re.M)
    )
    done = subprocess.run(
        ["bash", "-c", "\n".join(line for line in lines if line.startswith("export TOLD")) + '\necho "$TOLD"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "it's $HOME; `id`\n"
