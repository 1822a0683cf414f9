"""Adapters: many identities in one batch are one by one, and peft computes the same with them."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import save_file

from cemiface.errors import ModelError
from cemiface.gandiff.personal.config import LoraConfig
from cemiface.gandiff.personal.lora import (
    PEFT,
    TOKEN,
    LoraAdapters,
    clip_each,
    diffusers_names,
    lora_layers,
    peft_config,
)

from ..test_slot_denoiser import trained

RANK = LoraConfig(rank=3, alpha=6)


def adapters(net, seeds, config=RANK, *, used=True):
    """Adapters of a base whose branches have an effect."""
    made = LoraAdapters(net, config, seeds=seeds, token=net.condition.anybody)
    if used:
        for number, seed in enumerate(seeds):
            draw = torch.Generator().manual_seed(seed)
            for up in made.up:
                up.data[number] = torch.randn(up.shape[1:], generator=draw) * 0.1
            made.token.data[number] += torch.randn(made.token.shape[1], generator=draw)
    return made


def batch(count, each=2, seed=1):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count * each, 3, 16, 16, generator=draw)
    t = torch.randint(1000, (count * each,), generator=draw)
    return x, t, torch.randint(3, (count * each, 3), generator=draw)


def predicted(net, made, inputs):
    with made.attached():
        return net(*inputs, made.tokens(len(inputs[0]) // len(made)))


def test_a_new_adapter_changes_nothing():
    net, inputs = trained(), batch(2)
    assert torch.equal(predicted(net, adapters(net, [1, 2], used=False), inputs), net(*inputs, None))


def test_after_the_block_the_net_is_as_it_was():
    net, inputs = trained(), batch(1)
    before = net(*inputs, None)
    assert not torch.allclose(predicted(net, adapters(net, [1]), inputs), before, atol=1e-3)
    assert torch.equal(net(*inputs, None), before)


@pytest.mark.parametrize("layers", ["all", "attention"])
def test_identities_in_one_batch_are_those_one_by_one(layers):
    net, inputs = trained(), batch(3)
    config = RANK.model_copy(update={"layers": layers})
    together = predicted(net, adapters(net, [5, 6, 7], config), inputs)
    for number, seed in enumerate([5, 6, 7]):
        part = [tensor[2 * number : 2 * number + 2] for tensor in inputs]
        alone = predicted(net, adapters(net, [seed], config), part)
        torch.testing.assert_close(together[2 * number : 2 * number + 2], alone, atol=2e-5, rtol=1e-4)


def test_gradients_and_their_clipping_are_those_one_by_one():
    net, inputs = trained(), batch(3)
    made = adapters(net, [5, 6, 7])
    loss = predicted(net, made, inputs).square().flatten(1).sum(dim=1)
    loss[2:4] = loss[2:4] * 1000  # one identity alone is clipped hard
    loss.sum().backward()
    norms = clip_each(list(made.parameters()), largest=50.0)
    for number, seed in enumerate([5, 6, 7]):
        one = adapters(net, [seed])
        part = [tensor[2 * number : 2 * number + 2] for tensor in inputs]
        (predicted(net, one, part).square().sum() * (1000 if number == 1 else 1)).backward()
        expected = torch.nn.utils.clip_grad_norm_(one.parameters(), 50.0)
        torch.testing.assert_close(norms[number], expected, rtol=1e-4, atol=1e-5)
        for ours, theirs in zip(made.parameters(), one.parameters(), strict=True):
            scale = float(theirs.grad.abs().max())
            torch.testing.assert_close(ours.grad[number], theirs.grad[0], atol=1e-4 * scale, rtol=1e-3)


def test_an_adapter_comes_back_from_its_tensors():
    net, inputs = trained(), batch(1)
    made = adapters(net, [5, 6])
    fresh = adapters(net, [1], used=False)
    fresh.load(0, made.state(1))
    assert torch.equal(predicted(net, fresh, inputs), predicted(net, adapters(net, [6]), inputs))
    state = made.state(1)
    del state[TOKEN]
    with pytest.raises(ModelError, match="token is missing, unexpected or of another shape"):
        fresh.load(0, state)
    with pytest.raises(ModelError, match="made for another base or rank"):
        adapters(net, [1], LoraConfig(rank=4)).load(0, made.state(1))


@pytest.mark.parametrize("layers", ["all", "attention"])
def test_peft_computes_the_same_with_an_adapter(tmp_path, layers):
    import peft

    net, inputs = trained(), batch(1)
    config = RANK.model_copy(update={"layers": layers})
    made = adapters(net, [5], config)
    tensors = {name: tensor for name, tensor in made.state(0).items() if name != TOKEN}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(peft_config(config, list(made.layers))))
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(net), str(tmp_path)).eval()
    stored = peft.get_peft_model_state_dict(theirs)
    assert {name: tensor.shape for name, tensor in stored.items()} == {n: t.shape for n, t in tensors.items()}
    output = theirs(*inputs, made.tokens(2))
    torch.testing.assert_close(output, predicted(net, made, inputs), atol=2e-5, rtol=1e-4)
    assert not torch.allclose(output, net(*inputs, made.tokens(2)), atol=1e-3)


def test_the_layers_are_all_convolutions_or_those_of_attention():
    net = trained()
    every, attention = (set(lora_layers(net, LoraConfig(layers=layers))) for layers in ("all", "attention"))
    assert attention < every
    assert all("attention" in name.split(".") for name in attention)
    assert {"stem", "output", "encoder.0.block.conv_in"} <= every
    with pytest.raises(ModelError, match="the net has no such layer"):
        lora_layers(torch.nn.Linear(2, 2), LoraConfig())


def test_names_for_diffusers_have_the_prefix_of_its_unet_and_no_token():
    net = trained()
    names = diffusers_names(adapters(net, [1]).state(0))
    assert all(name.startswith("unet.") and PEFT not in name for name in names)
    assert len(names) == 2 * len(lora_layers(net, RANK))
