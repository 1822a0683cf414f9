"""A run folder as many ranks would write it, without running them; and scripts in place of tools of Slurm."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.frame.experiment import load_run, save_run
from jobs.frame.run import Run
from jobs.watch.observer import Observer
from jobs.watch.status import RunStatus, StageStatus
from slurm.run_folder import StageFolder

STAGE = "generate"
RUN = "0123456789ab"  # the id of the run
ELSEWHERE = "another-host"
CONFIG = """
name: many
shard: {{faces: faces}}
embedder: {{weights: net.safetensors}}
embed: {{}}
train-diffusion: {{denoiser: {{preset: tiny32}}, images: 100}}
identities: {{source: denoiser, count: {units}, candidates: {units}}}
generate: {{images_per_identity: 10, identities_per_shard: 1}}
"""


@dataclass(frozen=True, kw_only=True)
class ManyRanks:
    """A run that was launched, of which only the plan of `generate` exists."""

    root: Path
    units: int

    @staticmethod
    def make(root: Path, *, units: int) -> ManyRanks:
        config = root / "configs" / "many.yaml"
        config.parent.mkdir(parents=True)
        config.write_text(CONFIG.format(units=units))
        (root / "net.safetensors").touch()
        many = ManyRanks(root=root, units=units)
        run = many.run
        run.folder.create()
        run.folder.identity.write_text(json.dumps({"id": RUN, "path": str(run.folder.root)}))
        save_run(run)
        folder = run.stage_folder(STAGE)
        for path in (folder.done, folder.heartbeats):
            path.mkdir(parents=True)
        plan = [{"first": number, "last": number, "tar": f"synthetic-{number:05d}.tar"} for number in range(units)]
        folder.plan.write_text(json.dumps({"stage": STAGE, "units": plan, "undone": list(range(units))}))
        return many

    @property
    def config(self) -> Path:
        return self.root / "configs" / "many.yaml"

    @property
    def run(self) -> Run:
        run = load_run(self.config)
        run.ledger.recorded = True
        return run

    @property
    def folder(self) -> StageFolder:
        return StageFolder(self.root / "runs" / "many" / STAGE)

    def done(self, units: range, *, rank: int = 0) -> None:
        """Units with their outputs and markers."""
        run, folder = self.run, self.folder
        common, plan = run.ledger.fingerprint(run.stages[STAGE], {}), run.ledger.plan(STAGE).units
        for number in units:
            unit = plan[number]
            folder.output(unit.tar).write_bytes(b"tar")
            marker = {
                "unit": number,
                "fingerprint": {**common, "unit": unit.as_json()},
                "outputs": [{"name": unit.tar, "bytes": 3, "sha256": "0" * 64}],
                "counts": {"generated": 10},
                "images": 10,
                "started": 0.0,
                "ended": 1.0,
                "worker": {"rank": rank, "host": ELSEWHERE, "pid": 12, "job": f"7_{rank}", "restarts": 0},
            }
            folder.marker(number).write_text(json.dumps(marker))

    def heartbeat(self, rank: int, state: str, **more: Any) -> None:
        heartbeat = {"rank": rank, "state": state, "host": ELSEWHERE, "pid": 12, "job": f"7_{rank}", "restarts": 0}
        value = {**heartbeat, "time": time.time(), "started": time.time(), "images": 0, **more}
        self.folder.heartbeat(rank).write_text(json.dumps(value))

    def submitted(self, *, ranks: int, job: str = "7") -> None:
        jobs = [{"job": job, "kind": "array", "first_rank": 0, "ranks": ranks, "ranks_per_task": 1}]
        record = {"submitted": time.time(), "comment": "", "code": "", "ranks": ranks, "jobs": jobs}
        self.folder.job_record.write_text(json.dumps(record))

    def poll(self, observer: Observer | None = None) -> StageStatus:
        """The status of `generate`."""
        return stage_of((observer or Observer(self.run)).poll())


def stage_of(status: RunStatus) -> StageStatus:
    return next(stage for stage in status.stages if stage.name == STAGE)


def fake_tool(folder: Path, name: str, *, answer: str = "", complaint: str = "", code: int = 0) -> Path:
    """Put a tool of Slurm into `folder`; returns the file that gets its arguments, one call per line."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.answer").write_text(answer)
    script = folder / name
    script.write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/{name}.asked\n/bin/cat {folder}/{name}.answer\n'
        f'echo "{complaint}" >&2\nexit {code}\n'
    )
    script.chmod(0o755)
    return folder / f"{name}.asked"


def queued(*tasks: str, comment: str = f"cemiface:{RUN}:{STAGE}") -> str:
    """Answer of squeue about jobs of the run, from "7|0|RUNNING|restarts|status|node|reason" lines."""
    return "".join(f"{task}|(null)|here|many.{STAGE}|/dev/null|{comment}|\n" for task in tasks)
