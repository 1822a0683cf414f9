"""The report's page: what is in which order, and how numbers look. A function of the run folder alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from jobs.report_audit import audit
from jobs.report_calibration import calibration
from jobs.report_chain import chain, costs, provenance, rejected
from jobs.report_faces import faces
from jobs.report_part import Part, Sets, summary
from jobs.report_published import published
from jobs.report_sections import scores, similarity, training, verification
from jobs.report_studies import benchmarks, set_metrics, studies
from jobs.stage import Run

PAGE, RESULTS = "index.html", "results.md"
TEMPLATES = {PAGE: "report.html.j2", RESULTS: "results.md.j2"}
COARSE_PIXELS = 72  # smaller faces are enlarged, and shown with their pixels
MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit

# The page in its order. A new part is one line here, a function, and a template `report_<name>.html.j2`.
PARTS = (
    Part(name="chain", title="The chain", build=chain),
    Part(name="faces", title="Faces", build=faces),
    Part(name="similarity", title="Wished and measured similarity", build=similarity),
    Part(name="calibration", title="Calibration", build=calibration),
    Part(name="training", title="Training", build=training),
    Part(name="verification", title="Verification", build=verification),
    Part(name="scores", title="Mated and non-mated scores", build=scores),
    Part(name="benchmarks", title="Benchmarks", build=benchmarks),
    Part(name="set_metrics", title="The sets as a whole", build=set_metrics),
    Part(name="studies", title="Studies: similarity and accuracy", build=studies),
    Part(name="published", title="Beside other systems", build=published),
    Part(name="audit", title="Audit", build=audit),
    Part(name="costs", title="Costs", build=costs),
    Part(name="rejected", title="Rejected inputs", build=rejected),
    Part(name="provenance", title="Provenance", build=provenance),
)


def render(run: Run) -> dict[str, bytes]:
    """The whole page, and its figures as Markdown, by file name, UTF-8.

    The stages' outputs are read, never their inputs: the folder can be moved anywhere.
    """
    environment = Environment(
        loader=PackageLoader("jobs", "templates"),
        autoescape=select_autoescape(enabled_extensions=("html.j2", "css.j2")),
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
        "size": size,
    }
    sets = Sets.of(run)
    values = {part.name: found for part in PARTS if (found := part.build(run, sets)) is not None}
    shown = [
        {
            "name": part.name,
            "title": part.title,
            "html": Markup(environment.get_template(f"report_{part.name}.html.j2").render(values[part.name])),  # noqa: S704 (escaped inside)
        }
        for part in PARTS
        if part.name in values
    ]
    named = {"title": run.section("report").title, "name": run.config.name, "seed": run.seed}
    page = environment.get_template(TEMPLATES[PAGE]).render(
        named,
        head=head(run),
        sets=sets,
        coarse=run.asks_for("shard") and run.section("shard").image_size < COARSE_PIXELS,
        parts=shown,
        verification=values.get("verification"),
        audit=values.get("audit"),
    )
    results = environment.get_template(TEMPLATES[RESULTS]).render(
        named | {part.name: values.get(part.name) for part in PARTS}
    )
    return {PAGE: page.encode(), RESULTS: results.replace(SPACE, " ").encode()}


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


def size(count: float) -> str:
    """Bytes in the unit that fits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f}{SPACE}{unit}" if unit == "bytes" else f"{count:.1f}{SPACE}{unit}"
        count /= 1000
    return f"{count:.1f}{SPACE}TB"
