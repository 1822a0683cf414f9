"""Sheets of samples during the training of the base: a row per value of each slot."""

from __future__ import annotations

import numpy as np
import torch

from cemiface.diffusion.schedule import Schedule
from cemiface.gandiff.base import Sampling, SlotBase, sampled
from cemiface.gandiff.slot_denoiser import SlotDenoiser
from cemiface.measures.attributes import open_attribute_nets
from cemiface.pixels import to_bytes
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.train_base.plan import NAME, TrainBase
from jobs.training.metrics import Metrics
from shards.images.jpeg import encode_jpeg
from slurm.files import publish, publish_json

COLUMNS, SAMPLING = 8, Sampling(steps=10, guidance=2.0)


class SlotSheets:
    """A row states one value of one slot and nothing else; a column starts from the same noise in every row."""

    def __init__(self, run: Run, *, schedule: Schedule, images: int) -> None:
        config = run.section(TrainBase).denoiser
        self.folder = run.stage_folder(NAME).output("samples")
        self.slots, self.schedule, self.first_images = config.slots, schedule, images
        self.rows = [(slot, value) for slot in config.slots for value in slot.values]
        generator = torch.Generator().manual_seed(derive(run.seed, "base sheet"))
        self.noise = torch.randn((COLUMNS, 3, config.image_size, config.image_size), generator=generator)
        wanted = [slot.attribute for slot in config.slots]
        self.nets = open_attribute_nets(cards(run), size=config.image_size, wanted=wanted)
        self._metrics: Metrics | None = None

    def write(self, denoiser: SlotDenoiser, *, images: int) -> None:
        """Write `samples/<images>.jpg`, and the share of samples that are as asked, by slot, to `samples/slots.jsonl`.

        Chance is one over the number of values.
        """
        base, device = SlotBase(net=denoiser, schedule=self.schedule), self.schedule.alpha_bar.device
        rows, right = [], {slot.name: 0 for slot in self.slots}
        with torch.inference_mode():
            for slot, value in self.rows:
                asked = [{slot.name: value}] * COLUMNS
                faces = to_bytes(sampled(base, asked, noise=self.noise.to(device), tokens=None, sampling=SAMPLING))
                found = self.nets.measure(np.ascontiguousarray(faces.transpose(0, 3, 1, 2)))[slot.attribute]
                right[slot.name] += sum(slot.value_of(float(one)) == value for one in found)
                rows.append(np.concatenate(list(faces), axis=1))
        publish(self.folder / f"{images:012d}.jpg", encode_jpeg(np.concatenate(rows), quality=95), replace=True)
        publish_json(self.folder / "rows.json", [[slot.name, value] for slot, value in self.rows], replace=True)
        self._metrics = self._metrics or Metrics(self.folder / "slots.jsonl", images=self.first_images)
        shares = {slot.name: round(right[slot.name] / COLUMNS / len(slot.values), 4) for slot in self.slots}
        self._metrics.write({"images": images, **shares})
