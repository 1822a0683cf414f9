"""The chain as dependent array jobs gives the bytes of the local executor, whatever befalls the cluster meanwhile."""
# ruff: noqa: N802

from __future__ import annotations

from tests.jobs.commands import wait_until
from tests.jobs.conftest import CHAIN

from .commands import SECONDS, SITE, ClusterProject

MADE = ("shard/*.tar", "embed/*.h5", "*/*.safetensors", "generate/*.tar", "publish/tiny-set/*.tar")
# Long enough for every event to find its stage at work.
LONGER = (
    "train-diffusion.images=800",
    "generate.steps=200",
    "generate.images_per_identity=16",
    "generate.identities_per_shard=1",
    "train-recognition.epochs=12",
)
HERE = "array: {ranks: 2}\ntrain: {ranks_per_node: 2, cpus: 1}\n"
TWO_NODES = SITE + "array: {ranks: 2}\ntrain: {nodes: 2, ranks_per_node: 1, cpus: 1}\n"


def _made(project: ClusterProject) -> list[dict[str, str]]:
    return [project.hashes(pattern) for pattern in MADE]


def test_a_chain_of_jobs_gives_the_bytes_of_the_local_executor(project: ClusterProject) -> None:
    local = _made(project)
    project.empty()
    project.submit()
    assert project.status()["shard"]["state"] in {"queued", "running", "done"}
    project.wait()
    assert _made(project) == local
    assert {stage: told["state"] for stage, told in project.status().items()} == dict.fromkeys(CHAIN, "done")
    assert project.run("verify").returncode == 0
    assert list(project.runs.rglob("*.part")) == []
    assert project.runs.stat().st_mode & 0o077 == 0
    ours = [path for path in project.runs.rglob("*") if not path.name.startswith(".submission_file")]  # of submitit
    assert [path for path in ours if path.lstat().st_mode & 0o077] == []
    nodes = {heartbeat["host"] for stage in CHAIN for heartbeat in project.heartbeats(stage)}
    assert nodes <= set(project.slurm.nodes)


def test_F09_F11_F19_a_chain_that_is_preempted_requeued_and_loses_a_node_gives_the_same_bytes(
    project: ClusterProject,
) -> None:
    # From the beginning: a training that goes on from the shorter one of another world size gives other bytes.
    project.forget("train-diffusion", "generate", "train-recognition")
    done = project.run("all", *LONGER, cluster=HERE)
    assert done.returncode == 0, done.stderr
    undisturbed = _made(project)
    project.forget("train-diffusion", "generate", "train-recognition")
    project.submit("all", *LONGER, cluster=TWO_NODES)

    project.wait_for("train-diffusion", images=32)
    _preempt(project)
    project.wait_for("train-diffusion", images=160)
    _lose_a_node(project, "train-diffusion")
    _requeue_a_task(project, "generate")
    _restart_the_controller(project)
    project.wait_for("train-recognition", images=16)
    project.slurm.call("scontrol", "requeue", project.jobs("train-recognition")[0])

    project.wait()
    status = project.status(*LONGER)
    assert {name: told["state"] for name, told in status.items()} == dict.fromkeys(CHAIN, "done"), project.logs("")
    assert _made(project) == undisturbed
    assert list(project.runs.rglob("*.part")) == []
    restarts = {stage: status[stage]["restarts"] for stage in ("train-diffusion", "generate", "train-recognition")}
    assert restarts["train-diffusion"]["stopped"] >= 2, restarts  # both ranks of the preempted job
    assert restarts["train-diffusion"]["lost"] >= 1, restarts  # the one on the node that died
    assert sum(restarts["generate"].values()) >= 1, restarts
    assert sum(restarts["train-recognition"].values()) >= 1, restarts


def test_F09_where_preemption_cancels_a_training_requeues_itself_within_the_grace_time_and_no_byte_changes(
    project: ClusterProject,
) -> None:
    """Slurm does not requeue such a job itself, whatever it asked for: MFlowCode/MFC#1771."""
    project.forget("train-diffusion")
    done = project.run("train-diffusion", *LONGER, cluster=HERE)
    assert done.returncode == 0, done.stderr
    undisturbed = project.hashes("train-diffusion/*.safetensors")
    project.forget("train-diffusion")
    scavenge = TWO_NODES.replace("partition: normal", "partition: scavenge")
    project.submit("train-diffusion", *LONGER, cluster=scavenge)
    project.wait_for("train-diffusion", images=32)
    _preempt(project)
    project.wait()
    told = project.status(*LONGER)["train-diffusion"]
    assert told["state"] == "done", told
    assert told["restarts"]["stopped"] >= 1, told
    assert project.hashes("train-diffusion/*.safetensors") == undisturbed


def _preempt(project: ClusterProject) -> None:
    """A job of a higher partition wants all nodes."""
    urgent = ("sbatch", "--parsable", "--partition=urgent", "--nodes=4", "--exclusive", "--output=/dev/null")
    job = project.slurm.call(*urgent, "--wrap=sleep 1")
    wait_until(lambda: "JobState=COMPLETED" in project.shown(job), what="the urgent job is through", seconds=SECONDS)


def _lose_a_node(project: ClusterProject, stage: str) -> None:
    node = next(heartbeat["host"] for heartbeat in project.heartbeats(stage) if heartbeat["rank"] == 1)
    project.slurm.power_off(node)
    wait_until(lambda: "down" in project.slurm.states()[node], what=f"{node} is down", seconds=SECONDS)
    project.slurm.power_on(node)


def _requeue_a_task(project: ClusterProject, stage: str) -> None:
    """As an administrator does, in the middle of the task's work."""
    task = f"{project.jobs(stage)[-1]}_1"

    def running() -> bool:
        return any(found["rank"] == 1 and found["state"] == "running" for found in project.heartbeats(stage))

    wait_until(running, what="rank 1 at work", seconds=SECONDS)
    project.slurm.call("scontrol", "requeue", task)


def _restart_the_controller(project: ClusterProject) -> None:
    project.slurm.stop_controller()
    project.slurm.start_controller()
