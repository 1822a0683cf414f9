"""The work of calibrate: sample the pilot at each m, then invert the measured curve."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch

from cemiface.pixels import to_unit_range
from cemiface.semihard.calibration import fit_calibration
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage import Finish
from jobs.methods.cemiface.calibrate.curve import CURVE
from jobs.methods.cemiface.calibrate.plan import NAME, CalibrateFaces, PilotUnit, generating
from jobs.methods.cemiface.face_sampler import FaceSampler
from jobs.methods.cemiface.identities.plan import INQUIRIES
from jobs.stages.shared.embedding import load_embedder
from jobs.training.device import rank_device
from shards.embeddings.embeddings import read_embeddings
from shards.images.jpeg import decode_rgb, encode_jpeg
from slurm.files import Output, publish, read_json
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    config = run.section(CalibrateFaces)
    sampling = generating(run)
    device = rank_device(rank)
    sampler, embedder = FaceSampler(run, sampling, device=device), load_embedder(run, device=device)
    inquiries = torch.from_numpy(read_embeddings(run.stage_folder("identities").output(f"{INQUIRIES}.h5")).features)
    rows = [row for row in range(min(config.identities, len(inquiries))) for _ in range(config.images_per_identity)]
    for work in rank.remaining(PilotUnit):
        cosines: list[float] = []
        for first in range(0, len(rows), sampling.batch):
            part = rows[first : first + sampling.batch]
            seeds = [derive(run.seed, "pilot", first + place) for place in range(len(part))]
            faces = sampler.faces(
                seeds,
                identity=inquiries[part],
                m=[work.unit.m] * len(part),
                on_step=lambda step, work=work: work.progress(0),  # type: ignore[misc]
            )
            # As generate measures: of the pixels that would be stored.
            stored = np.stack([decode_rgb(encode_jpeg(face, quality=sampling.quality)) for face in faces])
            embedded = embedder(to_unit_range(stored, device=device)).cpu()
            cosines += torch.nn.functional.cosine_similarity(embedded, inquiries[part]).tolist()
            work.progress(len(part))
        text = json.dumps({"m": work.unit.m, "cosines": [round(cosine, 5) for cosine in cosines]})
        work.publish(f"pilot-{work.number:05d}.json", text.encode())
        work.done(images=len(cosines), counts={"generated": len(cosines)})


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """The measured curve, and the rising one that is read backwards.

    Raises:
        ModelError: the cosine does not rise with m at all.
    """
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
