"""The work of calibrate: sample the pilot at each m, then fit the monotone curve to invert."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cemiface.pixels import to_unit_range
from cemiface.semihard.calibration import fit_calibration
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage import Finish
from jobs.methods.cemiface.calibrate.files import Pilot, publish_calibration, read_pilot
from jobs.methods.cemiface.calibrate.plan import NAME, CalibrateFaces, PilotUnit, sampling_of_generate
from jobs.methods.cemiface.face_sampler import FaceSampler
from jobs.methods.cemiface.identities.plan import INQUIRIES
from jobs.stages.shared.embedding import load_embedder
from jobs.training.device import rank_device
from shards.embeddings.embeddings import read_embeddings
from shards.images.jpeg import decode_rgb, encode_jpeg
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    """Publish the cosines of the pilot at each m of this rank."""
    config = run.section(CalibrateFaces)
    device = rank_device(rank)
    sampler = FaceSampler(run, sampling_of_generate(run), device=device)
    embedder = load_embedder(run, device=device)
    inquiries = torch.from_numpy(read_embeddings(run.stage_folder("identities").output(f"{INQUIRIES}.h5")).features)
    rows = [row for row in range(min(config.identities, len(inquiries))) for _ in range(config.images_per_identity)]

    def cosines(work: Work[PilotUnit], *, first: int) -> list[float]:
        """The cosines of the batch of the pilot that starts at image `first`."""
        identity = inquiries[rows[first : first + sampler.config.batch]]
        faces = sampler.faces(
            [derive(run.seed, "pilot", first + offset) for offset in range(len(identity))],
            identity=identity,
            m=[work.unit.m] * len(identity),
            on_step=lambda step: work.progress(0),
        )
        # As in generate, the cosine is that of the pixels that the JPEG holds.
        stored = np.stack([decode_rgb(encode_jpeg(face, quality=sampler.config.quality)) for face in faces])
        embedded = embedder(to_unit_range(stored, device=device)).cpu()
        work.progress(len(identity))
        found: list[float] = torch.nn.functional.cosine_similarity(embedded, identity).tolist()
        return found

    for work in rank.remaining(PilotUnit):
        starts = range(0, len(rows), sampler.config.batch)
        found = [round(cosine, 5) for first in starts for cosine in cosines(work, first=first)]
        work.publish(f"pilot-{work.number:05d}.json", Pilot(m=work.unit.m, cosines=tuple(found)).as_json())
        work.done(images=len(found), counts={"generated": len(found)})


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Publish the calibrated curve; the figures are the measured one and the range of cosines that can be requested.

    Raises:
        ModelError: the cosine does not rise with m at all, or a file of the pilot is damaged.
    """
    folder = run.stage_folder(NAME)
    pilots = [read_pilot(folder.output(output.name)) for marker in markers for output in marker.outputs]
    means = [round(float(np.mean(pilot.cosines)), 4) for pilot in pilots]
    measured = [
        {
            "m": pilot.m,
            "mean": mean,
            "std": round(float(np.std(pilot.cosines)), 4),
            "images": len(pilot.cosines),
        }
        for pilot, mean in zip(pilots, means, strict=True)
    ]
    fitted = fit_calibration([pilot.m for pilot in pilots], means=means)
    return Finish(
        outputs=(publish_calibration(run, fitted),),
        figures={"measured_cosine": measured, "reachable": [round(fitted.cosine[0], 4), round(fitted.cosine[-1], 4)]},
    )
