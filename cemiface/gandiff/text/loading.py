"""Loading of a checked Stable Diffusion folder through diffusers and transformers, without any network."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cemiface.errors import ModelError
from cemiface.gandiff.text.model_folder import ModelFolder, weights_file
from cemiface.gandiff.text.text_config import Precision, TextBaseConfig

PRECISIONS: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# Read by the Hub's client when it is imported. Every call says local_files_only too.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The nets of a folder, frozen and in eval mode, and the tokenizers."""

    unet: nn.Module
    vae: Any
    text: tuple[nn.Module, ...]
    tokenizers: tuple[Any, ...]


def load_parts(folder: ModelFolder, config: TextBaseConfig, *, device: torch.device) -> Parts:
    """All parts on the device.

    Raises:
        ModelError: the optional packages are missing, or weights that are not finite or do not fit their config.
    """
    classes = _classes()
    dtype = _dtype(config.precision, device)
    # In half precision XL's VAE overflows, which its config says.
    vae_dtype = torch.float32 if folder.vae.force_upcast and dtype == torch.float16 else dtype
    names = [name for name in folder.variants if name.startswith("text_encoder")]
    kinds = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}
    text = tuple(_model(classes[kinds[name]], folder, name, dtype=dtype, device=device) for name in names)
    unet = _model(classes["UNet2DConditionModel"], folder, "unet", dtype=dtype, device=device)
    vae = _model(classes["AutoencoderKL"], folder, "vae", dtype=vae_dtype, device=device)
    if config.recompute:
        unet.enable_gradient_checkpointing()
    tokenizers = tuple(_tokenizer(classes["CLIPTokenizer"], folder, name) for name in names)
    return Parts(unet=unet, vae=vae, text=text, tokenizers=tokenizers)


def _classes() -> dict[str, Any]:
    os.environ.update(OFFLINE)
    try:
        # Here, because they are optional and take seconds.
        import diffusers
        import transformers
    except ImportError as error:
        raise ModelError(
            f"base: Stable Diffusion needs packages that are not installed ({error.name}); run "
            "pip install 'cemiface-batch[diffusers]', or use the embedded base"
        ) from error
    transformers.utils.logging.disable_progress_bar()
    names = ("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPTokenizer")
    return {
        "UNet2DConditionModel": diffusers.UNet2DConditionModel,
        "AutoencoderKL": diffusers.AutoencoderKL,
        **{name: getattr(transformers, name) for name in names},
    }


def _dtype(precision: Precision | None, device: torch.device) -> torch.dtype:
    if precision is not None:
        return PRECISIONS[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _model(kind: Any, folder: ModelFolder, name: str, *, dtype: torch.dtype, device: torch.device) -> Any:
    path = weights_file(folder, name)
    with _one_line(f"weights {path}"):
        model, info = kind.from_pretrained(
            str(folder.path / name),
            variant=folder.variants[name],
            use_safetensors=True,
            local_files_only=True,
            **{"dtype" if name.startswith("text") else "torch_dtype": dtype},
            output_loading_info=True,
        )
    wrong = [*info["missing_keys"], *info["mismatched_keys"], *info.get("error_msgs", ())]
    if wrong:
        raise ModelError(f"weights {path}: {len(wrong)} tensors are missing or of another shape, first {wrong[0]}")
    for tensor_name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(f"weights {path}: {tensor_name} is not finite in {dtype}; fetch it again")
    return model.to(device).eval().requires_grad_(False)


def _tokenizer(kind: Any, folder: ModelFolder, encoder: str) -> Any:
    path = folder.path / encoder.replace("text_encoder", "tokenizer")
    with _one_line(f"base {path}"):
        tokenizer = kind.from_pretrained(str(path), local_files_only=True)
    words = folder.text[int(encoder.endswith("_2"))].vocab_size
    if len(tokenizer) > words:
        raise ModelError(f"base {path}: got {len(tokenizer)} tokens; allowed: {words}, which the text encoder has")
    return tokenizer


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Within the block the libraries load; whatever they raise becomes one line, and they print no warnings."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # many kinds, for files that no longer are what was checked or do not fit together
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelError(f"{what}: cannot be loaded ({reason}); fetch the folder again") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
