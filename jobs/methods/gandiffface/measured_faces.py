"""Faces of the generator with their attributes and embeddings, for candidates and portraits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cemiface.gandiff.gan.generator import latent, load_generator, truncated
from cemiface.measures.attributes import open_attribute_nets
from cemiface.measures.face_cutter import open_face_cutter
from cemiface.pixels import to_bytes, to_unit_range
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.candidates.plan import MakeCandidates, face_size
from jobs.methods.gandiffface.train_gan.plan import GENERATOR
from jobs.methods.gandiffface.train_gan.plan import NAME as TRAIN_GAN
from jobs.stages.shared.embedding import load_embedder


@dataclass(frozen=True, kw_only=True)
class Measured:
    """N faces (N, S, S, 3) uint8, their embeddings (N, E) float32 and their attributes, (N,) float32 each.

    `pictures` are what the generator made; the faces are cut out of them where they are not on the template yet.
    """

    pictures: Sequence[np.ndarray] | np.ndarray
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


class FaceMeter:
    """E_id and the attribute nets on one device, for faces of `size` px."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        config, self.size = run.section(MakeCandidates), face_size(run)
        self.embedder = load_embedder(run, device=device)
        self.cutter = open_face_cutter(size=self.size, aligned=not config.align)
        self.nets = open_attribute_nets(cards(run), size=self.size)
        self.seed, self.device = run.seed, device

    def measured_pictures(self, pictures: Sequence[np.ndarray] | np.ndarray) -> Measured:
        """The faces of pictures, uint8 (P, P, 3) each, with what is measured of them."""
        cut = self.cutter.cut(pictures)
        found = self.measured_faces(cut.faces)
        return replace(found, pictures=pictures, attributes=cut.presence(found.attributes))

    def measured_faces(self, faces: np.ndarray) -> Measured:
        """Faces on the template, uint8 (N, S, S, 3), with what is measured of them."""
        with torch.inference_mode():
            embedding = self.embedder(to_unit_range(faces, device=self.device)).cpu().numpy()
        attributes = self.nets.measure(faces.transpose(0, 3, 1, 2))
        return Measured(pictures=faces, faces=faces, embedding=embedding, attributes=attributes)


class FaceMaker(FaceMeter):
    """The generator as well."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        super().__init__(run, device=device)
        config = run.section(MakeCandidates)
        given = config.generator
        path = run.path(given) if given else run.stage_folder(TRAIN_GAN).output(GENERATOR)
        self.generator = load_generator(path, device=device)
        self.name, self.truncation = path.name, config.truncation

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
        return self.measured_pictures(pictures)
