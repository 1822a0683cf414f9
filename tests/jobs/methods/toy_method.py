"""A method of drawn faces, to show that the shared stages need to know nothing of a method but its contract."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.frame.method import CardText, GeneratedImage, ImageRequest, Method, identity_name
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage import Stage
from jobs.frame.stage_config import StageConfig
from jobs.frame.unit import SetUnit, Unit
from jobs.stages.chain import chain_of
from jobs.stages.shared.tars import publishing_tar
from shards.images.jpeg import encode_jpeg
from shards.tars.shard_set import ShardSet

SHAPES, COLORS, PARTS = ("disc", "square"), {"red": 0, "green": 1, "blue": 2}, ()
SIZE, PEOPLE, IMAGES = 16, 4, 6


class DrawPeople(StageConfig):
    """Nothing to choose."""


class DrawFaces(StageConfig):
    leak: bool = False  # the first image is a copy of a real one


@dataclass(frozen=True, kw_only=True)
class PeopleUnit(Unit):
    people: int


def run_rank(run: Run, rank: Rank) -> None:
    if rank.stage.name == "identities":
        for people in rank.remaining(PeopleUnit):
            names = [identity_name(number) for number in range(people.unit.people)]
            people.publish("people.json", json.dumps(names).encode())
            people.done(images=0, counts={})
        return
    artist = Artist(run)
    for work in rank.remaining(SetUnit):
        block = range(work.unit.first, work.unit.last + 1)
        requests = [ImageRequest(identity=who, index=index) for who in block for index in range(IMAGES)]
        with publishing_tar(work.path(work.unit.tar), record=work.record) as tar:
            for image in artist.remake(requests, attempt=0, work=work):
                tar.add(image.request.key, jpg=image.jpeg, record=image.record)
        work.done(images=len(requests), counts={"generated": len(requests)})


class Artist:
    def __init__(self, run: Run, *, device: object = None) -> None:
        self.run, self.leak = run, run.section(DrawFaces).leak

    def remake(self, requests: Sequence[ImageRequest], *, attempt: int, work: Work[Any]) -> Iterator[GeneratedImage]:
        for request in requests:
            work.progress()
            asked = {"shape": SHAPES[request.index % 2], "color": list(COLORS)[request.index % 3]}
            seed = derive(self.run.seed, f"toy, attempt {attempt}", request.identity * IMAGES + request.index)
            jpeg = encode_jpeg(self._draw(request.identity, asked, seed=seed), quality=95)
            if self.leak and attempt == 0 and request.key == "000000-000":
                jpeg = ShardSet(self.run.ledger.outputs("shard", prefix="real-", suffix=".tar")).jpeg(0)
            record = {"identity": identity_name(request.identity), "index": request.index, "seed": seed}
            yield GeneratedImage(request=request, jpeg=jpeg, record=record | {"origin": "synthetic", "asked": asked})

    def _draw(self, identity: int, asked: dict[str, str], *, seed: int) -> np.ndarray:
        y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
        inside = x**2 + y**2 < 30 if asked["shape"] == "disc" else np.maximum(abs(x), abs(y)) < 5
        face = np.random.default_rng(derive(0, "toy person", identity)).integers(0, 256, (SIZE, SIZE, 3))
        face[inside, COLORS[asked["color"]]] = np.random.default_rng(seed).integers(0, 256, int(inside.sum()))
        return face.astype(np.uint8)


WORK: dict[str, Any] = {"work": sys.modules[__name__].__name__, "needs": lambda run: ("shard",)}
PEOPLE_STAGE = Stage(
    name="identities", title="people", config=DrawPeople, unit=PeopleUnit, plan=lambda run: [PeopleUnit(people=PEOPLE)],
    **WORK,
)  # fmt: skip
FACES_STAGE = Stage(
    name="draw", title="drawn faces", config=DrawFaces, unit=SetUnit, expected_images=lambda run: PEOPLE * IMAGES,
    plan=lambda run: [SetUnit(tar=f"synthetic-{n:05d}.tar", first=2 * n, last=2 * n + 1) for n in range(PEOPLE // 2)],
    **WORK,
)  # fmt: skip
METHOD = Method(
    name="toy", chain=chain_of((PEOPLE_STAGE, FACES_STAGE)), own_stages=("identities", "draw"),
    identities=PEOPLE_STAGE, generate=FACES_STAGE, remaker="toy_method:Artist", report_parts="toy_method:PARTS",
    card=lambda run: CardText(summary="Drawn faces.", limits=("They are drawings.",), citation="Nobody."),
    lineage=lambda run: (),
)  # fmt: skip
