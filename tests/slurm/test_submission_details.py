"""Details of what is submitted: resources, environment, snapshot of the code, and what a run is recorded with."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from slurm.cluster import ArrayResources, Cluster, TrainResources
from slurm.errors import RunError
from slurm.provenance import PACKAGES, provenance
from slurm.run_folder import StageFolder
from slurm.submission.environment import allowed, only_allowed, unused
from slurm.submission.job_script import SETUP, python_of, script, slurm_parameters
from slurm.submission.payload import Payload, payloads
from slurm.submission.slurm_job import SlurmJob, slurm_jobs
from slurm.submission.snapshot import code_digest, code_files, snapshot
from slurm.submission.submit import MAX_ARRAY_SIZE, Site, ask_site

STAGE = StageFolder(Path("/runs/demo/generate"))
ARRAY = SlurmJob(kind="array", first_rank=0, ranks=10, ranks_per_task=4)


def _parameters(cluster: dict[str, Any], job: SlurmJob = ARRAY, *, dependency: str = "") -> dict[str, Any]:
    return slurm_parameters(
        job, stage=STAGE, cluster=Cluster.model_validate(cluster), comment="c", dependency=dependency
    )


@pytest.fixture
def code(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name in ("jobs/a.py", "jobs/deep/page.css", "slurm/start.py", "shards/x.py", "cemiface/net.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")
    return root


def test_the_resources_of_a_task_are_those_of_all_its_ranks() -> None:
    found = _parameters({"array": {"ranks": 10, "ranks_per_task": 4, "gpus": 1, "cpus": 3, "memory_gb": 16}})
    assert (found["ntasks_per_node"], found["cpus_per_task"], found["gpus_per_node"]) == (4, 3, 4)
    assert (found["mem"], found["nodes"], found["job_name"]) == ("64GB", 1, "demo.generate")
    assert found["srun_args"] == ["--cpus-per-task=3", "--kill-on-bad-exit=0"]


def test_ranks_of_a_distributed_job_end_together_and_it_is_no_array() -> None:
    train = {"nodes": 2, "ranks_per_node": 8, "gpus": 1, "memory_gb": 10}
    job = SlurmJob(kind="distributed", first_rank=0, ranks=16, ranks_per_task=16)
    found = _parameters({"train": train, "array": {"memory_gb": 99}}, job)
    assert (found["nodes"], found["ntasks_per_node"], found["gpus_per_node"], found["mem"]) == (2, 8, 8, "80GB")
    assert found["srun_args"][1] == "--kill-on-bad-exit=1"
    assert "array_parallelism" not in found


def test_what_the_cluster_file_does_not_set_is_left_to_the_site() -> None:
    found = _parameters({})
    assert not {"partition", "account", "qos", "constraint", "exclude", "gpus_per_node", "mem"} & set(found)
    assert found["wckey"] is None


@pytest.mark.parametrize(("parallel", "tasks_at_once"), [(None, 3), (1, 1), (4, 1), (5, 2), (8, 2), (10, 3)])
def test_ranks_that_run_at_once_are_counted_in_whole_tasks(parallel: int | None, tasks_at_once: int) -> None:
    array = {"ranks": 10, "ranks_per_task": 4, "parallel": parallel}
    assert _parameters({"array": array})["array_parallelism"] == tasks_at_once


def test_a_job_that_waits_for_another_is_removed_if_that_fails() -> None:
    assert _parameters({})["additional_parameters"] == {"requeue": True}
    assert _parameters({}, dependency="afterok:7")["additional_parameters"] == {
        "requeue": True,
        "dependency": "afterok:7",
        "kill-on-invalid-dep": "yes",
    }


@pytest.mark.parametrize("value", ["it's", "$HOME `id`", "a b;c", "", '"'])
def test_variables_of_the_site_reach_the_shell_as_they_are(value: str) -> None:
    found = _parameters({"environment": {"NAME": value}, "setup": ["module load x"]})["setup"]
    assert found[-1] == "eval 'module load x' || cemiface_failed $? 'module load x'"
    assert shlex.split(found[0]) == ["export", f"NAME={value}"]


def test_a_code_folder_with_blanks_is_one_word_of_the_command() -> None:
    assert shlex.split(python_of(Path("/runs/my run/code/0")))[-1] == "/runs/my run/code/0/slurm/start.py"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"array": {"rank": 4}}, "array.rank"),
        ({"array": {"ranks_per_task": 65}}, "array.ranks_per_task"),
        ({"stop_signal_seconds": 59}, "stop_signal_seconds"),
        ({"setup": ["a\nb"]}, "setup.0"),
        ({"environment": {"A": "x" * 1001}}, "environment.A"),
        ({"partition": "x" * 201}, "partition"),
    ],
)
def test_the_refusal_of_a_cluster_file_names_the_field(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Cluster.model_validate(fields)
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [words]


def test_a_stage_takes_no_fields_of_the_other_kind() -> None:
    cluster = Cluster.model_validate({"stages": {"generate": {"nodes": 2}, "train-diffusion": {"ranks": 2}}})
    with pytest.raises(ValidationError, match="nodes"):
        cluster.of_array("generate")
    with pytest.raises(ValidationError, match="ranks"):
        cluster.of_train("train-diffusion")


@pytest.mark.parametrize("model", [Cluster, ArrayResources, TrainResources])
def test_every_field_of_the_cluster_file_is_described(model: type[Cluster]) -> None:
    for name, field in model.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize("ranks_per_task", [1, 3, 4])
@pytest.mark.parametrize("limit", [2, 4, 1001])
@pytest.mark.parametrize("ranks", [1, 5, 31, 40])
def test_every_rank_has_one_payload_whatever_the_packing(ranks: int, limit: int, ranks_per_task: int) -> None:
    cluster = Cluster.model_validate({"array": {"ranks": ranks, "ranks_per_task": ranks_per_task}})
    jobs = slurm_jobs(cluster, stage="generate", distributed=False, units=10_000, largest_array=limit)
    common = Payload(entry="builtins:print", run="/runs/demo", stage="generate", rank=0, ranks=ranks)
    assert [job.kind for job in jobs].count("canary") == (ranks >= 32)
    covered: list[int] = []
    for job in jobs:
        work = payloads(job, payload=common)
        assert len(work) == job.tasks < max(2, limit)
        if job.kind == "canary":
            assert [(one.rank, one.ranks, one.units) for one in work] == [(0, 1, 1)]
            continue
        for one in work:
            covered += range(one.rank, min(one.rank + job.ranks_per_task, job.first_rank + job.ranks))
    assert covered == list(range(ranks))


@pytest.mark.parametrize("entry", ["no_such_module:run", "builtins:no_such_function", "builtins"])
def test_an_entry_that_does_not_exist_is_an_error_not_a_silent_end(entry: str) -> None:
    with pytest.raises((ImportError, AttributeError)):
        Payload(entry=entry, run="/runs/demo", stage="generate", rank=0, ranks=1)()


def test_the_environment_is_restored_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    before = dict(os.environ)

    def fail() -> None:
        assert "SECRET_TOKEN" not in os.environ
        os.environ["LEFT_BEHIND"] = "1"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), only_allowed():
        fail()
    assert dict(os.environ) == before


@pytest.mark.parametrize("name", ["RANK", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "AWS_SECRET", "LD_PRELOAD", "XLC_A"])
def test_variables_beside_the_list_are_left_out(name: str) -> None:
    assert allowed({name: "1", "PATH": "/bin", "LC_ALL": "C", "SLURM_CONF": "/c"}) == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "SLURM_CONF": "/c",
    }


MODULES = {
    "MODULEPATH": "/sw/modules",
    "MODULESHOME": "/sw/lmod",
    "MODULES_CMD": "/sw/modulecmd.tcl",
    "LMOD_CMD": "/sw/lmod/libexec/lmod",
    "LMOD_SYSTEM_DEFAULT_MODULES": "site",
    "BASH_ENV": "/sw/lmod/init/bash",
    "BASH_FUNC_module%%": '() {  echo loaded "$@"\n}',
    "BASH_FUNC_ml%%": '() {  module "$@"\n}',
    "BASH_FUNC__module_raw%%": "() {  :\n}",
    "BASH_FUNC_module()": "() {  :\n}",
}


def test_the_functions_and_places_of_module_systems_reach_jobs_but_not_what_is_loaded() -> None:
    loaded = {
        "LOADEDMODULES": "cuda/11",
        "_LMFILES_": "/sw/cuda/11",
        "MODULES_LMALTNAME": "x",
        "LMOD_FAMILY_MPI": "x",
        "__LMOD_REF_COUNT_PATH": "x",
        "_ModuleTable001_": "x",
        "MODULEPATH_modshare": "x",
        "BASH_FUNC_deploy%%": "() {  token=secret\n}",
        "BASH_FUNC_module_token%%": "() {  :\n}",
    }
    assert allowed({**MODULES, **loaded}) == MODULES


def _run(folder: Path, fields: dict[str, Any], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a job script with a srun that only says that it ran."""
    (folder / "srun").write_text("#!/bin/sh\necho ranks start\n")
    (folder / "srun").chmod(0o755)
    stage = StageFolder(Path("/runs/demo/generate"))
    text = script(stage=stage, parameters=_parameters(fields), tasks=1, code=Path("/runs/demo/code/0"))
    (folder / "job.sh").write_text(text)
    return subprocess.run(
        ["/bin/bash", folder / "job.sh"],
        capture_output=True,
        text=True,
        check=False,
        env={**allowed(environment), "PATH": f"{folder}:/usr/bin:/bin"},
    )


@pytest.mark.parametrize(
    "line",
    [
        *("module load cuda/99", "false", "cd /nowhere", "no_such_command --at all", "(exit 3)", "source /nowhere"),
        *('[ "$NAME" = "it\'s" ]', "true && false", "for (("),
    ],
)
def test_a_line_of_setup_that_fails_ends_the_job_with_its_text(tmp_path: Path, line: str) -> None:
    done = _run(tmp_path, {"setup": ["true # fine", "# and this", line, "echo too late"]}, {})
    assert done.returncode == SETUP
    assert "a line of setup in the cluster file failed (exit code " in done.stderr
    assert f"): {line}\n" in done.stderr
    assert done.stdout == ""


def test_what_setup_lines_set_stays_for_the_ranks(tmp_path: Path) -> None:
    lines = ['export A="$NAME b"', "umask 077; cd /", "if false; then false; fi", 'echo "$A $PWD"', "module load x"]
    fields = {"environment": {"NAME": "it's"}, "setup": lines}
    environment = {name: value for name, value in MODULES.items() if name in {"BASH_FUNC_module%%", "MODULEPATH"}}
    done = _run(tmp_path, fields, environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "it's b /\nloaded load x\nranks start\n"


def test_variables_of_slurm_in_the_users_shell_are_named_with_the_field_in_their_place() -> None:
    environment = {"SBATCH_PARTITION": "gpu", "SLURM_ACCOUNT": "a", "SBATCH_RESERVATION": "r", "SLURM_CONF": "/c"}
    partition, reservation, account = unused(environment)
    assert partition == "SBATCH_PARTITION is exported in your shell, but not used; set `partition` in the cluster file"
    assert reservation.startswith("SBATCH_RESERVATION is exported in your shell, but not used")
    assert account.endswith("set `account` in the cluster file")
    within = unused({**environment, "SLURM_JOB_ID": "7", "SLURM_NODELIST": "c1"})
    assert within[-1] == "your shell is in job 7 of Slurm, whose SLURM_* variables are not used"
    assert len(within) == 3
    assert unused({"PATH": "/bin", "SLURM_CONF": "/c"}) == []


def test_the_digest_follows_names_and_contents_of_the_code_and_nothing_else(code: Path) -> None:
    first = code_digest(code)
    for name in ("README.md", "jobs/notes.txt", "tests/test_x.py", "jobs/__pycache__/a.pyc"):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text("other")
    assert code_digest(code) == first
    (code / "jobs" / "a.py").rename(code / "jobs" / "b.py")
    renamed = code_digest(code)
    (code / "jobs" / "b.py").write_text("changed\n")
    assert len({first, renamed, code_digest(code)}) == 3


def test_a_snapshot_holds_the_code_and_is_made_once(code: Path, tmp_path: Path) -> None:
    made = snapshot(code, folder=tmp_path / "run" / "code")
    assert (made.name, code_files(made)) == (code_digest(code), code_files(code))
    (made / "jobs" / "a.py").touch()
    assert snapshot(code, folder=tmp_path / "run" / "code") == made
    assert [path.name for path in made.parent.iterdir()] == [made.name]


def test_a_snapshot_that_cannot_be_moved_into_place_leaves_nothing(code: Path, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / code_digest(code)).write_text("a file")
    with pytest.raises(RunError, match="could not be written: Not a directory"):
        snapshot(code, folder=folder)
    assert [path.name for path in folder.iterdir()] == [code_digest(code)]


def test_where_slurm_cannot_be_asked_its_default_limit_of_arrays_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_site() == Site(cluster="", largest_array=MAX_ARRAY_SIZE)


def test_the_site_tells_its_name_and_its_limit_of_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    script = tmp_path / "scontrol"
    script.write_text('#!/bin/sh\necho "ClusterName             = alps"\necho "MaxArraySize            = 500"\n')
    script.chmod(0o755)
    assert ask_site() == Site(cluster="alps", largest_array=500)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_launch_is_recorded_with_its_commit_and_whether_files_differ_from_it(code: Path) -> None:
    _git(code, "init", "-q")
    _git(code, "add", "-A")
    _git(code, "commit", "-qm", "one")
    assert provenance(code)["git"] == {"commit": _git(code, "rev-parse", "HEAD"), "dirty": False}
    (code / "jobs" / "a.py").write_text("changed\n")
    assert provenance(code)["git"]["dirty"] is True
    assert provenance(code / "jobs")["git"] == {
        "commit": "",
        "dirty": False,
    }  # a repository around an installed package


def test_without_git_a_launch_is_recorded_all_the_same(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(code))
    monkeypatch.setenv("SECRET_TOKEN", "not to be recorded")
    found = provenance(code)
    assert found["git"] == {"commit": "", "dirty": False}
    assert set(found["packages"]) == set(PACKAGES)
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert "not to be recorded" not in str(found)
