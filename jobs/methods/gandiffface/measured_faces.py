"""Faces of the generator with their attributes and embeddings, for candidates and portraits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cemiface.gandiff.gan.generator import latent, load_generator, truncated
from cemiface.measures.attributes import open_attribute_nets
from cemiface.measures.face_cutter import open_face_cutter
from cemiface.pixels import to_bytes, to_unit_range
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.candidates.plan import MakeCandidates
from jobs.methods.gandiffface.train_gan.plan import GENERATOR
from jobs.methods.gandiffface.train_gan.plan import NAME as TRAIN_GAN
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.shared.embedding import load_embedder


@dataclass(frozen=True, kw_only=True)
class Measured:
    """N faces (N, S, S, 3) uint8, their embeddings (N, E) float32 and their attributes, (N,) float32 each.

    `pictures` are what the generator made; the faces are cut out of them where they are not on the template yet.
    """

    pictures: np.ndarray
    faces: np.ndarray
    embedding: np.ndarray
    attributes: Mapping[str, np.ndarray]


def joined(parts: Sequence[Measured]) -> Measured:
    """One after the other, without the faces: they would fill the memory."""
    names = parts[0].attributes
    return Measured(
        pictures=parts[0].pictures[:0],
        faces=parts[0].faces[:0],
        embedding=np.concatenate([part.embedding for part in parts]),
        attributes={name: np.concatenate([part.attributes[name] for part in parts]) for name in names},
    )


class FaceMaker:
    """The generator, the attribute nets and E_id on one device."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        config = run.section(MakeCandidates)
        given = config.generator
        path = run.path(given) if given else run.stage_folder(TRAIN_GAN).output(GENERATOR)
        self.generator = load_generator(path, device=device)
        self.embedder = load_embedder(run, device=device)
        size = run.section(ShardFaces).image_size if config.align else self.generator.image_size
        self.cutter = open_face_cutter(size=size, aligned=not config.align)
        self.nets = open_attribute_nets(cards(run), size=size)
        self.name, self.seed, self.truncation, self.device = path.name, run.seed, config.truncation, device

    def latents(self, numbers: Sequence[int]) -> torch.Tensor:
        """w (N, w_width) of candidates by number, after truncation."""
        seeds = [derive(self.seed, "candidate", number) for number in numbers]
        z = torch.stack([latent(seed, self.generator.z_width) for seed in seeds]).to(self.device)
        with torch.inference_mode():
            return truncated(self.generator.mapping(z), self.generator.w_mean, self.truncation)

    def measured(self, w: torch.Tensor) -> Measured:
        """The faces of latents w (N, w_width), with what is measured of them."""
        with torch.inference_mode():
            pictures = to_bytes(self.generator.synthesis(w.to(self.device)))
            cut = self.cutter.cut(pictures)
            embedding = self.embedder(to_unit_range(cut.faces, device=self.device)).cpu().numpy()
        attributes = cut.presence(self.nets.measure(cut.faces.transpose(0, 3, 1, 2)))
        return Measured(pictures=pictures, faces=cut.faces, embedding=embedding, attributes=attributes)
