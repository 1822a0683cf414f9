"""The base of a run, opened, with what the stages need around it: prompts, and faces out of its pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cemiface.gandiff.base import Asked, Base, Sampling, load_slot_base
from cemiface.gandiff.prompts import Grammar
from cemiface.gandiff.text.phrases import negative_of, phrases_of
from cemiface.gandiff.text.text_base import TextBase, load_text_base
from cemiface.measures.face_cutter import FaceCutter, open_face_cutter
from cemiface.pixels import to_bytes, to_unit_range
from jobs.frame.run import Run
from jobs.methods.gandiffface.generate.plan import GeneratePictures, grammar_of
from jobs.methods.gandiffface.personalize.plan import Personalize, base_path
from jobs.stages.shard.plan import ShardFaces

# Of class pictures. Without guidance Stable Diffusion's are hardly faces.
CLASS, CLASS_BY_TEXT = Sampling(steps=10), Sampling(steps=25, guidance=5.0)


@dataclass(frozen=True, kw_only=True)
class OpenBase:
    """A base on a device.

    Attributes:
        cutter: cuts the faces that are measured and stored out of the base's pictures.
        class_sampling: how pictures for prior preservation are made.
        negative: what pictures of the set are guided away from; None if nothing is named.
    """

    base: Base
    cutter: FaceCutter
    class_sampling: Sampling
    negative: Asked | None

    def faces(self, pictures: Tensor) -> Tensor:
        """The faces (N, 3, F, F) of pictures (N, 3, S, S) in [-1, 1]; a picture without one is taken as a whole."""
        if self.base.aligned:
            return pictures
        return to_unit_range(self.cutter.cut(to_bytes(pictures)).faces, device=pictures.device)


def open_base(run: Run, *, device: torch.device, grammar: Grammar | None = None) -> OpenBase:
    """The base of the run; with a grammar it can be asked for what the grammar asks.

    Raises:
        ModelError: it cannot be loaded.
    """
    given = run.section(Personalize).text_base
    if given is None:
        slot_base = load_slot_base(base_path(run), device=device)
        cutter = open_face_cutter(size=slot_base.image_size, aligned=True)
        negative = (grammar.negative or None) if grammar else None
        return OpenBase(base=slot_base, cutter=cutter, class_sampling=CLASS, negative=negative)
    text_base = load_text_base(run.path(given.folder), config=given, phrase=phrases_of(grammar), device=device)
    if run.find(GeneratePictures) is not None:
        _check_lengths(text_base, grammar_of(run))
    return OpenBase(
        base=text_base,
        cutter=open_face_cutter(size=run.section(ShardFaces).image_size, aligned=False),
        class_sampling=CLASS_BY_TEXT,
        negative=negative_of(grammar) if grammar else None,
    )


def _check_lengths(base: TextBase, grammar: Grammar) -> None:
    """Refuse prompts that are too long for the base, before identities are learned for hours.

    Raises:
        ModelError: the longest prompt or the negative one has too many tokens.
    """
    longest = {name: max(values, key=lambda value: len(values[value].phrase)) for name, values in grammar.slots.items()}
    base.text.ids(phrases_of(grammar)({"gender": "female", "age": "45-59", **longest}))
    base.text.ids(grammar.negative_text)
