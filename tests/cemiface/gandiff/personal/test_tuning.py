"""Personalization: identities learned in one batch are those learned alone, and each stops where it should."""

from __future__ import annotations

import math

import pytest
import torch

from cemiface.diffusion.config import DiffusionConfig
from cemiface.diffusion.schedule import Schedule
from cemiface.gandiff.base import Sampling, SlotBase, sampled
from cemiface.gandiff.personal.config import LoraConfig, PersonalConfig
from cemiface.gandiff.personal.likeness import Likeness, Measured
from cemiface.gandiff.personal.lora import TOKEN
from cemiface.gandiff.personal.tuning import Person, Pictures, new_adapters, tune

from ..test_slot_denoiser import trained

QUICK = PersonalConfig(lora=LoraConfig(rank=2), steps=4, batch=2, learning_rate=1e-3, held_out=0)


def base() -> SlotBase:
    return SlotBase(net=trained(), schedule=Schedule(DiffusionConfig(prediction="velocity")))


def pictures(seed: int, count: int) -> Pictures:
    draw = torch.Generator().manual_seed(seed)
    color = torch.rand(3, 1, 1, generator=draw) * 2 - 1
    images = (color + 0.1 * torch.randn(count, 3, 16, 16, generator=draw)).clamp(-1, 1)
    return Pictures(images=images, asked=[{"yaw": "left" if row % 2 else "frontal"} for row in range(count)])


def person(number: int, *, prior: bool = False) -> Person:
    return Person(
        name=f"{number:06d}",
        training=pictures(number, 3),
        held_out=pictures(number, 1),
        class_pictures=pictures(100, 4) if prior else None,
        seed=number,
    )


@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("method", ["lora", "token"])
def test_identities_in_one_batch_are_learned_as_alone(method, prior):
    config = QUICK.model_copy(update={"method": method, "prior_weight": 1.0 if prior else 0.0})
    people = [person(number, prior=prior) for number in (1, 2, 3)]
    together = tune(base(), people, config)
    for one, found in zip(people, together, strict=True):
        alone = tune(base(), [one], config)[0]
        assert found.tensors.keys() == alone.tensors.keys()
        for name, tensor in alone.tensors.items():
            torch.testing.assert_close(found.tensors[name], tensor, atol=1e-4, rtol=1e-2)
    assert not torch.allclose(together[0].tensors[TOKEN], together[1].tensors[TOKEN])


def test_the_same_identities_give_the_same_bits():
    people = [person(1), person(2)]
    one, two = tune(base(), people, QUICK), tune(base(), people, QUICK)
    assert all(torch.equal(one[1].tensors[name], two[1].tensors[name]) for name in one[1].tensors)


@pytest.mark.parametrize(("method", "rate"), [("lora", 1e-2), ("full", 1e-3), ("token", 1e-1)])
def test_learning_lowers_the_loss_and_leaves_the_base_as_it_was(method, rate):
    the_base = base()
    before = {name: value.clone() for name, value in the_base.net.state_dict().items()}
    config = QUICK.model_copy(
        update={"method": method, "steps": 40, "batch": 8, "learning_rate": rate, "token_learning_rate": rate}
    )
    learned = tune(the_base, [person(1)], config)[0]
    assert all(torch.equal(before[name], value) for name, value in the_base.net.state_dict().items())
    assert not any(parameter.requires_grad for parameter in the_base.net.parameters())
    adapters = new_adapters(the_base, config, seeds=[0])
    untuned = _error(the_base, adapters)
    adapters.load(0, learned.tensors)
    assert _error(the_base, adapters) < untuned
    assert learned.step == 40


@torch.no_grad()
def _error(the_base: SlotBase, adapters) -> float:
    images = pictures(1, 3).images.repeat(8, 1, 1, 1)
    draw = torch.Generator().manual_seed(5)
    noise, t = torch.randn(images.shape, generator=draw), torch.randint(1000, (24,), generator=draw)
    x_t = the_base.schedule.add_noise(images, noise, t)
    with adapters.attached():
        output = the_base.predict(x_t, t, the_base.condition(pictures(1, 3).asked * 8), adapters.tokens(24))
    return float((output - the_base.schedule.target(x_t, noise, t)).square().mean())


class Scripted(Likeness):
    """Measurements that are given, by person and in order."""

    def __init__(self, script: dict[str, list[tuple[float, float]]]) -> None:
        self.script = {name: iter(values) for name, values in script.items()}

    def measured(self, base, people, *, tokens):
        found = [next(self.script[person.name]) for person in people]
        return [Measured(cosine=cosine, copying=copying, copies=copying > 0.05) for cosine, copying in found]


CHECKED = QUICK.model_copy(update={"held_out": 1, "steps": 6, "check_steps": 1, "patience": 2})


def test_an_identity_that_stops_growing_is_finished_and_its_best_state_is_kept():
    people = [person(1), person(2)]
    steady = [(0.1 * step, 0.0) for step in range(7)]
    script = {"000001": [(0.1, 0.0), (0.4, 0.0), (0.3, 0.0), (0.2, 0.0)], "000002": steady}
    one, two = tune(base(), people, CHECKED, likeness=Scripted(script))
    assert one.step == 1
    assert [line["step"] for line in one.curve] == [0, 1, 2, 3]
    assert two.step == 6
    assert len(two.curve) == 7
    assert "loss" not in two.curve[0]
    assert all(math.isfinite(line["loss"]) for line in two.curve[1:])
    # The other goes on as if it had been alone from the start.
    alone = tune(base(), people[1:], CHECKED, likeness=Scripted({"000002": steady}))[0]
    for name, tensor in alone.tensors.items():
        torch.testing.assert_close(two.tensors[name], tensor, atol=1e-4, rtol=1e-2)


def test_a_state_that_copies_a_portrait_is_not_kept():
    script = {"000001": [(0.1, 0.0), (0.3, 0.01), (0.9, 0.2), (0.95, 0.3)]}
    learned = tune(base(), [person(1)], CHECKED, likeness=Scripted(script))[0]
    assert learned.step == 1
    assert learned.curve[-1]["copying"] == 0.3


def test_likeness_compares_sampled_pictures_with_the_held_out_portraits():
    the_base, people = base(), [person(1), person(2)]

    def embed(images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))

    likeness = Likeness(embed, images=2, steps=3, max_copying=0.05)
    adapters = new_adapters(the_base, QUICK, seeds=[1, 2])
    with adapters.attached():
        together = likeness.measured(the_base, people, tokens=adapters.token.detach())
        again = likeness.measured(the_base, people, tokens=adapters.token.detach())
    assert together == again
    noise = torch.randn((2, 3, 16, 16), generator=torch.Generator().manual_seed(2))
    faces = sampled(the_base, [{"yaw": "frontal"}] * 2, noise=noise, tokens=None, sampling=Sampling(steps=3)).clamp(
        -1, 1
    )
    held_out = embed(people[1].held_out.images)
    expected = torch.cosine_similarity(embed(faces), held_out).mean()
    assert together[1].cosine == pytest.approx(float(expected), abs=1e-3)


def test_guidance_moves_away_from_the_negative():
    the_base = base()
    noise = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def face(guidance: float, negative: dict[str, str] | None = None) -> torch.Tensor:
        sampling = Sampling(steps=2, guidance=guidance, negative=negative)
        return sampled(the_base, [{"yaw": "left"}], noise=noise, tokens=None, sampling=sampling)

    assert not torch.allclose(face(1.0), face(3.0), atol=1e-3)
    assert not torch.allclose(face(3.0), face(3.0, {"yaw": "right"}), atol=1e-3)
    torch.testing.assert_close(face(1.0), face(3.0, {"yaw": "left"}), atol=1e-4, rtol=1e-4)
