"""What stages need of a generator, whatever its architecture, and its weights file."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from pydantic import ValidationError
from torch import Tensor

from cemiface.errors import ModelError
from cemiface.gandiff.gan.config import GanConfig
from cemiface.gandiff.gan.head import OWN, check_initial_gan
from cemiface.gandiff.gan.nets import Critic, Generator
from cemiface.gandiff.gan.stylegan.convert import ARCHITECTURES, build
from cemiface.weights import built, copy_weights, read_weights, weights_bytes


class StyleGenerator(Protocol):
    """A generator of faces with a latent space w that can be edited. Deterministic."""

    @property
    def image_size(self) -> int: ...
    @property
    def z_width(self) -> int: ...
    @property
    def w_width(self) -> int: ...
    @property
    def w_mean(self) -> Tensor: ...  # (w_width,)

    def mapping(self, z: Tensor) -> Tensor:
        """w (N, w_width) of normal noise z (N, z_width)."""

    def synthesis(self, w: Tensor) -> Tensor:
        """Faces (N, 3, S, S) in [-1, 1] of w (N, w_width)."""


def latent(seed: int, z_width: int) -> Tensor:
    """The noise z (z_width,) of a seed, on the CPU."""
    return torch.randn(z_width, generator=torch.Generator().manual_seed(seed))


def truncated(w: Tensor, w_mean: Tensor, psi: float) -> Tensor:
    """w moved towards the mean: 1 leaves it, 0 gives the mean face (StyleGAN, Karras et al. 2019, appendix B)."""
    return w_mean + psi * (w - w_mean)


def generator_bytes(generator: Generator, *, lineage: str = "") -> bytes:
    """A safetensors file of the suite's own generator, with its config in the metadata; `lineage`: `weights_bytes`."""
    metadata = {"architecture": OWN, "config": generator.config.model_dump_json()}
    return weights_bytes(generator, metadata=metadata, lineage=lineage)


def critic_bytes(critic: Critic, *, lineage: str = "") -> bytes:
    """A safetensors file of a critic, from which a training can continue. It saw the faces: it stays with the run."""
    return weights_bytes(critic, metadata={"config": critic.config.model_dump_json()}, lineage=lineage)


def load_initial_gan(generator: Generator, critic: Critic, *, weights: str | Path, of_critic: str | Path) -> None:
    """Load the weights of an earlier training into both nets.

    Raises:
        ModelError: a file is missing, damaged, or of a GAN of another shape.
    """
    for net, path in ((generator, weights), (critic, of_critic)):
        check_initial_gan(path, generator.config)
        copy_weights(net, read_weights(path)[0], path=path)


def load_generator(path: str | Path, *, device: torch.device | str = "cpu") -> StyleGenerator:
    """The generator of a safetensors file, frozen and in eval mode.

    Raises:
        ModelError: the file is missing, text, partly written, or no generator.
    """
    if Path(path).suffix == ".pkl":
        raise ModelError(f"weights {path}: a pickle; convert it once: cemiface import-generator {path} --to FILE")
    tensors, metadata = read_weights(path)
    architecture = metadata.get("architecture", "")
    try:
        if architecture in ARCHITECTURES:
            given = build(architecture, metadata["config"], tensors, path=path)
            return given.eval().requires_grad_(False).to(device)
        if architecture == OWN:
            config = GanConfig.model_validate_json(metadata["config"])
            own = built(lambda: Generator(config), tensors, path=path)
            return own.eval().requires_grad_(False).to(device)
    except (KeyError, ValidationError):
        pass
    raise ModelError(
        f"weights {path}: not a generator; give the file that train-gan or `cemiface import-generator` wrote"
    )
