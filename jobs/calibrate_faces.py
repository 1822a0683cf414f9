"""Calibrate: which m gives which cosine to the inquiry face? A pilot over a grid of m, made monotone and inverted.

Runs where `generate` is asked for cosines instead of m. The same identities with the same noise at every m, so that
the curve shows m and not the luck of the draw.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from cemiface.calibration import Calibration, fit_calibration
from cemiface.config import SimilarityGrid
from jobs.embedder import embedder_needs, load_embedder, to_unit_range
from jobs.make_identities import INQUIRIES
from jobs.sampling import FaceSampler, SamplingConfig, sampling_cost
from jobs.seeds import derive
from jobs.stage import Finish, Run, Stage, StageConfig, Unit
from jobs.yaml_file import ConfigError
from slurm.files import Output, publish, read_json
from slurm.markers import Marker

if TYPE_CHECKING:
    from jobs.rank import Rank

NAME = "calibrate"
CURVE = "calibration.json"


class CalibrateFaces(StageConfig):
    identities: int = Field(200, ge=1)  # the first of the inquiry faces; all where there are fewer
    images_per_identity: int = Field(2, ge=1)  # at every m
    grid: SimilarityGrid = SimilarityGrid(interval=0.1)  # the m that are tried

    @model_validator(mode="after")
    def _check(self) -> CalibrateFaces:
        if self.grid.interval is None or self.grid.low == self.grid.high:
            raise ValueError("grid: got no interval or one value; allowed: two values of m or more")
        return self


def plan(run: Run) -> list[Unit]:
    """One unit per m.

    Raises:
        ConfigError: nothing is generated that could be calibrated.
    """
    config: CalibrateFaces = run.section(NAME)
    if run.section("generate") is None:
        raise ConfigError("calibrate: measures how `generate` samples; add a section `generate:` or remove calibrate")
    return [{"m": m} for m in config.grid.values]


def run_rank(run: Run, rank: Rank) -> None:
    import numpy as np
    import torch

    from jobs.device import rank_device
    from shards.embeddings import read_embeddings
    from shards.jpeg import decode_rgb, encode_jpeg

    config: CalibrateFaces = run.section(NAME)
    sampling: SamplingConfig = run.section("generate")
    device = rank_device(rank)
    sampler, embedder = FaceSampler(run, sampling, device=device), load_embedder(run, device=device)
    inquiries = torch.from_numpy(read_embeddings(run.stage_folder("identities").output(f"{INQUIRIES}.h5")).features)
    rows = [row for row in range(min(config.identities, len(inquiries))) for _ in range(config.images_per_identity)]
    for work in rank.remaining():
        cosines: list[float] = []
        for first in range(0, len(rows), sampling.batch):
            part = rows[first : first + sampling.batch]
            seeds = [derive(run.seed, "pilot", first + place) for place in range(len(part))]
            faces = sampler.faces(
                seeds,
                identity=inquiries[part],
                m=[work.unit["m"]] * len(part),
                on_step=lambda step, work=work: work.progress(0),  # type: ignore[misc]
            )
            # As generate measures: of the pixels that would be stored.
            stored = np.stack([decode_rgb(encode_jpeg(face, quality=sampling.quality)) for face in faces])
            embedded = embedder(to_unit_range(stored, device=device)).cpu()
            cosines += torch.nn.functional.cosine_similarity(embedded, inquiries[part]).tolist()
            work.progress(len(part))
        text = json.dumps({"m": work.unit["m"], "cosines": [round(cosine, 5) for cosine in cosines]})
        work.publish(f"pilot-{work.number:05d}.json", text.encode())
        work.done(images=len(cosines), counts={"generated": len(cosines)})


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """The measured curve, and the rising one that is read backwards.

    Raises:
        ModelError: the cosine does not rise with m at all.
    """
    import numpy as np

    folder = run.stage_folder(NAME)
    pilots = [read_json(folder.output(output.name)) for marker in markers for output in marker.outputs]
    curve = [
        {
            "m": pilot["m"],
            "mean": round(float(np.mean(pilot["cosines"])), 4),
            "std": round(float(np.std(pilot["cosines"])), 4),
            "images": len(pilot["cosines"]),
        }
        for pilot in pilots
    ]
    fitted = fit_calibration([row["m"] for row in curve], means=[row["mean"] for row in curve])
    text = json.dumps({"m": fitted.m, "cosine": fitted.cosine}, indent=1)
    written = publish(folder.output(CURVE), text.encode(), replace=True)
    return Finish(
        outputs=(Output(name=CURVE, bytes=written.bytes, sha256=written.sha256),),
        figures={"measured_cosine": curve, "reachable": [round(fitted.cosine[0], 4), round(fitted.cosine[-1], 4)]},
    )


def calibration(run: Run) -> Calibration:
    """The curve of the finished stage."""
    stored = read_json(run.stage_folder(NAME).output(CURVE))
    return Calibration(m=tuple(stored["m"]), cosine=tuple(stored["cosine"]))


def expected_images(run: Run) -> int:
    config: CalibrateFaces = run.section(NAME)
    pilots = min(config.identities, run.section("identities").count) * config.images_per_identity
    return pilots * len(config.grid.values)


STAGE = Stage(
    name=NAME,
    title="which m gives which cosine to the inquiry: a pilot, its curve inverted",
    config=CalibrateFaces,
    needs=lambda run: ("train-diffusion", "identities", *embedder_needs(run)),
    # How generate samples is not in this stage's own section, but its curve is true for that alone.
    files=lambda run: {"generate": run.section("generate").sampling()} if run.section("generate") else {},
    plan=plan,
    run_rank=run_rank,
    finish=finish,
    expected_images=expected_images,
    cost=lambda run: sampling_cost(run, run.section("generate"), images=expected_images(run), stored=0),
)
