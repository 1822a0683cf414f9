"""Sampling pictures from the run's base, and what is stored and measured of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cemiface.gandiff.base import Asked, Sampling, sampled
from cemiface.measures.aligner import Outcome
from cemiface.measures.attributes import open_attribute_nets
from cemiface.pixels import to_bytes
from jobs.frame.run import Run
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.generate.plan import GeneratePictures, check_grammar, grammar_of
from jobs.methods.gandiffface.personalize.opened import open_base
from jobs.training.device import autocast
from shards.images.jpeg import decode_rgb, encode_jpeg


@dataclass(frozen=True, kw_only=True)
class SampledFaces:
    """N pictures (N, P, P, 3) of the base, their faces as JPEGs, and those decoded, (N, S, S, 3), which are measured.

    Attributes:
        outcomes: of cutting out each face.
        measured: attributes (N,) by name.
    """

    pictures: np.ndarray
    jpegs: Sequence[bytes]
    faces: np.ndarray
    outcomes: Sequence[Outcome]
    measured: Mapping[str, np.ndarray]

    def values(self, row: int) -> dict[str, float]:
        """The attributes of a face."""
        return {name: float(column[row]) for name, column in self.measured.items()}


class FaceSampler:
    """The base and the attribute nets on one device, as the section `generate` wants them."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        self.device, self.config = device, run.section(GeneratePictures)
        self.grammar = grammar_of(run)
        opened = open_base(run, device=device, grammar=self.grammar)
        self.base, self.cutter = opened.base, opened.cutter
        check_grammar(run, self.grammar, self.base.slots)
        self.sampling = Sampling(steps=self.config.steps, guidance=self.config.guidance, negative=opened.negative)
        self.nets = open_attribute_nets(cards(run), size=self.cutter.size)

    def faces(
        self, asked: Sequence[Asked], *, seeds: Sequence[int], tokens: Tensor | None, on_step: Callable[[int], None]
    ) -> SampledFaces:
        """Faces of N prompts from the noise of N seeds; `tokens` (N, width) are the identities, None is anybody."""
        noise = torch.stack(
            [torch.randn(self.base.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        )
        with torch.inference_mode(), autocast(self.device, self.config.precision):
            made = sampled(
                self.base,
                asked,
                noise=noise.to(self.device),
                tokens=tokens,
                sampling=self.sampling,
                on_step=on_step,
            )
        pictures = to_bytes(made)
        cut = self.cutter.cut(pictures)
        jpegs = [encode_jpeg(face, quality=self.config.quality) for face in cut.faces]
        faces = np.stack([decode_rgb(jpeg) for jpeg in jpegs])  # what is measured is what is stored
        measured = cut.presence(self.nets.measure(np.ascontiguousarray(faces.transpose(0, 3, 1, 2))))
        return SampledFaces(pictures=pictures, jpegs=jpegs, faces=faces, outcomes=cut.outcomes, measured=measured)
