"""`status` of a run of many ranks, from markers, heartbeats and the queue of Slurm."""
# ruff: noqa: N802

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jobs.command.main import main
from jobs.frame.methods import find_method
from jobs.launch.submit import refuse_beside_jobs
from jobs.watch.observer import Observer
from jobs.watch.progress import StageProgress
from jobs.watch.throughput import images_expected
from jobs.watch.units import Units
from slurm.errors import RunError
from slurm.ranks.heartbeats import Heartbeat
from slurm.ranks.worker import Worker, this_host

from ..many_ranks import ELSEWHERE, STAGE, ManyRanks, fake_tool, queued


@pytest.fixture
def many(tmp_path: Path) -> ManyRanks:
    return ManyRanks.make(tmp_path / "project", units=12)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH without any Slurm, until a test puts some of it there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def _status(many: ManyRanks, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(["status", str(many.config), *more])
    return int(end.value.code or 0), capsys.readouterr().out


def test_done_running_queued_and_failed_ranks_are_distinguished(many: ManyRanks, tools: Path) -> None:
    many.submitted(ranks=5)
    many.done(range(4))
    many.heartbeat(0, "done", exit=0)
    many.heartbeat(1, "running", images=5)
    many.heartbeat(3, "failed", reason="bad tar", exit=1)
    many.heartbeat(4, "running", images=7)
    answer = queued(
        "7|0|COMPLETED|0|0|c1|None",
        "7|1|RUNNING|0|0|c2|None",
        "7|2|PENDING|0|0||Priority",
        "7|3|FAILED|0|256|c3|NonZeroExitCode",
        "7|4|NODE_FAIL|0|0|c4|NodeDown",
    )
    fake_tool(tools, "squeue", answer=answer)
    stage = many.poll()
    assert [rank.state for rank in stage.ranks] == ["done", "running", "queued", "failed", "lost"]
    assert (stage.state, stage.units_done, stage.units) == ("running", 4, 12)
    assert stage.reason.startswith("rank 4 lost (and 1 more): its node c4 failed; ")
    assert "Priority: jobs of higher priority come first (rank 2)" in stage.reason
    assert (stage.images, stage.images_expected) == (45, 120)


def test_pace_and_time_left_come_from_the_ranks_that_run(many: ManyRanks) -> None:
    """Two ranks since they began, whatever their clocks say; what was done before counts as done, not as speed."""
    many.done(range(3), rank=1)
    now = time.time()
    many.heartbeat(0, "running", images=60, time=now, since={"images": 10, "time": now - 25})
    many.heartbeat(1, "running", images=35, time=now - 9000, since={"images": 5, "time": now - 9030})
    many.heartbeat(2, "stopped", images=99, time=now, since={"images": 1, "time": now - 1})
    stage = many.poll(_patient(many))
    assert stage.images_per_second == pytest.approx(2.0 + 1.0)
    assert stage.images == 30 + 60 + 5  # rank 1's first 30 are the three units
    assert stage.seconds_left == pytest.approx((120 - 95) / 3.0)


def _patient(many: ManyRanks) -> Observer:
    """An observer that has just heard all of them."""
    observer = Observer(many.run)
    folder = many.run.stage_folder(STAGE)
    texts = {path: path.read_text() for path in folder.heartbeats.glob("*.json")}
    for path, text in texts.items():
        path.write_text(json.dumps({**json.loads(text), "time": 0.0}))
    observer.poll()
    for path, text in texts.items():
        path.write_text(text)
    return observer


def test_F32_a_rank_with_new_heartbeats_is_running_even_if_its_clock_is_wrong(many: ManyRanks) -> None:
    yesterday = time.time() - 86400
    many.heartbeat(0, "running", time=yesterday)
    observer = Observer(many.run)
    assert [rank.state for rank in many.poll(observer).ranks] == ["lost"]
    many.heartbeat(0, "running", time=yesterday + 1)
    assert [rank.state for rank in many.poll(observer).ranks] == ["running"]
    many.heartbeat(0, "running", time=time.time() + 86400)  # and a clock that is ahead keeps no rank running for a day
    many.poll(observer)
    assert many.poll(observer).ranks[0].facts.silent < 3600


def test_F26_without_sacct_and_after_squeue_forgot_the_job_the_run_folder_is_used(many: ManyRanks, tools: Path) -> None:
    many.submitted(ranks=4)
    many.heartbeat(0, "done")
    many.heartbeat(1, "failed", reason="bad tar")
    many.heartbeat(2, "running")
    fake_tool(tools, "squeue")
    stage = many.poll()
    assert [rank.state for rank in stage.ranks] == ["done", "failed", "lost", "unknown"]
    assert "unknown to Slurm" in stage.ranks[2].reason
    assert "unknown to Slurm" in stage.ranks[3].reason


def test_F26_without_slurm_on_this_machine_no_rank_is_lost(
    many: ManyRanks, tools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many.submitted(ranks=3)
    many.heartbeat(0, "done")
    many.heartbeat(1, "running")
    assert [rank.state for rank in many.poll().ranks] == ["done", "running", "unknown"]
    code, shown = _status(many, capsys)
    assert code == 3
    assert "Slurm gave no answer (there is no squeue on this machine)" in shown


def test_the_accounting_is_asked_for_jobs_that_squeue_has_forgotten(many: ManyRanks, tools: Path) -> None:
    many.submitted(ranks=3)
    many.heartbeat(0, "running", attempts={})
    many.heartbeat(1, "running")
    fake_tool(tools, "squeue")
    asked = fake_tool(
        tools,
        "sacct",
        answer="7_0|NODE_FAIL|0:0|c1\n7_0|OUT_OF_MEMORY|0:125|c1\n7_1|RUNNING|0:0|c2\n7_2|TIMEOUT|0:0|c2\n",
    )
    stage = many.poll()
    assert [rank.state for rank in stage.ranks] == ["failed", "lost", "failed"]
    assert "out of memory" in stage.ranks[0].reason
    assert stage.ranks[0].restarts == {"node_fail": 1}
    assert "unknown to Slurm" in stage.ranks[1].reason  # an accounting that missed its end is not believed
    assert "out of time" in stage.ranks[2].reason
    assert len(asked.read_text().splitlines()) == 1


def test_one_status_waits_a_few_seconds_for_slurm_and_asks_the_accounting_once_for_all_stages(
    many: ManyRanks, tools: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[tuple[str, float]] = []

    def hangs(tool: str, *options: str, seconds: float) -> tuple[str, str]:
        waited.append((tool, seconds))
        assert tool == "squeue" or "--jobs=8,9,7" in options
        return "", f"{tool} did not answer within {seconds:.0f} s"

    monkeypatch.setattr("slurm.submission.queue.call", hangs)
    many.submitted(ranks=2)
    record = json.loads(many.folder.job_record.read_text())
    for job, name in (("8", "shard"), ("9", "embed")):
        folder = many.run.stage_folder(name)
        folder.root.mkdir(exist_ok=True)
        jobs = [{**record["jobs"][0], "job": job}]
        folder.job_record.write_text(json.dumps({**record, "jobs": jobs}))
        folder.plan.write_text(json.dumps({"stage": name, "units": []}))
    code, shown = _status(many, capsys)
    assert code == 3  # nobody knows, so it may be at work
    assert "Slurm gave no answer (squeue did not answer within 5 s)" in shown
    assert "Slurm's accounting gave no answer (sacct did not answer within 5 s)" in shown
    assert [tool for tool, _ in waited] == ["squeue", "sacct"]
    assert sum(seconds for _, seconds in waited) <= 10


def test_what_any_running_rank_waits_for_is_shown(many: ManyRanks, capsys: pytest.CaptureFixture[str]) -> None:
    many.heartbeat(0, "running")
    many.heartbeat(1, "running", note="waits for an older attempt of this rank to end: process 12 on c1 holds 1.lock")
    _, shown = _status(many, capsys)
    assert "waits for an older attempt of this rank to end: process 12 on c1 holds 1.lock" in shown


def test_slurm_is_asked_now_and_then_only(many: ManyRanks, tools: Path) -> None:
    many.submitted(ranks=2)
    asked = fake_tool(tools, "squeue", answer=queued("7|0|RUNNING|0|0|c1|None", "7|1|RUNNING|0|0|c1|None"))
    observer = Observer(many.run, slurm_poll_seconds=3600.0)
    for _ in range(3):
        assert many.poll(observer).state == "running"
    assert len(asked.read_text().splitlines()) == 1


def test_a_run_that_was_never_submitted_asks_no_slurm(many: ManyRanks, tools: Path) -> None:
    asked = fake_tool(tools, "squeue")
    many.poll()
    assert not asked.exists()


def test_jobs_that_slurm_took_out_because_a_stage_before_failed_are_no_failures(many: ManyRanks, tools: Path) -> None:
    many.submitted(ranks=2)
    fake_tool(tools, "squeue", answer=queued("7|0|CANCELLED|0|0||Dependency", "7|1|CANCELLED|0|0||Dependency"))
    stage = many.poll()
    assert (stage.state, stage.ranks) == ("not started", ())
    assert stage.troubled == []


@pytest.mark.parametrize(
    ("states", "code", "message"),
    [
        (["failed", "running"], 1, "rank 0 of generate failed on another-host, exit 1: bad tar"),
        (["stopped", "running"], 3, "watch it: "),
        (["stopped", "done"], 4, "resume with: "),
    ],
)
def test_the_exit_code_and_the_last_line_say_what_to_do(
    many: ManyRanks, capsys: pytest.CaptureFixture[str], states: list[str], code: int, message: str
) -> None:
    for rank, state in enumerate(states):
        many.heartbeat(rank, state, **({"reason": "bad tar", "exit": 1} if state == "failed" else {}))
    found, shown = _status(many, capsys)
    assert found == code
    assert message in shown
    assert str(many.config) in shown.splitlines()[-1]


def test_held_ranks_are_counted_in_one_line_with_the_command_that_releases_them(
    many: ManyRanks, tools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many.submitted(ranks=12)
    many.heartbeat(0, "running")
    held = [f"7|{task}|PENDING|1|0||launch failed requeued held" for task in range(1, 11)]
    answer = queued("7|0|RUNNING|0|0|c1|None", *held, "7|11|PENDING|0|0||JobHeldUser")
    fake_tool(tools, "squeue", answer=answer)
    code, shown = _status(many, capsys)
    assert code == 5
    (line,) = [line for line in shown.splitlines() if "never start by themselves" in line]
    assert line.startswith("generate: 11 of 12 ranks never start by themselves: launch failed requeued held: ")
    assert "`scontrol release 7`" in line
    assert "JobHeldUser: held by you; `scontrol release 7_11`" in line
    assert "watch it" in shown  # the running rank


def test_a_chain_behind_a_held_job_is_not_watched(
    many: ManyRanks, tools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many.submitted(ranks=2)
    fake_tool(tools, "squeue", answer=queued("7|0|PENDING|0|0||PartitionConfig", "7|1|PENDING|0|0||Dependency"))
    code, shown = _status(many, capsys, "--watch")  # ends, as nothing will change
    assert code == 5
    assert "PartitionConfig: the partition does not allow this job" in shown
    assert "watch it" not in shown
    assert json.loads(_status(many, capsys, "--json")[1])["held"] is True
    with pytest.raises(SystemExit):
        main(["why", str(many.config)])
    assert "generate: held, " in capsys.readouterr().out


def test_restarts_are_shown_by_how_they_came_about(many: ManyRanks, capsys: pytest.CaptureFixture[str]) -> None:
    many.heartbeat(0, "running", attempts={"stopped": 2, "lost": 1, "failed": 0})
    many.heartbeat(1, "running", attempts={"stopped": 1})
    _, shown = _status(many, capsys)
    assert "3 stopped, 1 lost" in next(line for line in shown.splitlines() if line.startswith(STAGE))


def test_json_holds_every_rank_for_scripts(many: ManyRanks, capsys: pytest.CaptureFixture[str]) -> None:
    many.heartbeat(0, "failed", reason="bad tar", exit=1, images=3)
    code, shown = _status(many, capsys, "--json")
    value = json.loads(shown)
    stage = next(stage for stage in value["stages"] if stage["name"] == STAGE)
    assert (code, value["done"], value["in_trouble"], stage["state"]) == (1, False, True, "failed")
    (rank,) = stage["ranks"]
    assert (rank["state"], rank["reason"], rank["exit"], rank["images"]) == ("failed", "bad tar", 1, 3)


def test_long_commands_are_not_folded(
    many: ManyRanks, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    many.heartbeat(0, "failed", reason="bad tar")
    _, shown = _status(many, capsys)
    (command,) = [line for line in shown.splitlines() if " why " in line]
    assert command.endswith(f"why {many.config} generate 0")


def test_another_process_with_the_pid_of_a_dead_rank_does_not_keep_it_alive(many: ManyRanks) -> None:
    """As after a reboot: this process began long after the rank's last word."""
    here = {"host": this_host(), "pid": os.getpid()}
    many.heartbeat(0, "running", **here)
    many.heartbeat(1, "running", **here, time=time.time() - 86400)
    assert [rank.state for rank in many.poll().ranks] == ["running", "lost"]


def test_damaged_heartbeats_and_records_do_not_hide_the_others(many: ManyRanks) -> None:
    many.heartbeat(1, "running")
    folder = many.run.stage_folder(STAGE)
    folder.heartbeat(0).write_text('{"rank": 0')
    folder.heartbeat(2).write_text("{}")
    folder.job_record.write_text("[]")
    assert [rank.rank for rank in many.poll().ranks] == [1]


def test_F46_each_folder_is_listed_once_and_each_file_opened_once(many: ManyRanks) -> None:
    many.done(range(11))
    for rank in range(8):
        many.heartbeat(rank, "done")
    observer = Observer(many.run)
    observer.poll()  # imports and caches
    with _calls() as calls:
        stage = many.poll(observer)
    assert stage.units_done == 11
    folder = many.run.stage_folder(STAGE)
    for listed in (folder.done, folder.heartbeats, folder.root):
        assert calls["os.listdir", str(listed)] + calls["os.scandir", str(listed)] == 1
    opened = [path for event, path in calls.elements() if event == "open" and path.startswith(str(folder.done))]
    assert sorted(opened) == [str(folder.marker(number)) for number in range(11)]
    assert not [path for event, path in calls.elements() if event == "open" and path.endswith(".tar")]


class _calls:  # noqa: N801 (reads as a verb)
    """The files opened and folders listed inside of the block."""

    _counters: list[Counter[tuple[str, str]]] = []  # noqa: RUF012 (audit hooks stay for good)
    _installed = False

    def __enter__(self) -> Counter[tuple[str, str]]:
        if not _calls._installed:
            sys.addaudithook(_calls._hear)
            _calls._installed = True
        _calls._counters.append(Counter())
        return _calls._counters[-1]

    def __exit__(self, *error: Any) -> None:
        _calls._counters.pop()

    @staticmethod
    def _hear(event: str, arguments: tuple[Any, ...]) -> None:
        if _calls._counters and event in {"open", "os.listdir", "os.scandir"}:
            _calls._counters[-1][event, str(arguments[0])] += 1


def _heartbeat(**fields: Any) -> Heartbeat:
    worker = Worker(rank=0, host=ELSEWHERE, pid=12)
    return Heartbeat(**{"worker": worker, "state": "running", "time": time.time(), **fields})


def test_of_units_that_are_trainings_those_not_begun_count_as_the_mean_of_the_others(many: ManyRanks) -> None:
    study, units = (
        find_method("cemiface").chain["study-sets"],
        Units(total=6, done=2, left="unit 2", images=300, images_by_process=Counter()),
    )
    heartbeats = [_heartbeat(images=50, total=100), _heartbeat(images=20, total=400), _heartbeat(images=0)]
    assert images_expected(many.run, study, units, heartbeats) == (300 + 100 + 400) * 6 // 4
    ended = _heartbeat(images=150, total=150, state="done")  # its unit is one of the two that are done
    assert images_expected(many.run, study, units, [*heartbeats, ended]) == (300 + 100 + 400) * 6 // 4
    assert images_expected(many.run, study, units, [_heartbeat(images=0)]) is None


def test_the_bar_of_such_a_stage_learns_from_the_units_that_end_while_it_runs(
    many: ManyRanks, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.watch.progress.SECONDS_BETWEEN_LINES", 0.0)
    caplog.set_level("INFO")
    heartbeats = [_heartbeat(images=15, total=50)]  # 10 of the unit that has ended, 5 of the present one
    with StageProgress(many.run, find_method("cemiface").chain[STAGE]) as progress:
        progress.update(heartbeats)
        many.done(range(1))
        progress.update(heartbeats)
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "15 of 600 images ",
        "15 of 360 images ",  # two units known, of 10 and 50
    ]


def test_a_run_of_a_lost_cluster_resumes_here_once_its_job_record_is_removed(many: ManyRanks, tools: Path) -> None:
    many.submitted(ranks=2)
    fake_tool(tools, "squeue", complaint="no route to the controller", code=1)
    with pytest.raises(RunError, match=r"the queue cannot be read: .*; if the cluster .* is gone: rm ") as refused:
        refuse_beside_jobs(many.run)
    for path in str(refused.value).rpartition("rm ")[2].split():
        Path(path).unlink()
    refuse_beside_jobs(many.run)


def test_stages_without_a_job_are_named_with_the_command_that_submits_them(
    many: ManyRanks, tools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many.submitted(ranks=2)
    fake_tool(tools, "squeue", answer=queued("7|0|PENDING|0|0||Priority", "7|1|PENDING|0|0||Priority"))
    _, shown = _status(many, capsys)
    (line,) = [line for line in shown.splitlines() if line.startswith("not submitted, or only in part: ")]
    assert STAGE not in line.partition(";")[0]
    assert "shard, embed, train-diffusion, identities; submit what is missing: " in line
    assert f" all {many.config}" in line
    fake_tool(tools, "squeue", answer=queued("7|0|RUNNING|0|0|c1|None", "7|1|CANCELLED|0|0||None"))
    _, shown = _status(many, capsys)
    assert f"identities, {STAGE}; submit what is missing: " in shown
    fake_tool(tools, "squeue", answer=queued("7|0|CANCELLED|0|0||None", "7|1|CANCELLED|0|0||None"))
    _, shown = _status(many, capsys)
    assert "not submitted" not in shown
    assert "resume with: " in shown


def test_jobs_of_another_run_with_a_recorded_id_are_not_shown(many: ManyRanks, tools: Path) -> None:
    many.submitted(ranks=1)
    many.heartbeat(0, "done")
    other = queued("7|0|RUNNING|0|0|c1|None", comment="cemiface:ffffffffffff:generate")
    fake_tool(tools, "squeue", answer=other)
    (rank,) = many.poll().ranks
    assert (rank.state, rank.facts.task) == ("done", None)


def test_the_accounting_of_another_job_with_a_recorded_id_is_not_shown(many: ManyRanks, tools: Path) -> None:
    many.submitted(ranks=2)
    fake_tool(tools, "squeue")
    fake_tool(tools, "sacct", answer="7_0|FAILED|1:0|c1|other\n7_1|TIMEOUT|0:0|c2|many.generate\n")
    assert [rank.state for rank in many.poll().ranks] == ["unknown", "failed"]


def test_a_copy_shows_neither_the_jobs_nor_the_running_ranks_of_the_original(many: ManyRanks, tools: Path) -> None:
    many.submitted(ranks=2)
    many.heartbeat(0, "running")
    many.heartbeat(1, "stopped", reason="SIGTERM")
    fake_tool(tools, "squeue", answer=queued("7|0|RUNNING|0|0|c1|None", "7|1|PENDING|0|0||Priority"))
    assert [rank.state for rank in many.poll().ranks] == ["running", "queued"]
    shutil.copytree(many.root, many.root.parent / "copy")
    copy = ManyRanks(root=many.root.parent / "copy", units=many.units)
    assert [(rank.rank, rank.state) for rank in copy.poll().ranks] == [(1, "stopped")]


def test_a_rank_that_was_not_requeued_says_why(
    many: ManyRanks, tools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many.submitted(ranks=1)
    reason = "SIGTERM; not requeued: Slurm forbids it for this job (Requeue=0)"
    many.heartbeat(0, "stopped", reason=reason, requeue="refused", exit=75)
    fake_tool(tools, "squeue", answer=queued("7|0|FAILED|0|19200|c1|NonZeroExitCode"))
    code, shown = _status(many, capsys)
    assert code == 4
    assert reason in shown
    with pytest.raises(SystemExit):
        main(["why", str(many.config), STAGE, "0"])
    assert reason in capsys.readouterr().out
