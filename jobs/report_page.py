"""The report's page: what is in which order, and how numbers look. A function of the run folder alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from jobs import report_sections as sections
from jobs.report_faces import face_grid, held_out_set, real_faces, real_set, synthetic_set
from jobs.report_sections import Section, summary
from jobs.stage import Run
from slurm.files import read_json

TEMPLATE = "report.html.j2"
REJECTED_SHOWN = 50
COARSE_PIXELS = 72  # smaller faces are enlarged, and shown with their pixels
MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit


def render(run: Run) -> bytes:
    """The whole page, UTF-8. The stages' outputs are read, never their inputs: the folder can be moved anywhere."""
    generated, sharded = summary(run, "generate"), summary(run, "shard")
    synthetic = synthetic_set(run) if generated else None
    real = real_set(run) if sharded else None
    held_out = held_out_set(run) if sharded else None
    environment = Environment(
        loader=PackageLoader("jobs", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "decimal": decimal,
        "points": points,
        "duration": duration,
    }
    page = environment.get_template(TEMPLATE).render(
        title=run.section("report").title,
        name=run.config.name,
        seed=run.seed,
        chain=chain(run),
        head=head(run),
        real=real,
        held_out=held_out,
        coarse=bool(sharded) and run.section("shard").image_size < COARSE_PIXELS,
        grid=face_grid(run, synthetic) if synthetic else None,
        real_faces=real_faces(real) if real else [],
        similarity=sections.similarity(synthetic) if synthetic else None,
        training=sections.training(run),
        verification=sections.verification(run),
        scores=sections.scores(run),
        audit=sections.audit(run, synthetic=synthetic, real=real) if synthetic and real else None,
        rejected=rejected(sharded),
        provenance=read_json(run.folder.provenance),
        config=config_text(run),
    )
    return page.encode()


def head(run: Run) -> dict[str, Any]:
    """What the opening sentences and the tiles are made of: summaries and what follows from them."""
    trained = summary(run, "train-diffusion")
    return {
        "trained": trained,
        "training_seconds": trained["wall_seconds"] if trained else None,
        "generate": summary(run, "generate"),
        "publish": summary(run, "publish"),
        "faces": Path(run.section("shard").faces).name if run.asks_for("shard") else "",
        "size": run.section("shard").image_size if run.asks_for("shard") else 0,
    }


def chain(run: Run) -> list[dict[str, Any]]:
    """One row per stage before this one; `done` is None for a stage that has not finished."""
    rows = []
    for stage in run.chain:
        if stage.name == "report":
            continue
        done = summary(run, stage.name)
        row: dict[str, Any] = {"name": stage.name, "title": stage.title, "done": done}
        if done:
            row["outcomes"] = {name.replace("_", " "): number for name, number in done["counts"].items() if number}
            row["adds_up"] = sum(done["counts"].values()) == done["images_in"]
            row["rate"] = done["images_per_second"]
            row["resumed_after"] = done["figures"].get("resumed_after_images", 0)
        rows.append(row)
    return rows


def rejected(sharded: dict[str, Any] | None) -> Section:
    if not sharded:
        return None
    lines = sharded["figures"]["rejected"]
    return {"lines": lines[:REJECTED_SHOWN], "count": len(lines), "inputs": sharded["images_in"]}


def config_text(run: Run) -> str:
    """The resolved config as YAML, without where on the machine things are."""
    fields = run.config.model_dump(mode="json", by_alias=True, exclude={"root", "runs"})
    for section, field in (("shard", "faces"), ("embedder", "weights")):
        if fields[section] and fields[section][field]:
            fields[section][field] = Path(fields[section][field]).name
    return yaml.safe_dump({name: value for name, value in fields.items() if value is not None}, sort_keys=False)


def number(value: int) -> str:
    return f"{value:,}"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}{SPACE}%"


def decimal(value: float, digits: int = 2) -> str:
    """A plain number; infinite and undefined ones in words."""
    return f"{value:,.{digits}f}".replace("-", MINUS) if math.isfinite(value) else "not defined"


def points(value: float) -> str:
    """A difference in percentage points, with its sign."""
    return f"{value:+.1f}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, with as many digits as matter."""
    if seconds < 10:
        return f"{seconds:.2g}{SPACE}s"
    if seconds < 120:
        return f"{seconds:.0f}{SPACE}s"
    return f"{seconds / 60:.1f}{SPACE}min" if seconds < 7200 else f"{seconds / 3600:.1f}{SPACE}h"
