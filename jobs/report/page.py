"""The report: the order of its parts, the page and the Markdown file. A function of the run folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from jobs.frame.method import Method, load
from jobs.frame.products import PUBLISH, SHARD
from jobs.frame.run import Run
from jobs.report.audit import audit
from jobs.report.chain import chain, costs, provenance, rejected
from jobs.report.faces import faces
from jobs.report.lineage import lineage
from jobs.report.measured import scores, training, verification
from jobs.report.numbers import FILTERS, SPACE
from jobs.report.part import PACKAGE, Part, Sets, summary
from jobs.report.published import published
from jobs.report.sets import benchmarks, comparison, set_metrics

PAGE, RESULTS = "index.html", "results.md"
TEMPLATES = {PAGE: "page.html.j2", RESULTS: "results.md.j2"}
COARSE_PIXELS = 72  # smaller faces are enlarged, and shown with their pixels

# The shared parts in the page's order. A new part is one line here, a function, and a template `<name>.html.j2`;
# one with figures for results.md has a template `<name>.md.j2` too.
PARTS = (
    Part(name="chain", title="The chain", build=chain),
    Part(name="faces", title="Faces", build=faces),
    Part(name="training", title="Training", build=training),
    Part(name="verification", title="Verification on held-out people", build=verification),
    Part(name="scores", title="Mated and non-mated scores", build=scores),
    Part(name="benchmarks", title="Benchmarks", build=benchmarks),
    Part(name="set_metrics", title="The sets as a whole", build=set_metrics),
    Part(name="comparison", title="Accuracy by training set", build=comparison),
    Part(name="published", title="Published figures of other systems", build=published),
    Part(name="audit", title="Audit", build=audit),
    Part(name="lineage", title="Lineage", build=lineage),
    Part(name="costs", title="Costs", build=costs),
    Part(name="rejected", title="Rejected inputs", build=rejected),
    Part(name="provenance", title="Provenance", build=provenance),
)


def parts_of(method: Method) -> list[Part]:
    """The page in its order: each shared part, then the method's own parts that follow it."""
    own: tuple[Part, ...] = load(method.report_parts)
    parts = [each for part in PARTS for each in (part, *(added for added in own if added.after == part.name))]
    assert len({part.name for part in parts}) == len(PARTS) + len(own)
    return parts


def render(run: Run, *, title: str) -> dict[str, bytes]:
    """The whole page, and its figures as Markdown, by file name, UTF-8.

    The stages' outputs are read, never their inputs: the folder can be moved anywhere.
    """
    sets = Sets.of(run)
    parts = parts_of(run.method)
    values = {part.name: found for part in parts if (found := part.build(run, sets)) is not None}
    shown = [_rendered(part, values[part.name]) for part in parts if part.name in values]
    opening = head(run)
    frame = environment(PACKAGE)
    named = {"title": title, "name": run.config.name, "seed": run.seed}
    page = frame.get_template(TEMPLATES[PAGE]).render(
        named,
        head=opening,
        sets=sets,
        coarse=0 < int(opening["size"]) < COARSE_PIXELS,
        parts=shown,
        verification=values.get("verification"),
        audit=values.get("audit"),
    )
    results = frame.get_template(TEMPLATES[RESULTS]).render(named, parts=[part for part in shown if part["markdown"]])
    return {PAGE: page.encode(), RESULTS: results.replace(SPACE, " ").encode()}


def environment(package: str) -> Environment:
    """The templates of a package's parts; what they share, such as macros, is the report's."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, PACKAGE))]),
        autoescape=select_autoescape(enabled_extensions=("html.j2", "css.j2")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= FILTERS
    return made


def _rendered(part: Part, values: dict[str, Any]) -> dict[str, str]:
    """A part's section of the page, and its Markdown, "" where it has no such template."""
    templates = environment(part.package)
    names, html, markdown = templates.list_templates(), f"{part.name}.html.j2", f"{part.name}.md.j2"
    return {
        "name": part.name,
        "title": part.title,
        "html": Markup(templates.get_template(html).render(values)),  # noqa: S704 (escaped inside)
        "markdown": templates.get_template(markdown).render(values).strip() if markdown in names else "",
    }


def head(run: Run) -> dict[str, Any]:
    """What the opening sentences and the tiles are made of: summaries and what follows from them."""
    sharded = summary(run, SHARD)
    section: dict[str, Any] = sharded.fingerprint[SHARD] if sharded else {"faces": "", "image_size": 0}
    trainings = [summary(run, name) for name in run.method.own_stages if run.stages[name].distributed]
    return {
        "trained": [training for training in trainings if training],
        "generate": summary(run, run.method.generate.name),
        "publish": summary(run, PUBLISH),
        "faces": Path(section["faces"]).name,
        "size": section["image_size"],
    }
