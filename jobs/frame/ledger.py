"""The records of a run: plans, fingerprints, markers and summaries, read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.frame.stage import FORMAT, Stage
from jobs.frame.summary import Summary, outcome_of, read_summary
from jobs.frame.unit import Plan, PlanFile, Unit, UnitT, read_plan
from slurm.certified import open_certified, read_certified
from slurm.errors import RunError
from slurm.files import Output, digest
from slurm.markers import Marker, Sizes, first_difference, missing_output, read_marker, why_not_done

if TYPE_CHECKING:
    from jobs.frame.run import Run


class Ledger:
    """The plans, fingerprints, markers and summaries of a run's stages.

    Attributes:
        planned: read plans as the launch stored them. Ranks set it, so that sources are listed only once.
        recorded: read plans and file hashes as the last launch stored them. Tools that only read set it.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.planned = self.recorded = False
        self._hashes: dict[str, dict[str, str]] = {}
        self._plans: dict[str, Plan[Unit]] = {}

    def units(self, stage: Stage[UnitT]) -> list[UnitT]:
        """The stage's units of work; planned once per process."""
        units = self.plan(stage.name).units
        assert all(isinstance(unit, stage.unit) for unit in units)
        return list(units)  # type: ignore[arg-type]

    def plan(self, stage: str) -> Plan[Unit]:
        """The stage's plan; it has files only if this process planned the stage."""
        if stage not in self._plans:
            contract = self._run.stages[stage]
            written = read_plan(self._run.stage_folder(stage)) if self.recorded or self.planned else None
            if written is not None:
                self._plans[stage] = Plan(units=_units(contract, written, run=self._run))
            else:
                made = contract.plan(self._run)
                self._plans[stage] = made if isinstance(made, Plan) else Plan(units=made)
        return self._plans[stage]

    def forget_plans(self) -> None:
        """Read plans again when next asked: another launch may have replaced them."""
        self._plans.clear()

    def fingerprint(self, stage: Stage[Unit], unit: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Everything that the outputs of a unit depend on; without a unit, that the stage's summary depends on."""
        run, name = self._run, stage.name
        section = run.config.section(name)
        assert section is not None
        work = {"unit": dict(unit)} if unit is not None else {"units": self._digest_of_units(name)}
        final = self._files(stage, final=True) if unit is None else {}
        return {
            "format": FORMAT,
            "seed": run.seed,
            name: section.fingerprint(of_unit=unit is not None),
            "inputs": {needed: self.outcome(needed) for needed in stage.needs(run)} | self._read_if_there(stage),
            "files": self._files(stage),
            **({"final_files": final} if final else {}),
            **work,
        }

    def _read_if_there(self, stage: Stage[Unit]) -> dict[str, str]:
        """Outcomes of the stages that it reads if they are finished, as the report reads publish; "" while one is not.

        Stages that were finished by 0.1.0 do not record them. They stay valid unless such a stage ended after they
        began, so that they cannot have read it.
        """
        found = {}
        for name in stage.after:
            if not self._run.includes(name):
                continue
            own, read = self.summary(stage.name), self.summary(name)
            unrecorded = own is not None and name not in own.fingerprint.get("inputs", {})
            if unrecorded and own is not None and (read is None or read.ended <= own.started):
                continue
            found[name] = read.outcome if read else ""
        return found

    def _digest_of_units(self, stage: str) -> str:
        return digest([unit.as_json() for unit in self.plan(stage).units])

    def _files(self, stage: Stage[Unit], *, final: bool = False) -> dict[str, str]:
        """Hashes of the files from outside the run; `final`: of those that only `finish` reads."""
        hashed = stage.final_files if final else stage.files
        if not self.recorded:
            return hashed(self._run)
        kind = "final_files" if final else "files"
        summary = self.summary(stage.name)
        if summary is not None:
            files: dict[str, str] = summary.fingerprint.get(kind, {})
            return files
        key = f"{stage.name}/{kind}"
        if key not in self._hashes:  # `status --watch` does not hash the weights each time
            self._hashes[key] = hashed(self._run)
        return self._hashes[key]

    def summary(self, stage: str) -> Summary | None:
        """The stage's summary, None while it has not finished."""
        return read_summary(self._run.stage_folder(stage))

    def outcome(self, stage: str) -> str:
        """A digest of all outputs of a finished stage, "" while it is not finished."""
        summary = self.summary(stage)
        return summary.outcome if summary else ""

    def outputs(self, stage: str, *, prefix: str = "", suffix: str = "") -> list[Path]:
        """The outputs of a finished stage with this prefix and suffix, in name order; none if it is not finished."""
        folder, summary = self._run.stage_folder(stage), self.summary(stage)
        names = sorted(output.name for output in summary.outputs) if summary else []
        return [folder.output(name) for name in names if name.startswith(prefix) and name.endswith(suffix)]

    def records(self, stage: str, *, prefix: str = "", suffix: str = "") -> list[Output]:
        """As `outputs`, with the size and the sha256 of each file, as the stage's summary has them.

        Raises:
            RunError: the summary was edited.
        """
        summary = self.summary(stage)
        if summary is not None and summary.outcome != outcome_of(summary.outputs):
            path = self._run.stage_folder(stage).summary
            raise RunError(f"{path}: lists other files than those of its outcome; remove it and {again(stage)}")
        found = [one for one in (summary.outputs if summary else ()) if one.name.startswith(prefix)]
        return sorted((one for one in found if one.name.endswith(suffix)), key=lambda one: one.name)

    def output_record(self, stage: str, name: str) -> Output:
        """Size and sha256 of one output, as recorded in the stage's summary.

        Raises:
            RunError: the stage is not finished or has no such output, or its summary was edited.
        """
        record = next((one for one in self.records(stage, prefix=name) if one.name == name), None)
        if record is None:
            raise RunError(f"{stage}: has not written {name}; {again(stage)}")
        return record

    def read(self, stage: str, name: str) -> bytes:
        """An output of a finished stage, checked against its record as it is read; see `read_certified`."""
        record = self.output_record(stage, name)
        return read_certified(self._run.stage_folder(stage).output(name), record, remedy=again(stage))

    def open(self, stage: str, name: str) -> int:
        """A descriptor of an output, checked against its record; see `open_certified`."""
        record = self.output_record(stage, name)
        return open_certified(self._run.stage_folder(stage).output(name), record, remedy=again(stage))

    def unit_states(self, stage: Stage[Unit]) -> list[str | None]:
        """For each unit of the stage: None if done, else why not."""
        folder = self._run.stage_folder(stage.name)
        common = self.fingerprint(stage, {})
        return [
            why_not_done(folder, number, fingerprint={**common, "unit": unit.as_json()})
            for number, unit in enumerate(self.plan(stage.name).units)
        ]

    def why_not_finished(self, stage: Stage[Unit]) -> str | None:
        """None if every unit is done and the summary certifies the current config and inputs; else a reason."""
        reason = next((reason for reason in self.unit_states(stage) if reason is not None), None)
        return reason or self.why_not_summarized(stage)

    def why_not_summarized(self, stage: Stage[Unit], *, sizes: Sizes | None = None) -> str | None:
        """None if the summary certifies the current config and inputs, and its outputs exist; else the reason."""
        summary = self.summary(stage.name)
        if summary is None:
            return "no summary"
        changed = first_difference(summary.fingerprint, self.fingerprint(stage))
        if changed:
            return f"stale: {changed}"
        return missing_output(summary.outputs, sizes=sizes or Sizes(self._run.stage_folder(stage.name)))

    def markers(self, stage: str) -> list[Marker]:
        """The markers of the units in the current plan."""
        folder = self._run.stage_folder(stage)
        found = (read_marker(folder, number) for number in range(len(self.plan(stage).units)))
        return [marker for marker in found if marker is not None]


def _units(stage: Stage[UnitT], written: PlanFile, *, run: Run) -> list[UnitT]:
    try:
        return [stage.unit.from_json(unit) for unit in written.units]
    except TypeError:
        path = run.stage_folder(stage.name).plan
        raise RunError(f"{path}: has units of another kind; remove it and {again(stage.name)}") from None


def again(stage: str) -> str:
    """The remedy for an output that is missing or damaged, once it is removed."""
    return f"run `cemiface {stage}` again"
