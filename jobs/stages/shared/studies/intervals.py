"""Intervals of a study's accuracies and gaps, over people and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cemiface.recognition.gap_intervals import Decisions, mean_interval
from jobs.frame.run import Run
from jobs.stages.shared.benchmarks import load_benchmark
from jobs.stages.shared.studies.study import Study
from jobs.stages.shared.studies.tables import GroupRows

ByBenchmark = Mapping[str, Decisions]


def decisions_of(run: Run, nets: Sequence[Mapping[str, Any]], *, study: Study) -> dict[str, ByBenchmark]:
    """By group and benchmark, what the group's nets decided; empty if nets of an older version do not tell."""
    if not all("right" in found for net in nets for found in net.get("results", {}).values()):
        return {}
    people = {name: load_benchmark(run, name, config=study.verification).people() for name in nets[0]["results"]}
    groups = dict.fromkeys(net["group"] for net in nets)
    return {
        group: {
            name: Decisions.read(
                [net["results"][name]["right"] for net in sorted(nets, key=_seed) if net["group"] == group],
                people=people[name],
            )
            for name in people
        }
        for group in groups
    }


def with_intervals(rows: GroupRows, decisions: Mapping[str, ByBenchmark], *, seed: int) -> GroupRows:
    """Each row with the 95 % intervals of its accuracies, of their average and of its gap."""
    if not decisions:
        return rows
    found = []
    for row in rows:
        own, other = decisions[row["group"]], decisions[row["gap"]["to"]]
        accuracy = {
            name: figures | {"interval": mean_interval([own[name]], seed=seed)}
            for name, figures in row["accuracy"].items()
        }
        average = row["average"] | {"interval": mean_interval(list(own.values()), seed=seed)}
        gap = row["gap"]
        if own is not other:
            gap = gap | {"interval": mean_interval([other[name].less(own[name]) for name in own], seed=seed)}
        found.append({**row, "accuracy": accuracy, "average": average, "gap": gap})
    return found


def _seed(net: Mapping[str, Any]) -> int:
    return int(net["seed"])
