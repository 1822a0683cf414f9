"""Small Stable Diffusion folders with random weights, in the layouts of 1.5, 2.1 (velocity) and XL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

Layout = Literal["1.5", "2.1", "xl"]

WORDS = ("person", "photo", "woman", "man", "face", "hat", "smiling", "left", "a", "of", "with")
START, END = "<|startoftext|>", "<|endoftext|>"

UNET: dict[Layout, dict[str, Any]] = {
    "1.5": {"attention_head_dim": 2, "cross_attention_dim": 16},
    "2.1": {"attention_head_dim": (2, 4), "cross_attention_dim": 16, "use_linear_projection": True},
    "xl": {
        "attention_head_dim": (2, 4),
        "cross_attention_dim": 40,
        "use_linear_projection": True,
        "transformer_layers_per_block": (1, 2),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 12,
    },
}


def write_folder(path: Path, layout: Layout = "1.5", *, seed: int = 0, words: Sequence[str] = WORDS) -> Path:
    """A folder as diffusers saves it; images of 32 px, latents of 16. The seeds of torch are left as they were.

    `words` are those of one token; others are spelled, so long prompts need theirs here.
    """
    import diffusers  # here, because it takes seconds, and modules of tests are imported together
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = diffusers.UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            norm_num_groups=8,
            **UNET[layout],
        )
        vae = diffusers.AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=8,
            sample_size=32,
            force_upcast=layout == "xl",
        )
        unet.save_pretrained(path / "unet")
        vae.save_pretrained(path / "vae")
        _text_encoder(transformers.CLIPTextModel, width=16, words=words).save_pretrained(path / "text_encoder")
        if layout == "xl":
            second = _text_encoder(transformers.CLIPTextModelWithProjection, width=24, words=words)
            second.save_pretrained(path / "text_encoder_2")
    _write_tokenizer(path / "tokenizer", padding=END if layout != "2.1" else "!", words=words)
    if layout == "xl":
        _write_tokenizer(path / "tokenizer_2", padding="!", words=words)
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction" if layout == "2.1" else "epsilon",
        clip_sample=False,
        set_alpha_to_one=False,
    )
    scheduler.save_pretrained(path / "scheduler")
    (path / "model_index.json").write_text(json.dumps(_index(layout)))
    return path


def _text_encoder(kind: Any, *, width: int, words: Sequence[str]) -> Any:
    import transformers  # see above

    config = transformers.CLIPTextConfig(
        vocab_size=len(_vocabulary(words)[0]),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=12,
        bos_token_id=len(_vocabulary(words)[0]) - 2,
        eos_token_id=2,  # as in the published folders: the end is found at the largest id
    )
    return kind(config)


def _vocabulary(words: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Bytes as CLIP writes them, each also as the end of a word, and merges that make the words."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in plain] + [chr(256 + number) for number in range(256 - len(plain))]
    tokens = letters + [f"{letter}</w>" for letter in letters]
    merges = []
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges += [f"{parts[0]} {parts[1]}"] if f"{parts[0]} {parts[1]}" not in merges else []
            parts = [parts[0] + parts[1], *parts[2:]]
        tokens += [token for token in (merge.replace(" ", "") for merge in merges) if token not in tokens]
    tokens += [START, END]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}, merges


def _write_tokenizer(path: Path, *, padding: str, words: Sequence[str]) -> None:
    vocabulary, merges = _vocabulary(words)
    path.mkdir(parents=True)
    (path / "vocab.json").write_text(json.dumps(vocabulary))
    (path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": padding}
    (path / "special_tokens_map.json").write_text(json.dumps(special))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
    (path / "tokenizer_config.json").write_text(json.dumps(config))


def _index(layout: Layout) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "_class_name": "StableDiffusionXLPipeline" if layout == "xl" else "StableDiffusionPipeline",
        "_diffusers_version": "0.30.0",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    if layout == "xl":
        second = {
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
        }
        return {**parts, **second, "force_zeros_for_empty_prompt": True}
    return {**parts, "safety_checker": [None, None], "feature_extractor": [None, None]}
