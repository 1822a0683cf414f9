"""The cost of our rank runner on Slurm: seconds to submit many ranks and to show their status, and overhead per rank.

Starts a Slurm of virtual nodes on this machine and submits a run of `--ranks` trivial ranks, each of which writes one
tar of one small image. Measured in one run, the peers of a comparison alternating:

- submission: wall seconds of the command that submits all ranks to a partition that starts none of them, and of
  `status` while they wait;
- CPU seconds of one rank, started as its job starts it, against a bare Python process that imports the same modules
  and exits;
- wall seconds of an array of `--array` ranks against an array of that bare process, with the same number of tasks
  at once.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from slurm.files import read_json
from slurm.run_folder import StageFolder
from slurm.submission.job_script import python_of
from tests.cluster.virtual_slurm import VirtualSlurm

CONFIG = "name: many\nshard: {faces: faces, image_size: 16, shard_images: 1, held_out_identities: 1}\n"
SITE = "executor: slurm\narray: {{ranks: {ranks}, canary_from: null, parallel: {parallel}}}\n"
BARE = "import submitit, jobs.launch.entry, shards.images.prepare, shards.sources.sources, shards.tars.writer"
TASK = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"}
TASK |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "127.0.0.1"}


def make_project(root: Path, *, ranks: int) -> Path:
    """A folder of `ranks` people of one image each, and a config with one unit per image."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (16, 16), bytes(range(256)) * 3).save(buffer, "PNG")
    for number in range(ranks):
        home = root / "faces" / f"person-{number:05d}"
        home.mkdir(parents=True)
        (home / "0.png").write_bytes(buffer.getvalue())
    (root / "configs").mkdir()
    config = root / "configs" / "many.yaml"
    config.write_text(CONFIG)
    return config


def command(config: Path, name: str, *, ranks: int, parallel: int) -> list[str]:
    """The command line that submits a run of `ranks` ranks, or shows its status."""
    site = config.parent / f"site-{ranks}.yaml"
    site.write_text(SITE.format(ranks=ranks, parallel=parallel))
    return [sys.executable, "-m", "jobs", name, str(config), "--cluster", str(site)]


def seconds(arguments: list[str], *, environment: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command and what it started."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in {0, 3, 4}:  # of status: at work, in trouble
        sys.exit(f"{arguments}: {done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_of_ranks(folder: StageFolder, *, environment: dict[str, str], repeats: int) -> tuple[list[float], list[float]]:
    """CPU seconds of ranks of a pending submission, and of bare Python processes."""
    submission = read_json(folder.job_record)
    code = folder.root.parent / "code" / submission["code"]
    rank = [*shlex.split(python_of(code)), "-u", "-m", "submitit.core._submit", str(folder.submitit_logs)]
    ours, bare = [], []
    for number in range(repeats):
        job = submission["jobs"][0]["job"]
        names = {"SLURM_JOB_ID": str(number), "SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": str(number)}
        ours.append(seconds(rank, environment=environment | TASK | names)[1])
        bare.append(seconds([sys.executable, "-c", BARE], environment=environment)[1])
    return ours, bare


def wall_of_array(slurm: VirtualSlurm, arguments: list[str]) -> float:
    """Seconds from submission until the queue is empty."""
    started = time.monotonic()
    seconds(arguments, environment=slurm.submission.environment)
    while slurm.call("squeue", "--noheader"):
        time.sleep(0.1)
    return time.monotonic() - started


def spread(values: list[float]) -> str:
    return f"median {statistics.median(values):.2f}, {min(values):.2f} to {max(values):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=1000, help="ranks to submit (default: 1000)")
    parser.add_argument("--array", type=int, default=100, help="ranks of the arrays that run (default: 100)")
    parser.add_argument("--repeats", type=int, default=3, help="arrays of each kind (default: 3)")
    parser.add_argument("--pairs", type=int, default=15, help="single ranks and bare pythons (default: 15)")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name, VirtualSlurm(nodes=1, cpus=cores) as slurm:
        root, environment = Path(name), slurm.submission.environment
        config = make_project(root, ranks=options.ranks)
        folder = StageFolder(root / "runs" / "many" / "shard")

        slurm.call("scontrol", "update", "PartitionName=normal", "State=DOWN")
        submit = command(config, "shard", ranks=options.ranks, parallel=cores)
        wall, cpu = seconds(submit, environment=environment)
        print(f"submit {options.ranks} ranks: {wall:.2f} s, of which {cpu:.2f} s CPU")
        looks = [seconds([*submit[:3], "status", *submit[4:]], environment=environment) for _ in range(5)]
        walls, cpus = (list(column) for column in zip(*looks, strict=True))
        print(f"status of {options.ranks} waiting ranks: {spread(walls)} s; CPU {spread(cpus)} s")
        ours, bare = cpu_of_ranks(folder, environment=environment, repeats=options.pairs)
        ratios = [one / other for one, other in zip(ours, bare, strict=True)]
        print(f"CPU of a rank: {spread(ours)} s; of a bare python: {spread(bare)} s; ratio {spread(ratios)}")
        for job in read_json(folder.job_record)["jobs"]:
            slurm.call("scancel", job["job"])
        slurm.call("scontrol", "update", "PartitionName=normal", "State=UP")

        config = make_project(root / "array", ranks=options.array)
        submit = command(config, "shard", ranks=options.array, parallel=cores)
        tasks = ["sbatch", f"--array=0-{options.array - 1}%{cores}", "--output=/dev/null"]
        tasks.append(f"--wrap=srun --output=/dev/null {sys.executable} -c '{BARE}'")
        ours, bare = [], []
        for _ in range(options.repeats):
            shutil.rmtree(root / "array" / "runs", ignore_errors=True)
            ours.append(wall_of_array(slurm, submit))
            bare.append(wall_of_array(slurm, tasks))
        ratios = [one / other for one, other in zip(ours, bare, strict=True)]
        print(f"array of {options.array}: {spread(ours)} s; bare: {spread(bare)} s; ratio {spread(ratios)}")


if __name__ == "__main__":
    main()
