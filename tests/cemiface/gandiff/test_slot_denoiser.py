"""The embedded base: what its condition changes, and its file."""

from __future__ import annotations

import hashlib

import pytest
import torch

from cemiface.diffusion.config import DiffusionConfig
from cemiface.diffusion.schedule import Schedule
from cemiface.errors import ModelError
from cemiface.gandiff.base import SlotBase
from cemiface.gandiff.personal.config import LoraConfig, PersonalConfig, adapter_numbers
from cemiface.gandiff.personal.tuning import new_adapters
from cemiface.gandiff.slot_denoiser import SlotDenoiser, base_bytes, dropped, load_base, load_initial_base
from cemiface.gandiff.slots import DEFAULT_SLOTS, SlotDenoiserConfig, base_config_of, slot_denoiser_cost

SMALL = SlotDenoiserConfig(
    image_size=16,
    channels=32,
    multipliers=(1, 2),
    attention_levels=(1,),
    head_channels=32,
    skip_downsample_level=None,
    slot_width=8,
    slots=DEFAULT_SLOTS[1:4],
)


def trained(config: SlotDenoiserConfig = SMALL) -> SlotDenoiser:
    """A base whose zero-initialized layers have weights."""
    torch.manual_seed(0)
    denoiser = SlotDenoiser(config)
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return denoiser.eval().requires_grad_(False)


def noisy(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(1, 3, 16, 16, generator=draw).expand(count, -1, -1, -1), torch.full((count,), 500)


def test_every_slot_and_the_identity_change_the_prediction_and_nothing_else_of_the_batch():
    denoiser = trained()
    x, t = noisy(5)
    slots = denoiser.condition.nothing_stated(5).clone()
    for number in range(3):
        slots[number + 1, number] = 0
    identity = denoiser.condition.anybody.expand(5, -1).clone()
    identity[4] += 1
    output = denoiser(x, t, slots, identity)
    assert all(not torch.allclose(output[0], output[row], atol=1e-4) for row in range(1, 5))
    alone = denoiser(x[:1], t[:1], slots[2:3], None)
    torch.testing.assert_close(alone[0], output[2], atol=1e-5, rtol=1e-5)


def test_without_an_identity_the_face_is_anybody():
    denoiser = trained()
    x, t = noisy(2)
    slots = denoiser.condition.nothing_stated(2)
    anybody = denoiser.condition.anybody.expand(2, -1)
    assert torch.equal(denoiser(x, t, slots, None), denoiser(x, t, slots, anybody))


def test_slots_are_dropped_each_by_itself_and_all_together():
    slots, nothing = torch.zeros(4, 2, dtype=torch.long), torch.full((4, 2), 9)
    uniform = torch.tensor([[0.05, 0.5, 0.9], [0.5, 0.05, 0.9], [0.5, 0.5, 0.15], [0.5, 0.5, 0.9]])
    found = dropped(slots, nothing=nothing, uniform=uniform, each=0.1, all_of_them=0.2)
    assert found.tolist() == [[9, 0], [0, 9], [9, 9], [0, 0]]


@pytest.mark.parametrize("preset", ["tiny32", "small64", "paper112"])
def test_the_cost_of_a_config_is_that_of_the_base_built(preset, mac_count):
    config = SlotDenoiserConfig.named(preset)
    with torch.device("meta"):
        denoiser = SlotDenoiser(config)
        x = torch.empty(1, 3, config.image_size, config.image_size)
        inputs = (x, torch.zeros(1, dtype=torch.long), torch.zeros(1, len(config.slots), dtype=torch.long), None)
    cost = slot_denoiser_cost(config)
    assert (cost.parameters, cost.adapter_parameters) == denoiser.parameter_counts()
    macs = mac_count(denoiser, *inputs)
    assert cost.macs == macs["Conv2d"] + macs["Linear"] + macs["Attention"]


def test_a_base_comes_back_from_its_file(tmp_path):
    denoiser, path = trained(), tmp_path / "base.safetensors"
    data = base_bytes(denoiser, diffusion=DiffusionConfig(prediction="velocity"))
    assert (
        hashlib.sha256(data).digest()
        == hashlib.sha256(base_bytes(denoiser, diffusion=DiffusionConfig(prediction="velocity"))).digest()
    )
    path.write_bytes(data)
    loaded, diffusion = load_base(path)
    x, t = noisy(1)
    slots = torch.zeros(1, 3, dtype=torch.long)
    assert torch.equal(loaded(x, t, slots, None), denoiser(x, t, slots, None))
    assert diffusion.prediction == "velocity"
    assert loaded.config.slots == SMALL.slots
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert base_config_of(path) == SMALL


def test_a_training_continues_from_a_base_of_the_same_slots_alone(tmp_path):
    path = tmp_path / "base.safetensors"
    path.write_bytes(base_bytes(trained(), diffusion=DiffusionConfig()))
    larger = SlotDenoiser(SMALL.model_copy(update={"image_size": 32}))
    load_initial_base(larger, path, diffusion=DiffusionConfig())
    assert torch.equal(larger.condition.vectors, trained().condition.vectors)
    other = SlotDenoiser(SMALL.model_copy(update={"slots": DEFAULT_SLOTS[2:5]}))
    with pytest.raises(ModelError, match="trained with other slots; give both the same"):
        load_initial_base(other, path, diffusion=DiffusionConfig())
    blocks = SlotDenoiser(SMALL.model_copy(update={"patch": 2}))
    with pytest.raises(ModelError, match="trained with patch 1, here it is 2"):
        load_initial_base(blocks, path, diffusion=DiffusionConfig())
    with pytest.raises(ModelError, match="trained with prediction noise, here it is velocity"):
        load_initial_base(larger, path, diffusion=DiffusionConfig(prediction="velocity"))


def test_a_damaged_or_foreign_base_is_one_line(tmp_path):
    path = tmp_path / "base.safetensors"
    data = base_bytes(trained(), diffusion=DiffusionConfig())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        load_base(path)
    with pytest.raises(ModelError, match="not a whole base; give the file that train-base wrote"):
        base_config_of(path)
    path.write_bytes(data.replace(b'"base":', b'"bass":'))
    with pytest.raises(ModelError, match="not a base; give the file that train-base wrote"):
        load_base(path)


@pytest.mark.parametrize("layers", ["all", "attention"])
@pytest.mark.parametrize("method", ["lora", "full", "token"])
def test_the_size_of_an_adapter_is_known_without_torch(method, layers):
    config = PersonalConfig(method=method, lora=LoraConfig(rank=3, layers=layers))
    net = trained()
    base = SlotBase(net=net, schedule=Schedule(DiffusionConfig()))
    adapters = new_adapters(base, config, seeds=[1])
    counted = sum(parameter.numel() for parameter in adapters.state(0).values())
    assert adapter_numbers(config, slot_denoiser_cost(SMALL), width=SMALL.slot_width) == counted
