"""The stage contract: a config class, a plan of units, and the module that does the work.

A stage is a folder with at least two modules. `plan.py` has the config class, the plan and `STAGE`. It imports no
torch, so that `plan`, `status` and submission start fast on a login node. `work.py` has `run_rank` and, if the summary
needs more than the units report, `finish`. `STAGE` names `work.py` by its module path.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic

from jobs.frame.stage_config import StageConfig
from jobs.frame.unit import Plan, UnitT_co
from slurm.files import Output
from slurm.markers import Marker

if TYPE_CHECKING:
    from jobs.frame.rank import Rank
    from jobs.frame.run import Run

FORMAT = 2  # of markers and outputs; raising it makes everything stale, so docs/decisions.md has what changed


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What a stage reports once all its units are done."""

    figures: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)  # added to the units' counts
    outputs: tuple[Output, ...] = ()
    images_in: int | None = None  # None: the sum of the counts
    images_out: int | None = None  # None: the sum over the units


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a stage will cost, for the dry run."""

    gpu_hours: float | None  # None where the config gives no throughput
    disk_bytes: int


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[UnitT_co]):
    """One stage: its name, its config, what it reads, how its work is divided, and the module that does it.

    `check_faces` refuses what the numbers of real faces rule out. It gets images by tar: as planned, which is at
    least as many, and exactly once `shard` is done.
    """

    name: str
    title: str  # one line, e.g. for `--help`
    config: type[StageConfig]
    unit: type[UnitT_co]
    needs: Callable[[Run], tuple[str, ...]]  # names of the stages it reads
    plan: Callable[[Run], Sequence[UnitT_co] | Plan[UnitT_co]]
    work: str  # module path of `run_rank` and `finish`
    files: Callable[[Run], dict[str, str]] = lambda run: {}  # files from outside the run and their sha256
    forecast: Callable[[Run], str | None] = lambda run: None  # printed before it starts, e.g. how long it will take
    final_files: Callable[[Run], dict[str, str]] = lambda run: {}  # those that only `finish` reads
    check: Callable[[Run], None] = lambda run: None  # before planning; refuses what does not fit the rest of the config
    check_launch: Callable[[Run], None] = lambda run: None  # before a launch; refuses what would fail at the end
    check_faces: Callable[[Run, Mapping[str, int]], None] = lambda run, images: None  # before a launch and after shard
    after: tuple[str, ...] = ()  # stages it waits for if they are part of the run, and reads if they are finished
    distributed: bool = False  # one job of world_size ranks instead of an array
    expected_images: Callable[[Run], int | None] = lambda run: None  # for progress and the dry run
    cost: Callable[[Run], Cost | None] = lambda run: None  # for the dry run; None: unknown

    def run_rank(self, run: Run, rank: Rank) -> None:
        """Do this rank's share of the work; may take hours."""
        self._module().run_rank(run, rank)

    def finish(self, run: Run, markers: Sequence[Marker]) -> Finish:
        """Combine the results of all units. Without a `finish` in the module, a single unit's figures are returned."""
        module = self._module()
        if hasattr(module, "finish"):
            found: Finish = module.finish(run, markers)
            return found
        return Finish(figures=markers[0].figures if len(markers) == 1 else {})

    def _module(self) -> ModuleType:
        return importlib.import_module(self.work)
