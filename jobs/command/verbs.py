"""The verbs of the `cemiface` command that need a config: the stages, `all`, and the tools that look at a run."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.frame.methods import BUILT_IN, find_method

DEMO = "configs/demo.yaml"

# Stages of all built-in methods.
STAGES = {name: stage for method in BUILT_IN for name, stage in find_method(method).chain.items()}

_OTHERS = find_method("cemiface").chain

# Configs for the examples of stages that the demo has no section for.
CONFIGS = {
    "train-embedder": "configs/demo_nets.yaml",
    "calibrate": "configs/lfw_cosine.yaml",
    "convert-benchmarks": "configs/lfw.yaml",
    "study-groups": "configs/study_groups.yaml",
    "study-m": "configs/study_m.yaml",
    "study-sets": "configs/lfw48.yaml",
    "refill": "configs/lfw.yaml",
    **{name: "configs/gandiffface_lfw.yaml" for name in find_method("gandiffface").chain if name not in _OTHERS},
    **dict.fromkeys(("train-gan", "attributes", "train-base"), "configs/gandiffface_nets.yaml"),
}


def _title(name: str) -> str:
    """The title of a stage; where methods have different stages of one name, those of all."""
    titles = {method: chain[name].title for method in BUILT_IN if name in (chain := find_method(method).chain)}
    if len(set(titles.values())) == 1:
        return next(iter(titles.values()))
    return "; ".join(f"{method}: {title}" for method, title in titles.items())


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A verb, with what its `--help` prints.

    Attributes:
        takes: what it takes besides the config, as usage has it: STAGE and RANK, in brackets if optional.
        examples: command lines without "cemiface VERB".
    """

    help: str
    takes: str = ""
    examples: tuple[str, ...] = (DEMO,)
    notes: str = ""


STATUS_CODES = """
exit code:
  0  all stages are done
  1  a rank failed or is lost
  2  wrong usage
  3  ranks are running or queued
  4  work is left to do, and no rank is running or queued
  5  jobs are held in the queue: they never start by themselves"""

TOOLS = {
    "plan": Verb(
        help="print what would run: job scripts, ranks, images, GPU hours; starts nothing and needs no Slurm",
        examples=(DEMO, "configs/casia_0.5m.yaml --cluster configs/cluster/a100.yaml"),
    ),
    "info": Verb(
        help="print what the config means: sizes and costs of the nets, numbers of images",
        examples=(DEMO, f"{DEMO} --json"),
    ),
    "status": Verb(
        help="print what is done, running, queued, held, stale, failed or lost, and the command to run next",
        examples=(DEMO, f"{DEMO} --watch", f"{DEMO} --json"),
        notes=STATUS_CODES,
    ),
    "why": Verb(
        help="print why a stage or rank failed, the end of its log, and the command that reruns it here",
        takes="[STAGE [RANK]]",
        examples=(DEMO, f"{DEMO} generate", f"{DEMO} generate 0"),
    ),
    "logs": Verb(
        help="print the end of the logs of a stage",
        takes="STAGE [RANK]",
        examples=(f"{DEMO} generate", f"{DEMO} generate 0 --lines 100"),
    ),
    "cancel": Verb(
        help="stop the jobs of a run or stage; ranks save their work first",
        takes="[STAGE]",
        examples=(DEMO, f"{DEMO} generate"),
    ),
    "run-rank": Verb(
        help="run one rank of a stage in the foreground, with the config of the last launch",
        takes="STAGE RANK",
        examples=(f"{DEMO} generate 0",),
    ),
    "verify": Verb(
        help="rehash every file that the finished stages made",
        notes="""
exit code:
  0  all files are undamaged
  1  a file is damaged, missing or unreadable; or there is no such run, or nothing to check
  2  wrong usage""",
    ),
}

_LAUNCHES = {
    "all": Verb(
        help="run all stages of the config; rerun to resume",
        examples=(
            DEMO,
            f"{DEMO} generate.steps=10 name=steps10",
            "configs/casia_0.5m.yaml --cluster configs/cluster/a100.yaml",
        ),
    )
} | {
    name: Verb(help=_title(name), examples=(config, f"{config} --cluster configs/cluster/a100.yaml"))
    for name in STAGES
    for config in [CONFIGS.get(name, DEMO)]
}

VERBS = _LAUNCHES | TOOLS
