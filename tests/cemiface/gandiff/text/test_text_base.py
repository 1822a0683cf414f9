"""Stable Diffusion as a base: what diffusers' own pipelines and peft compute, offline."""

from __future__ import annotations

import copy
import json
import shutil
import socket
import sys
from pathlib import Path

import diffusers
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from cemiface.diffusion.sampler import ddim
from cemiface.errors import ModelError
from cemiface.gandiff.base import Base, Sampling, sampled
from cemiface.gandiff.personal.config import LoraConfig, PersonalConfig
from cemiface.gandiff.personal.lora import TOKEN, LoraAdapters, diffusers_names, peft_config
from cemiface.gandiff.personal.tuning import Adapters, Person, Pictures, new_adapters, tune
from cemiface.gandiff.text.text_base import TextBase, load_text_base
from cemiface.gandiff.text.text_config import IDENTITY, PROMPT, TextBaseConfig

from ....tiny_sd import write_folder

LAYOUTS = ("1.5", "2.1", "xl")
ATTENTION = LoraConfig(rank=3, layers="attention")


def phrase(asked):
    return " ".join([f"photo of {IDENTITY} person", *asked.values()])


@pytest.fixture(scope="module", autouse=True)
def _no_network():
    def refused(*_arguments, **_more):
        raise AssertionError("no test reaches for the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refused)
        patch.setattr(socket, "getaddrinfo", refused)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("sd")
    return {layout: write_folder(root / layout, layout) for layout in LAYOUTS}


@pytest.fixture(scope="module")
def bases(folders):
    return {layout: loaded(folder) for layout, folder in folders.items()}


def loaded(folder: Path, **config) -> TextBase:
    return load_text_base(folder, config=TextBaseConfig(**config), phrase=phrase)


def pipeline(folder: Path, layout: str):
    kind = diffusers.StableDiffusionXLPipeline if layout == "xl" else diffusers.StableDiffusionPipeline
    more = {} if layout == "xl" else {"safety_checker": None, "feature_extractor": None}
    made = kind.from_pretrained(folder, local_files_only=True, **more)
    made.set_progress_bar_config(disable=True)
    # Its last step ends at no noise, as ours.
    made.scheduler = diffusers.DDIMScheduler.from_config(made.scheduler.config, set_alpha_to_one=True, steps_offset=0)
    return made


def noise(base: Base, count: int, *, seed: int = 1):
    return torch.randn((count, *base.shape), generator=torch.Generator().manual_seed(seed))


def test_a_text_base_is_a_base(bases):
    base: Base = bases["xl"]
    assert base.shape == (4, 16, 16)
    assert base.token.shape == (16 + 24,)
    assert not base.bounded
    assert not any(parameter.requires_grad for parameter in base.net.parameters())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_prompts_are_encoded_as_by_the_pipeline(bases, folders, layout):
    base, theirs = bases[layout], pipeline(folders[layout], layout)
    condition = base.condition([{"gender": "woman"}, {"hat": "with a hat, smiling 12", "view": "left"}])
    prompts = ["photo of a person woman", "photo of a person with a hat, smiling 12 left"]
    ours = base._encoded(condition, None)
    if layout == "xl":
        sequence, _, pooled, _ = theirs.encode_prompt(prompts, do_classifier_free_guidance=False)
        torch.testing.assert_close(ours.pooled, pooled, atol=1e-5, rtol=1e-5)
    else:
        sequence, _ = theirs.encode_prompt(prompts, "cpu", 1, do_classifier_free_guidance=False)
        assert ours.pooled is None
    torch.testing.assert_close(ours.sequence, sequence, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_schedule_is_the_folders(bases, folders, layout):
    expected = pipeline(folders[layout], layout).scheduler.alphas_cumprod
    torch.testing.assert_close(bases[layout].schedule.alpha_bar, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("negative", [None, "a hat"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_guided_latents_are_those_of_the_pipeline(bases, folders, layout, negative):
    base, theirs = bases[layout], pipeline(folders[layout], layout)
    start = noise(base, 2)
    condition = base.condition([{"gender": "woman"}, {"gender": "man"}])
    away = base.condition([{} if negative is None else {PROMPT: negative}] * 2)

    def predict(x, t):
        other = base.predict(x, t, away, None)
        return other + 3.0 * (base.predict(x, t, condition, None) - other)

    ours = ddim(predict, noise=start, schedule=base.schedule, steps=4, clip_x0=False)
    expected = theirs(
        ["photo of a person woman", "photo of a person man"],
        negative_prompt=None if negative is None else [negative] * 2,
        guidance_scale=3.0,
        num_inference_steps=4,
        latents=start,
        output_type="latent",
    ).images
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_and_latents_are_those_of_the_vae(bases, folders, layout):
    base, vae = bases[layout], pipeline(folders[layout], layout).vae
    images = torch.rand((3, 3, 32, 32), generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = base.encoded(images)
    torch.testing.assert_close(latents, vae.encode(images).latent_dist.mean * 0.18215, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(base.decoded(latents), vae.decode(latents / 0.18215).sample, atol=1e-5, rtol=1e-4)
    assert torch.equal(base.encoded(images[1:2]), latents[1:2])  # whatever else is in the batch
    assert base.encoded(torch.zeros(1, 3, 112, 112)).shape == (1, *base.shape)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_noise_gives_the_same_bits_whatever_was_encoded_before(bases, folders, layout):
    asked = [{"gender": "woman"}, {"gender": "man"}]
    sampling = Sampling(steps=3, guidance=3.0, negative={PROMPT: "a hat"})
    base, start = bases[layout], noise(bases[layout], 2)
    tokens = base.token + torch.randn((2, len(base.token)), generator=torch.Generator().manual_seed(3))
    first = sampled(base, asked, noise=start, tokens=tokens, sampling=sampling)
    fresh = loaded(folders[layout])
    sampled(fresh, asked[::-1], noise=noise(base, 2, seed=2), tokens=tokens, sampling=sampling)
    assert torch.equal(sampled(fresh, asked, noise=start, tokens=tokens, sampling=sampling), first)
    assert first.shape == (2, 3, 32, 32)
    assert not torch.allclose(sampled(base, asked, noise=start, tokens=None, sampling=sampling), first, atol=1e-3)


def test_a_vector_changed_in_place_is_encoded_again(bases):
    base = bases["1.5"]
    condition, tokens = base.condition([{}]), base.token[None].clone()
    x, t = noise(base, 1), torch.tensor([500])
    before = base.predict(x, t, condition, tokens)
    assert torch.equal(base.predict(x, t, condition, tokens), before)
    tokens[0, :8] += 3
    assert not torch.allclose(base.predict(x, t, condition, tokens), before, atol=1e-4)


def test_a_base_that_has_sampled_can_learn(folders):
    base = loaded(folders["1.5"])
    with torch.inference_mode():
        tokens = base.token.expand(1, -1).clone()
        sampled(base, [{}], noise=noise(base, 1), tokens=tokens, sampling=Sampling(steps=2, guidance=2.0))
        tokens[0, :8] += 3
        sampled(base, [{}], noise=noise(base, 1), tokens=tokens, sampling=Sampling(steps=2))
    adapters = LoraAdapters(base.net, ATTENTION, seeds=[0], token=base.token)
    with adapters.attached():
        base.predict(noise(base, 1), torch.tensor([500]), base.condition([{}]), None).sum().backward()
    assert all(parameter.grad is not None for parameter in adapters.up)


def pictures(number: int, count: int) -> Pictures:
    draw = torch.Generator().manual_seed(number)
    color = torch.rand(3, 1, 1, generator=draw) * 2 - 1
    images = (color + 0.1 * torch.randn(count, 3, 32, 32, generator=draw)).clamp(-1, 1)
    return Pictures(images=images, asked=[{"view": "left"} if row % 2 else {} for row in range(count)])


def person(number: int) -> Person:
    return Person(
        name=f"{number:06d}",
        training=pictures(number, 3),
        held_out=None,
        class_pictures=pictures(100, 4),
        seed=number,
    )


QUICK = PersonalConfig(lora=ATTENTION, steps=3, batch=2, learning_rate=1e-3, held_out=0, prior_weight=1.0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_text_base_learns_an_identity(bases, layout):
    base = bases[layout]
    before = {name: value.clone() for name, value in base.net.state_dict().items()}
    config = QUICK.model_copy(
        update={"steps": 30, "batch": 4, "learning_rate": 1e-2, "token_learning_rate": 1e-2, "prior_weight": 0.0}
    )
    learned = tune(base, [person(1)], config)[0]
    assert all(torch.equal(before[name], value) for name, value in base.net.state_dict().items())
    untuned = LoraAdapters(base.net, ATTENTION, seeds=[0], token=base.token)
    tuned = LoraAdapters(base.net, ATTENTION, seeds=[0], token=base.token)
    tuned.load(0, learned.tensors)
    assert _error(base, tuned) < _error(base, untuned)
    assert not torch.allclose(learned.tensors[TOKEN], base.token, atol=1e-3)


@pytest.mark.parametrize("method", ["full", "token"])
def test_all_weights_or_the_vector_alone_can_be_learned(bases, method):
    base = bases["1.5"]
    before = {name: value.clone() for name, value in base.net.state_dict().items()}
    config = QUICK.model_copy(
        update={"method": method, "steps": 30, "batch": 4, "prior_weight": 0.0, "token_learning_rate": 0.1}
    )
    learned = tune(base, [person(1)], config)[0]
    assert all(torch.equal(before[name], value) for name, value in base.net.state_dict().items())
    adapters = new_adapters(base, config, seeds=[0])
    untuned = _error(base, adapters)
    adapters.load(0, learned.tensors)
    assert _error(base, adapters) < untuned


@torch.no_grad()
def _error(base: TextBase, adapters: Adapters) -> float:
    shown = pictures(1, 3)
    latents = base.encoded(shown.images).repeat(8, 1, 1, 1)
    t = torch.randint(1000, (24,), generator=torch.Generator().manual_seed(5))
    added = noise(base, 24)
    x_t = base.schedule.add_noise(latents, added, t)
    with adapters.attached():
        output = base.predict(x_t, t, base.condition(shown.asked * 8), adapters.tokens(24))
    return float((output - base.schedule.target(x_t, added, t)).square().mean())


@pytest.mark.parametrize("layout", ["1.5", "xl"])
def test_identities_in_one_batch_are_learned_as_alone(bases, layout):
    people = [person(1), person(2), person(3)]
    together = tune(bases[layout], people, QUICK)
    again = tune(bases[layout], people, QUICK)
    for one, found, same in zip(people, together, again, strict=True):
        alone = tune(bases[layout], [one], QUICK)[0]
        for name, tensor in alone.tensors.items():
            torch.testing.assert_close(found.tensors[name], tensor, atol=1e-4, rtol=1e-2)
            assert torch.equal(found.tensors[name], same.tensors[name])
    assert not torch.allclose(together[0].tensors[TOKEN], together[1].tensors[TOKEN])


def _used(base: TextBase, config: LoraConfig) -> LoraAdapters:
    """An adapter that has an effect."""
    made = LoraAdapters(base.net, config, seeds=[5], token=base.token)
    draw = torch.Generator().manual_seed(5)
    for up in made.up:
        up.data = torch.randn(up.shape, generator=draw) * 0.3
    return made


@pytest.mark.parametrize("alpha", [None, 6.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_peft_and_diffusers_compute_the_same_with_an_adapter(bases, folders, tmp_path, layout, alpha):
    base, theirs = bases[layout], pipeline(folders[layout], layout)
    config = ATTENTION.model_copy(update={"alpha": alpha})
    made = _used(base, config)
    x, t, condition = noise(base, 2), torch.tensor([100, 900]), base.condition([{"gender": "woman"}] * 2)
    plain = base.predict(x, t, condition, None)
    with made.attached():
        ours = base.predict(x, t, condition, None)
    assert not torch.allclose(ours, plain, atol=1e-2)
    state = made.state(0)
    names = [name for name, _ in base.net.named_modules()]
    assert list(made.layers) == [n for n in names if n.endswith(("to_q", "to_k", "to_v", "to_out.0"))]

    words = base._encoded(condition, None)
    extra = {"text_embeds": words.pooled, "time_ids": base._sizes(2)} if layout == "xl" else None
    inputs = {"encoder_hidden_states": words.sequence, "added_cond_kwargs": extra}
    theirs.load_lora_weights(diffusers_names(state, scale=config.scale))
    with torch.no_grad():
        torch.testing.assert_close(theirs.unet(x, t, **inputs).sample, ours, atol=2e-5, rtol=1e-4)

    save_file({n: v for n, v in state.items() if n != TOKEN}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(peft_config(config, list(made.layers))))
    by_peft = peft.PeftModel.from_pretrained(copy.deepcopy(base.net), str(tmp_path)).eval()
    with torch.no_grad():
        torch.testing.assert_close(by_peft(x, t, **inputs).sample, ours, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", ["1.5", "xl"])
def test_the_learned_vector_loads_as_textual_inversion(bases, folders, layout):
    """The pipeline with the vector as a new word computes what the base computes with the vector."""
    base, theirs = bases[layout], pipeline(folders[layout], layout)
    vector = base.token + torch.randn(len(base.token), generator=torch.Generator().manual_seed(3))
    parts = vector.split(base.text.widths)
    theirs.load_textual_inversion({"<who>": parts[0]}, token="<who>")
    if layout == "xl":
        second = {"text_encoder": theirs.text_encoder_2, "tokenizer": theirs.tokenizer_2}
        theirs.load_textual_inversion({"<who>": parts[1]}, token="<who>", **second)
    for encoder in (theirs.text_encoder, getattr(theirs, "text_encoder_2", None)):
        if encoder is not None:  # the new word has the largest id, which the published config takes for the end
            encoder.config.eos_token_id = 546
            getattr(encoder, "text_model", encoder).eos_token_id = 546
    ours = base._encoded(base.condition([{"view": "left"}]), vector[None])
    if layout == "xl":
        sequence, _, pooled, _ = theirs.encode_prompt("photo of <who> person left", do_classifier_free_guidance=False)
        torch.testing.assert_close(ours.pooled, pooled, atol=1e-5, rtol=1e-4)
    else:
        sequence, _ = theirs.encode_prompt("photo of <who> person left", "cpu", 1, do_classifier_free_guidance=False)
    torch.testing.assert_close(ours.sequence, sequence, atol=1e-5, rtol=1e-4)


def test_weights_under_the_names_of_older_releases_load(folders, tmp_path):
    """Stable Diffusion 1.5 was published before the text encoder and the VAE's attention were renamed."""
    folder = Path(shutil.copytree(folders["1.5"], tmp_path / "old"))
    text = folder / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in load_file(text).items()}
    save_file({**tensors, "text_model.embeddings.position_ids": torch.arange(77)[None]}, text)
    vae, old = folder / "vae" / "diffusion_pytorch_model.safetensors", {}
    renamed = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for name, value in load_file(vae).items():
        for new, before in renamed.items():
            name = name.replace(f".{new}.", f".{before}.")
        old[name] = value
    assert any("proj_attn" in name for name in old)
    save_file(old, vae)
    base, other = loaded(folder), loaded(folders["1.5"])
    x, t, condition = noise(base, 1), torch.tensor([100]), base.condition([{}])
    assert torch.equal(base.predict(x, t, condition, None), other.predict(x, t, condition, None))
    assert torch.equal(base.decoded(x), other.decoded(x))


@pytest.mark.parametrize("layout", ["1.5", "xl"])
def test_half_precision_is_close_and_learns(bases, folders, layout):
    base = loaded(folders[layout], precision="bfloat16")
    assert next(base.net.parameters()).dtype == torch.bfloat16
    x, t = noise(base, 2), torch.tensor([100, 900])
    condition = base.condition([{}, {"view": "left"}])
    output, exact = base.predict(x, t, condition, None), bases[layout].predict(x, t, condition, None)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, exact, atol=0.05, rtol=0.05)
    learned = tune(base, [person(1), person(2)], QUICK)
    assert all(tensor.isfinite().all() for tensor in learned[0].tensors.values())
    assert any(tensor.any() for name, tensor in learned[0].tensors.items() if "lora_B" in name)


def test_recomputing_gives_the_same_gradients(bases, folders):
    base = loaded(folders["1.5"], recompute=True)
    one, two = (tune(which, [person(1), person(2)], QUICK)[1].tensors for which in (base, bases["1.5"]))
    for name, tensor in two.items():
        torch.testing.assert_close(one[name], tensor, atol=1e-6, rtol=1e-4)


def test_another_image_size_than_the_trained(folders):
    base = loaded(folders["1.5"], image_size=48)
    assert base.shape == (4, 24, 24)
    images = sampled(base, [{}], noise=noise(base, 1), tokens=None, sampling=Sampling(steps=2))
    assert images.shape == (1, 3, 48, 48)
    with pytest.raises(ModelError, match="image_size: got 50; allowed: a multiple of 4"):
        loaded(folders["1.5"], image_size=50)


def test_a_prompt_that_cannot_work_is_one_line(bases):
    base = bases["1.5"]
    base.condition([{"a": " ".join(["hat"] * 71)}])
    with pytest.raises(ModelError, match=r"prompt: got 78 tokens in .*; allowed: 77"):
        base.condition([{"a": " ".join(["hat"] * 72)}])
    with pytest.raises(ModelError, match="slot prompt: got other slots beside it"):
        base.condition([{PROMPT: "a hat", "view": "left"}])
    with pytest.raises(ModelError, match="prompt: has no place for the identity"):
        base.predict(noise(base, 1), torch.tensor([1]), base.condition([{PROMPT: "a hat"}]), base.token[None])
    nowhere = copy.copy(base)
    nowhere.phrase = lambda asked: "a photo of a woman"
    with pytest.raises(ModelError, match="prompt: got 'a photo of a woman'; allowed: one with <identity>"):
        nowhere.condition([{}])


@pytest.mark.parametrize("word", ["somebody", "é"])
def test_a_word_of_several_tokens_is_one_line(folders, word):
    with pytest.raises(ModelError, match=f"word: got '{word}', . tokens or unknown; allowed: a word of one token"):
        loaded(folders["1.5"], word=word)


def test_weights_that_do_not_fit_or_are_not_finite_are_one_line(folders, tmp_path):
    folder = Path(shutil.copytree(folders["1.5"], tmp_path / "sd"))
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "decoder.conv_in.bias": torch.full((16,), float("nan"))}, path)
    with pytest.raises(ModelError, match=r"weights .*vae.*decoder.conv_in.bias is not finite"):
        loaded(folder)
    save_file({name: tensor for name, tensor in tensors.items() if name != "decoder.conv_in.bias"}, path)
    with pytest.raises(ModelError, match=r"weights .*vae.*1 tensors are missing .*decoder.conv_in.bias"):
        loaded(folder)
    save_file({**tensors, "decoder.conv_in.bias": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match=r"weights .*vae.*") as error:
        loaded(folder)
    assert "\n" not in str(error.value)


def test_a_tokenizer_with_more_words_than_the_encoder_is_one_line(folders, tmp_path):
    folder = Path(shutil.copytree(folders["1.5"], tmp_path / "sd"))
    path = folder / "tokenizer" / "vocab.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "more</w>": 547}))
    with pytest.raises(ModelError, match=r"base .*tokenizer: got 548 tokens; allowed: 547"):
        loaded(folder)


def test_missing_packages_are_one_line(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ModelError, match=r"needs packages .*pip install 'cemiface-batch\[diffusers\]'"):
        loaded(folders["1.5"])
