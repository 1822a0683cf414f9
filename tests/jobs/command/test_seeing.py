"""`status`, `why`, `logs`, `cancel` and `run-rank` after real failures."""
# ruff: noqa: N802

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.command.main import main
from slurm.submission.job_script import SETUP, SETUP_FAILED

from ..commands import PROJECT, SECONDS, Project, wait_until
from ..many_ranks import ManyRanks, fake_tool, queued

LONG = "train-diffusion.images=100000"  # longer than any test waits


@pytest.fixture
def project(tiny_run: Any, tmp_path: Path) -> Project:
    return Project.copy_of(tiny_run, tmp_path / "project")


def _typed(shown: str, command: str) -> Any:
    """Run the command line that `shown` gives for `command`, as a user who copies the line."""
    wanted = f"{sys.executable} -m jobs {command} "
    line = next(line for line in shown.splitlines() if wanted in line)
    words = shlex.split(line[line.index(wanted) :])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False, env=environment)


def test_status_and_why_lead_to_the_rank_the_cause_and_the_command_to_run(project: Project) -> None:
    """The second tar of real faces is damaged: rank 1 of two fails, and everything after it waits."""
    project.forget("embed")
    tar = project.runs / "shard" / "real-00001.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:512] + b"\x00" * 1024 + whole[1536:])
    two = "array: {ranks: 2}\ntrain: {cpus: 1}\n"
    assert project.run("embed", cluster=two).returncode == 1

    status = project.run("status")
    assert status.returncode == 1
    assert "rank 1 of embed failed" in status.stdout
    assert str(tar) in status.stdout

    why = _typed(status.stdout, "why")
    assert why.returncode == 0, why.stderr
    assert f"log: {project.runs / 'embed' / 'logs' / '00001.log'}" in why.stdout
    rerun = _typed(why.stdout, "run-rank")
    assert rerun.returncode == 1
    assert str(tar) in rerun.stderr

    verify = _typed(why.stdout, "verify")
    assert "real-00001.tar: sha256 is" in verify.stdout
    assert "remove it and run again" in verify.stdout
    tar.unlink()
    again = _typed(why.stdout, "all")
    assert again.returncode == 0, again.stderr
    assert tar.read_bytes() == whole
    assert project.run("status").returncode == 0


@pytest.mark.long
def test_F38_a_killed_rank_is_lost_and_its_last_heartbeat_is_shown(project: Project) -> None:
    launcher = _training(project)
    launcher.kill()  # else it would start the rank again
    os.kill(project.heartbeats("train-diffusion")[0]["pid"], signal.SIGKILL)
    launcher.communicate(timeout=SECONDS)
    status = project.run("status", LONG)
    assert status.returncode == 1
    row = next(line for line in status.stdout.splitlines() if line.startswith("train-diffusion"))
    assert row.split()[1] == "lost"
    why = project.run("why", LONG)
    assert "rank 0 of train-diffusion lost" in why.stdout
    assert "its process is gone and recorded no reason (killed, or out of memory?)" in why.stdout
    assert "loss " in why.stdout
    assert LONG in next(line for line in why.stdout.splitlines() if " run-rank " in line)


def test_cancel_stops_a_launch_on_this_machine_which_saves_its_work(project: Project) -> None:
    launcher = _training(project)
    running = project.run("status", LONG)
    assert running.returncode == 3, running.stdout
    assert "watch it: " in running.stdout
    other = project.run("cancel", LONG, "generate")
    assert other.returncode == 1
    assert "generate: is not running, another stage is" in other.stderr
    canceled = project.run("cancel", LONG, "train-diffusion")
    assert canceled.returncode == 0, canceled.stderr
    assert f"asked to stop: the launch, process {launcher.pid}" in canceled.stdout
    _, output = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 130, output
    after = project.run("status", LONG)
    assert after.returncode == 4
    assert "was asked to stop (SIGTERM), its work is saved" in after.stdout
    again = project.run("cancel", LONG)
    assert again.returncode == 1
    assert "nothing to cancel" in again.stderr


def test_a_watch_in_a_pipe_prints_each_change_and_ends_with_the_run(project: Project) -> None:
    project.forget("generate")
    launcher = project.start("generate")
    wait_until((project.runs / "generate" / "plan.json").exists, what="the launch is at work")
    watched = project.run("status", "--watch")
    launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 0
    assert watched.returncode == 0, watched.stdout
    changes = [line for line in watched.stdout.splitlines() if line[2:3] == ":" and " generate: " in line]
    assert "generate: done, 2/2 units" in changes[-1]
    assert "\x1b" not in watched.stdout


def test_why_of_a_stage_that_was_never_launched_has_the_error_of_a_launch(project: Project) -> None:
    why = project.run("why", "name=other", "shard.faces=nowhere")
    assert why.returncode == 0, why.stderr
    assert "shard: not started" in why.stdout
    assert "it cannot be planned: shard.faces: got " in why.stdout
    assert "nowhere" in why.stdout


def test_a_rank_is_run_alone_only_if_it_can(project: Project) -> None:
    folder = project.runs / "generate"
    copied = project.run("run-rank", "generate", "0")
    assert "; launch it here first" in copied.stderr
    project.run("generate")
    (folder / "done" / "00001.json").unlink()
    done = project.run("run-rank", "generate", "0")
    assert done.returncode == 0, done.stderr
    assert (folder / "done" / "00001.json").exists()
    unknown = project.run("run-rank", "generate", "5")
    assert unknown.returncode == 1
    assert "rank: got 5, allowed: 0 to 0 in the last launch of generate" in unknown.stderr
    heartbeat = project.heartbeats("train-diffusion")[0]
    (project.runs / "train-diffusion" / "beats" / "00000.json").write_text(json.dumps({**heartbeat, "ranks": 4}))
    together = project.run("run-rank", "train-diffusion", "0")
    assert together.returncode == 1
    assert "its 4 ranks can only run together" in together.stderr
    never = project.run("run-rank", "generate", "0", "name=never")
    assert never.returncode == 1
    assert "has not been launched yet" in never.stderr


def test_cancel_stops_the_jobs_of_the_run_and_no_others(tmp_path: Path) -> None:
    many = ManyRanks.make(tmp_path / "project", units=4)
    many.submitted(ranks=2)
    tools = tmp_path / "bin"
    answer = queued("7|0|RUNNING|0|0|c1|None", "7|1|PENDING|0|0||Priority")
    answer += queued("8|N/A|PENDING|0|0||Dependency", "6|N/A|COMPLETED|0|0|c1|None")
    answer += queued("9|N/A|RUNNING|0|0|c1|None", comment="cemiface:ffffffffffff:generate")
    fake_tool(tools, "squeue", answer=answer)
    asked = fake_tool(tools, "scancel")
    command = [sys.executable, "-m", "jobs", "cancel", str(many.config)]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, check=False, env={**os.environ, "PATH": str(tools)}
    )
    assert done.returncode == 0, done.stderr
    assert asked.read_text().split() == ["7", "8"]


def test_the_output_of_a_rank_without_a_heartbeat_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = ManyRanks.make(tmp_path / "project", units=4)
    many.submitted(ranks=2)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    fake_tool(tmp_path / "bin", "squeue", answer=queued("7|1|FAILED|0|256|c3|NonZeroExitCode"))
    logs = many.run.stage_folder("generate").submitit_logs
    logs.mkdir(parents=True)
    (logs / "7_1_0_log.err").write_text("python: \x1b[31mcannot\x1b[0m be found\n")
    (logs / "7_0_0_log.err").write_text("of another rank\n")
    with pytest.raises(SystemExit) as end:
        main(["why", str(many.config), "generate", "1"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert "rank 1 of generate lost on c3, exit 1" in shown
    assert "  | python: ?[31mcannot?[0m be found" in shown
    assert "of another rank" not in shown


def test_why_shows_the_line_of_setup_that_ended_a_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = ManyRanks.make(tmp_path / "project", units=4)
    many.submitted(ranks=2)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    fake_tool(tmp_path / "bin", "squeue", answer=queued(f"7|0|FAILED|0|{SETUP << 8}|c3|NonZeroExitCode"))
    logs = many.run.stage_folder("generate").submitit_logs
    logs.mkdir(parents=True)
    (logs / "7_0_0_log.err").write_text(f"{SETUP_FAILED} (exit code 1): module load cuda/99\n")
    with pytest.raises(SystemExit):
        main(["why", str(many.config)])
    shown = capsys.readouterr().out
    assert "rank 0 of generate failed on c3, exit 78: a line of `setup` in the cluster file failed" in shown
    assert "failed (exit code 1): module load cuda/99" in shown


def _training(project: Project) -> subprocess.Popen[str]:
    """A training that runs until it is stopped."""
    project.forget("train-diffusion")
    launcher = project.start("train-diffusion", LONG)
    wait_until(
        lambda: any("note" in heartbeat for heartbeat in project.heartbeats("train-diffusion")), what="a training step"
    )
    return launcher
