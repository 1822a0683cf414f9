"""The cost of Stable Diffusion is counted without torch, and equals what torch counts."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cemiface.gandiff.personal.config import LoraConfig, PersonalConfig
from cemiface.gandiff.personal.lora import LoraAdapters
from cemiface.gandiff.text.model_folder import check_model_folder
from cemiface.gandiff.text.part_costs import unet_cost, vae_cost
from cemiface.gandiff.text.parts import UNetPart, VaePart
from cemiface.gandiff.text.text_base import load_text_base
from cemiface.gandiff.text.text_base_cost import Plan, Rates, adapter_size, base_cost, folder_cost, gpu_hours
from cemiface.gandiff.text.text_config import TEXT_PERSONAL, TextBaseConfig

from ....tiny_sd import write_folder

# The published configs, without what changes no shape.
SD15 = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD21 = {
    **SD15,
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
XL = {
    **SD15,
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "transformer_layers_per_block": (1, 2, 10),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}


def counted(net, *inputs, **more) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*inputs, **more)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(("config", "parameters"), [(SD15, 859_520_964), (SD21, 865_910_724), (XL, 2_567_463_684)])
def test_the_u_net_of_the_published_models(config, parameters):
    import diffusers

    cost = unet_cost(UNetPart.model_validate(config), size=config["sample_size"])
    assert cost.parameters == parameters
    with torch.device("meta"):
        net = diffusers.UNet2DConditionModel(**config)
        assert sum(parameter.numel() for parameter in net.parameters()) == parameters
        size, words = config["sample_size"], torch.zeros(1, 77, config["cross_attention_dim"])
        extra = {"text_embeds": torch.zeros(1, 1280), "time_ids": torch.zeros(1, 6)}
        inputs = {"encoder_hidden_states": words, "added_cond_kwargs": extra}
        assert counted(net, torch.zeros(1, 4, size, size), torch.zeros(1), **inputs) == cost.macs


def test_the_vae_of_the_published_models():
    import diffusers

    encoder, decoder = vae_cost(VaePart.model_validate(VAE), size=512)
    with torch.device("meta"):
        net = diffusers.AutoencoderKL(**VAE)
        assert sum(parameter.numel() for parameter in net.encoder.parameters()) == encoder.parameters
        assert sum(parameter.numel() for parameter in net.decoder.parameters()) == decoder.parameters
        assert counted(net.encoder, torch.zeros(1, 3, 512, 512)) == encoder.macs
        assert counted(net.decoder, torch.zeros(1, 4, 64, 64)) == decoder.macs


@pytest.mark.parametrize("layout", ["1.5", "2.1", "xl"])
@pytest.mark.parametrize("layers", ["all", "attention"])
def test_the_size_of_an_adapter(tmp_path, layout, layers):
    folder = write_folder(tmp_path / "sd", layout)
    base = load_text_base(folder, config=TextBaseConfig(), phrase=lambda asked: "photo of <identity>")
    config = LoraConfig(rank=3, layers=layers)
    state = LoraAdapters(base.net, config, seeds=[1], token=base.token).state(0)
    found = adapter_size(
        folder_cost(check_model_folder(folder)), PersonalConfig(lora=config, held_out=0), width=len(base.token)
    )
    assert found == sum(tensor.numel() for tensor in state.values())


def test_an_adapter_of_stable_diffusion_1_5_has_0_8_million_numbers():
    cost = base_cost(UNetPart.model_validate(SD15), VaePart.model_validate(VAE), image_size=512)
    assert adapter_size(cost, TEXT_PERSONAL, width=768) == 797_184 + 768


def test_ten_thousand_identities_with_fifty_pictures_take_at_most_240_hours():
    cost = base_cost(UNetPart.model_validate(SD15), VaePart.model_validate(VAE), image_size=512)
    plan = Plan(people=10_000, pictures=50, portraits=16, tuning=TEXT_PERSONAL, steps=25, remade=0.1)
    hours = gpu_hours(cost, plan)
    # 800 steps of two samples, forward and backward; 78 TFLOP/s is a quarter of what the A100 has at most.
    learning = 10_000 * 800 * 2 * 2 * 0.8033 / (0.7 * 78.15) / 3600
    assert learning == pytest.approx(130.5, abs=0.1)
    assert learning < hours.personalize < learning + 15
    assert hours.generate == pytest.approx(550_000 * (25 * 2 * 0.8033 + 2.515) / 78.15 / 3600, rel=1e-3)
    assert hours.total <= 240
    text = "\n".join(hours.lines)
    assert "859.5 M parameters in the U-Net; at 512 px 0.803 TFLOP per evaluation" in text
    assert "10,000 identities x 800 steps x 2 samples x 2 passes x 0.803 TFLOP / 54.7 TFLOP/s = 130.5 h" in text
    assert "torch2.0.md" in hours.lines[-1]
    assert f"in all {hours.total:.0f} GPU hours" in hours.lines[-1]


def test_hours_follow_what_is_asked():
    cost = base_cost(UNetPart.model_validate(SD15), VaePart.model_validate(VAE), image_size=512)
    plan = Plan(people=100, pictures=10, portraits=16, tuning=TEXT_PERSONAL, steps=20)
    half = Rates(sampling=Rates().sampling / 2, tuning=Rates().tuning / 2)
    assert gpu_hours(cost, plan, rates=half).total == pytest.approx(2 * gpu_hours(cost, plan).total)
    unguided = Plan(people=100, pictures=10, portraits=16, tuning=TEXT_PERSONAL, steps=20, guided=False)
    assert gpu_hours(cost, unguided).generate < 0.6 * gpu_hours(cost, plan).generate
    alone = TEXT_PERSONAL.model_copy(update={"prior_weight": 0.0, "held_out": 0})
    cheaper = Plan(people=100, pictures=10, portraits=16, tuning=alone, steps=20)
    assert gpu_hours(cost, cheaper).personalize < 0.5 * gpu_hours(cost, plan).personalize


def test_what_a_plan_needs_imports_neither_torch_nor_diffusers():
    modules = ("model_folder", "text_base_cost", "text_config", "phrases")
    code = (
        f"import sys, {', '.join(f'cemiface.gandiff.text.{name}' for name in modules)}; "
        "sys.exit(str([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_a_base_is_imported_without_diffusers():
    code = "import sys, cemiface.gandiff.text.text_base; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
