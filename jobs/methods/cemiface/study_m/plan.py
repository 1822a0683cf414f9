"""Study-m: train nets on generated faces of one requested m each, and compare them.

The groups are the generated images of each requested m (table 11 of the paper). One net per group and seed, all by one
recipe, on the same number of images of the same identities.
"""

from __future__ import annotations

from jobs.frame.errors import ConfigError
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.methods.cemiface.generate.plan import GenerateFaces
from jobs.methods.cemiface.identities.plan import MakeIdentities
from jobs.stages.shared.embedder import embedder_needs
from jobs.stages.shared.known_early import refuse_large
from jobs.stages.shared.studies.study import Study, StudyUnit, units
from jobs.stages.shared.verification import benchmark_needs

NAME = "study-m"
PREFIX = "m = "  # of the groups' names


class StudyM(Study):
    """One net per m of `generate.similarity` and seed."""


def group_of(m: float) -> str:
    """The name of the group of images with this requested m."""
    return f"{PREFIX}{m:g}"


def group_names(run: Run) -> list[str]:
    """One per m, from the largest to the smallest."""
    return [group_of(m) for m in sorted(set(run.section(GenerateFaces).similarity), reverse=True)]


def plan(run: Run) -> list[StudyUnit]:
    """One unit per m and seed.

    Raises:
        ConfigError: the config has no benchmark to verify the nets on, or the groups differ in more than m.
    """
    planned = units(run, name=NAME, groups=group_names(run), seeds=run.section(StudyM).seeds)
    _check_generated(run.section(GenerateFaces))
    return planned


def _check_generated(config: GenerateFaces) -> None:
    each, values = config.images_per_identity, len(set(config.similarity))
    if config.mixture or config.few_identities or config.target != "m":
        raise ConfigError(
            f"{NAME}: needs sets that differ in m alone; allowed: generate.similarity as a list of m, "
            "without mixture, few_identities and target: cosine"
        )
    if each % values or values != len(config.similarity):
        raise ConfigError(
            f"generate.images_per_identity: got {each} for {len(config.similarity)} values of m; "
            "allowed: a multiple of them, each named once, so that the sets are equally large"
        )


def check_launch(run: Run) -> None:
    """Refuse a batch that is larger than the set of one m.

    Raises:
        ConfigError: it is.
    """
    generate = run.section(GenerateFaces)
    each = run.section(MakeIdentities).count * generate.images_per_identity // max(1, len(set(generate.similarity)))
    refuse_large(f"{NAME}.batch", run.section(StudyM).batch, images=each, of="one m")


def needs(run: Run) -> tuple[str, ...]:
    return tuple(dict.fromkeys(["generate", *benchmark_needs(run), *embedder_needs(run)]))


STAGE = Stage(
    name=NAME,
    title="study: generated faces by requested m, one net per m",
    config=StudyM,
    unit=StudyUnit,
    needs=needs,
    plan=plan,
    check_launch=check_launch,
    work="jobs.methods.cemiface.study_m.work",
)
