"""From a grammar and portraits to pictures by Stable Diffusion: prompts, personalization, a pack of adapters."""

from __future__ import annotations

import re
from pathlib import Path

import torch
import yaml

from cemiface.gandiff.base import Sampling, sampled
from cemiface.gandiff.personal.adapters import AdapterPack, pack_bytes
from cemiface.gandiff.personal.likeness import Likeness
from cemiface.gandiff.personal.tuning import Person, Pictures, new_adapters, tune
from cemiface.gandiff.prompts import Grammar, drawn_prompts
from cemiface.gandiff.text.phrases import negative_of, phrases_of
from cemiface.gandiff.text.text_base import load_text_base
from cemiface.gandiff.text.text_config import TEXT_PERSONAL, TextBaseConfig

from ....tiny_sd import write_folder

GRAMMAR = Path(__file__).parents[4] / "jobs" / "methods" / "gandiffface" / "grammars" / "text.yaml"


def words_of(grammar: Grammar) -> list[str]:
    phrases = [choice.phrase for values in grammar.slots.values() for choice in values.values()]
    text = " ".join([grammar.sentence, grammar.negative_text, *phrases, "person woman man elderly facing the camera"])
    return sorted(set(re.findall("[a-z]+", text)))


def person(number: int) -> Person:
    draw = torch.Generator().manual_seed(number)
    images = (torch.rand(3, 1, 1, generator=draw) + 0.1 * torch.randn(3, 3, 64, 64, generator=draw)).clamp(-1, 1)
    asked = [{"gender": "female", "age": "60+", "yaw": "frontal"}] * 3
    known = [Pictures(images=images[part], asked=asked[part]) for part in (slice(2), slice(2, 3))]
    return Person(name=f"{number:06d}", training=known[0], held_out=known[1], class_pictures=known[0], seed=number)


def embed(images: torch.Tensor) -> torch.Tensor:
    return images.mean(dim=(2, 3))


def test_pictures_of_two_identities_follow_from_the_seed(tmp_path):
    grammar = Grammar.model_validate(yaml.load(GRAMMAR.read_text(), Loader=yaml.CSafeLoader))
    folder = write_folder(tmp_path / "sd", "xl", words=words_of(grammar))
    tuning = TEXT_PERSONAL.model_copy(update={"steps": 2, "check_steps": 1, "check_images": 1})
    prompts = drawn_prompts(grammar, images=2, seed=1)
    sampling = Sampling(steps=2, guidance=5.0, negative=negative_of(grammar))

    def made() -> tuple[bytes, torch.Tensor]:
        base = load_text_base(folder, config=TextBaseConfig(), phrase=phrases_of(grammar))
        likeness = Likeness(embed, images=1, steps=2, max_copying=1.0)
        learned = tune(base, [person(1), person(2)], tuning, likeness=likeness)
        assert [line["step"] for line in learned[0].curve] == [0, 1, 2]
        path = tmp_path / "adapters-00000.safetensors"
        path.write_bytes(pack_bytes({one.name: one.tensors for one in learned}, metadata={}))
        adapters = new_adapters(base, tuning, seeds=[0])
        adapters.load(0, AdapterPack(path).read("000002"))
        asked = [{"gender": "female", "age": "60+", **prompt} for prompt in prompts]
        noise = torch.randn((2, *base.shape), generator=torch.Generator().manual_seed(4))
        with torch.inference_mode(), adapters.attached():
            pictures = sampled(base, asked, noise=noise, tokens=adapters.tokens(2), sampling=sampling)
        return path.read_bytes(), pictures

    pack, pictures = made()
    again, same = made()
    assert pack == again
    assert torch.equal(pictures, same)
    assert pictures.shape == (2, 3, 32, 32)
    assert not torch.allclose(pictures[0], pictures[1], atol=1e-2)
