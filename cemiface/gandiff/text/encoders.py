"""Text encoders of Stable Diffusion with a vector in the place of a word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cemiface.errors import ModelError
from cemiface.gandiff.text.text_config import IDENTITY

PLACE = -1  # the id at which the identity's vector stands


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Prompts as the U-Net takes them: sequences (N, words, width), and for XL vectors (N, width)."""

    sequence: Tensor
    pooled: Tensor | None

    @staticmethod
    def stacked(rows: Sequence[Encoded]) -> Encoded:
        """The prompts of all rows."""
        pooled = [row.pooled for row in rows if row.pooled is not None]
        return Encoded(sequence=torch.cat([row.sequence for row in rows]), pooled=torch.cat(pooled) if pooled else None)

    def zeros(self) -> Encoded:
        """Zeros of the same shape."""
        return Encoded(
            sequence=torch.zeros_like(self.sequence),
            pooled=None if self.pooled is None else torch.zeros_like(self.pooled),
        )


class TextEncoders:
    """One encoder (Stable Diffusion 1 and 2: its last layer) or two (XL: their last but one, side by side)."""

    def __init__(self, models: Sequence[nn.Module], tokenizers: Sequence[Any]) -> None:
        self.models, self.tokenizers = list(models), list(tokenizers)
        self.tables = [model.get_input_embeddings() for model in self.models]  # type: ignore[operator]
        self.widths = [table.embedding_dim for table in self.tables]
        self.words = min(int(model.config.max_position_embeddings) for model in self.models)  # type: ignore[union-attr, arg-type]

    def ids(self, prompt: str) -> Tensor:
        """Token ids (encoders, words), PLACE where the prompt has IDENTITY. Raises ModelError if it is too long."""
        rows = []
        for tokenizer in self.tokenizers:
            row = [tokenizer.bos_token_id]
            for number, text in enumerate(prompt.split(IDENTITY)):
                row += [PLACE] * (number > 0) + tokenizer(text, add_special_tokens=False)["input_ids"]
            row.append(tokenizer.eos_token_id)
            if len(row) > self.words:
                raise ModelError(
                    f"prompt: got {len(row)} tokens in {prompt[:60]!r}; allowed: {self.words}, with start and end; "
                    "shorten it"
                )
            rows.append(row + [tokenizer.pad_token_id] * (self.words - len(row)))
        return torch.tensor(rows)

    def vector_of(self, word: str) -> Tensor:
        """(sum of the widths,) in float32: a word's vectors. Raises ModelError unless it is a single token."""
        found = []
        for tokenizer, table in zip(self.tokenizers, self.tables, strict=True):
            ids = tokenizer(word, add_special_tokens=False)["input_ids"]
            if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
                raise ModelError(f"word: got {word!r}, {len(ids)} tokens or unknown; allowed: a word of one token")
            found.append(table.weight[ids[0]].detach().float())
        return torch.cat(found)

    def __call__(self, ids: Tensor, tokens: Tensor) -> Encoded:
        """Encode ids (N, encoders, words) with the identities' vectors (N, sum of the widths)."""
        sequences, pooled = [], None
        parts = tokens.split(self.widths, dim=1)
        for number, (model, table, part) in enumerate(zip(self.models, self.tables, parts, strict=True)):
            row = ids[:, number]
            with _in_place(table, row == PLACE, part):
                # The vector's id is 0, because an encoder may look for the end of the prompt at the largest id.
                output = model(row.clamp(min=0), output_hidden_states=len(self.models) > 1)
            sequences.append(output.last_hidden_state if len(self.models) == 1 else output.hidden_states[-2])
            pooled = output.text_embeds if "text_embeds" in output else None
        return Encoded(sequence=torch.cat(sequences, dim=2), pooled=pooled)


@contextmanager
def _in_place(table: nn.Module, where: Tensor, vectors: Tensor) -> Iterator[None]:
    """Within the block, the table of input vectors gives `vectors` (N, width) at the places (N, words)."""

    def replace(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.where(where[:, :, None], vectors[:, None].to(output.dtype), output)

    hook = table.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()
