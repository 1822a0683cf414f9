"""Stable Diffusion as a base: a folder in diffusers' format, loaded through diffusers and transformers, offline.

An identity is a vector in the place of a word of the prompt, as in textual inversion (Gal et al. 2022,
arXiv 2208.01618); adapters on the U-Net learn the rest. DreamBooth's rare word is not used: rare words have meanings of
their own ("sks" is a rifle), which leak into the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.diffusion.schedule import Schedule
from cemiface.errors import ModelError
from cemiface.gandiff.slots import DEFAULT_SLOTS
from cemiface.gandiff.text.encoders import PLACE, Encoded, TextEncoders
from cemiface.gandiff.text.loading import Parts, load_parts
from cemiface.gandiff.text.model_folder import ModelFolder, check_model_folder
from cemiface.gandiff.text.text_config import IDENTITY, PROMPT, TextBaseConfig

Asked = Mapping[str, str]
Phrase = Callable[[Asked], str]  # a prompt with IDENTITY in it, of values by slot

CACHED = 512  # encoded prompts; 120 MB for Stable Diffusion 1.5 in single precision, 320 MB for XL


class TextBase:
    """A Stable Diffusion folder; see `cemiface.gandiff.base.Base`.

    Conditions are token ids (N, encoders, words) with PLACE where the identity's vector goes. They are encoded in
    `predict`, because the vector is trained; without gradients once per distinct prompt and vector, each by itself, so
    that the bits do not depend on what else is encoded.
    """

    bounded = False
    aligned = False
    slots = DEFAULT_SLOTS  # phrases.py has words for them

    def __init__(self, folder: ModelFolder, parts: Parts, config: TextBaseConfig, *, phrase: Phrase) -> None:
        self.net: nn.Module = parts.unet
        self.vae, self.folder, self.config, self.phrase = parts.vae, folder, config, phrase
        self.text = TextEncoders(parts.text, parts.tokenizers)
        self.token = self.text.vector_of(config.word)
        self.schedule = Schedule(folder.scheduler.diffusion, device=self.token.device)
        self.image_size = config.image_size or folder.image_size
        side = self.image_size // folder.vae.reduction
        self.shape = (folder.unet.in_channels, side, side)
        self._rows: dict[str, Tensor] = {}  # ids (encoders, words) by prompt
        self._cached: dict[bytes, Encoded] = {}
        self._last: list[tuple[list[Tensor], Encoded]] = []

    @torch.no_grad()
    def encoded(self, images: Tensor) -> Tensor:
        """Latents (N, C, side, side) of images (N, 3, S, S) in [-1, 1], the mean of what the VAE gives.

        Images of another size are resized. Each is encoded by itself, so that its latent does not depend on the others.
        """
        parameter, latents = next(self.vae.parameters()), []
        for image in images.split(1):
            if image.shape[-1] != self.image_size:
                image = F.interpolate(image, size=self.image_size, mode="bicubic", antialias=True).clamp(-1, 1)
            with torch.autocast(parameter.device.type, enabled=False):
                latents.append(self.vae.encode(image.to(parameter)).latent_dist.mode().float())
        return torch.cat(latents) * self.folder.vae.scaling_factor

    @torch.no_grad()
    def decoded(self, x: Tensor) -> Tensor:
        """Images (N, 3, S, S) around [-1, 1] of latents, each decoded by itself."""
        parameter = next(self.vae.parameters())
        latents = (x / self.folder.vae.scaling_factor).to(parameter).split(1)
        with torch.autocast(parameter.device.type, enabled=False):
            return torch.cat([self.vae.decode(latent).sample.float() for latent in latents])

    def prompt(self, asked: Asked) -> str:
        """The prompt of what is asked; the slot PROMPT alone is a prompt word by word.

        Raises ModelError for a phrase without a place for the identity.
        """
        if PROMPT in asked:
            if len(asked) > 1:
                raise ModelError(
                    f"slot {PROMPT}: got other slots beside it; allowed: it alone, as it is a whole prompt"
                )
            return asked[PROMPT]
        text = self.phrase(asked)
        if IDENTITY not in text:
            raise ModelError(f"prompt: got {text!r}; allowed: one with {IDENTITY} where the person is named")
        return text

    def condition(self, asked: Sequence[Asked]) -> Tensor:
        """Token ids (N, encoders, words) of the prompts. Raises ModelError for a prompt that is too long."""
        return torch.stack([self._row(self.prompt(one)) for one in asked]).to(self.token.device)

    def predict(self, x: Tensor, t: Tensor, condition: Tensor, tokens: Tensor | None) -> Tensor:
        """The U-Net's output in float32 for x at timesteps t (N,).

        Without tokens, a prompt of which nothing is asked is the empty prompt, which the U-Net knows as unconditional.
        Raises ModelError if there are tokens and a prompt without a place for them.
        """
        with torch.autocast(x.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            words = self._encoded(condition, tokens)
            extra = {"text_embeds": words.pooled, "time_ids": self._sizes(len(x))} if self.folder.is_xl else None
            output = self.net(x, t, encoder_hidden_states=words.sequence, added_cond_kwargs=extra, return_dict=False)
        found: Tensor = output[0].float()
        return found

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.net.parameters()).dtype

    def _sizes(self, count: int) -> Tensor:
        """XL's sizes: the original, the crop's corner, and the target; nothing is cropped or enlarged."""
        size = self.image_size
        return torch.tensor([size, size, 0, 0, size, size], device=self.token.device).expand(count, -1)

    def _row(self, prompt: str) -> Tensor:
        if prompt not in self._rows:
            if len(self._rows) >= CACHED:
                del self._rows[next(iter(self._rows))]
            self._rows[prompt] = self.text.ids(prompt)
        return self._rows[prompt]

    def _encoded(self, ids: Tensor, tokens: Tensor | None) -> Encoded:
        if tokens is not None and not bool((ids == PLACE).any(dim=2).all()):
            raise ModelError(f"prompt: has no place for the identity; allowed: prompts with {IDENTITY}")
        if tokens is not None and tokens.requires_grad and torch.is_grad_enabled():
            return self.text(ids, tokens)
        return self._kept(ids, tokens)

    @torch.inference_mode(mode=False)  # what is kept may be used in training too
    @torch.no_grad()
    def _kept(self, ids: Tensor, tokens: Tensor | None) -> Encoded:
        """Encoded prompts without gradients; each distinct one is encoded once."""
        given = [ids] if tokens is None else [ids, tokens]
        for known, encoded in self._last:  # the steps of a sampler ask for the same again
            if len(known) == len(given) and all(map(torch.equal, known, given)):
                return encoded
        rows = [self._one(row, None if tokens is None else tokens[i]) for i, row in enumerate(ids)]
        encoded = Encoded.stacked(rows)
        self._last = [*self._last[-1:], ([one.detach().clone() for one in given], encoded)]
        return encoded

    @torch.inference_mode(mode=False)  # what is kept may be used in training too
    @torch.no_grad()
    def _one(self, ids: Tensor, token: Tensor | None) -> Encoded:
        """The encoded prompt of one image."""
        row = ids.cpu()
        empty = token is None and torch.equal(row, self._row(self.phrase({})))
        vector = self.token if token is None else token
        key = bytes(empty) + row.numpy().tobytes() + vector.detach().float().cpu().numpy().tobytes()
        if key not in self._cached:
            if len(self._cached) >= CACHED:
                del self._cached[next(iter(self._cached))]
            ids = self._row("").to(ids.device) if empty else ids
            found = self.text(ids[None], vector[None])
            self._cached[key] = found.zeros() if empty and self.folder.zeros_if_empty else found
        return self._cached[key]


def load_text_base(
    path: str | Path, *, config: TextBaseConfig, phrase: Phrase, device: torch.device | str = "cpu"
) -> TextBase:
    """The base in a folder.

    Raises:
        ModelError: as `check_model_folder`; the optional packages are missing; the weights do not fit the configs or
            are not finite; the word is not a single token; the image size is no multiple of the VAE's reduction.
    """
    folder = check_model_folder(path)
    folder.check_image_size(config.image_size)
    return TextBase(folder, load_parts(folder, config, device=torch.device(device)), config, phrase=phrase)
