from __future__ import annotations

import hashlib

import pytest
import torch

from cemiface.diffusion.blocks import Attention, ResidualBlock
from cemiface.diffusion.config import DiffusionConfig
from cemiface.errors import ModelError
from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.nets import build_recognition, recognition_bytes
from cemiface.semihard.config import DenoiserConfig
from cemiface.semihard.denoiser import Denoiser, denoiser_bytes, load_denoiser, load_initial_weights

SMALL = DenoiserConfig(
    image_size=16,
    channels=32,
    multipliers=(1, 2),
    attention_levels=(1,),
    head_channels=32,
    skip_downsample_level=None,
    embedding=8,
    similarity_width=8,
)


def on_meta(config: DenoiserConfig) -> Denoiser:
    with torch.device("meta"):
        return Denoiser(config)


def meta_inputs(config: DenoiserConfig) -> tuple[torch.Tensor, ...]:
    x = torch.empty(1, 3, config.image_size, config.image_size, device="meta")
    t = torch.zeros(1, dtype=torch.long, device="meta")
    return x, t, torch.empty(1, config.embedding, device="meta"), torch.empty(1, device="meta")


def trained(config: DenoiserConfig = SMALL) -> Denoiser:
    """A denoiser whose zero-initialized layers have weights."""
    torch.manual_seed(0)
    denoiser = Denoiser(config)
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return denoiser.eval()


def inputs(n: int, config: DenoiserConfig = SMALL) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(n, 3, config.image_size, config.image_size, generator=draw)
    t = torch.randint(1000, (n,), generator=draw)
    return x, t, torch.randn(n, config.embedding, generator=draw), torch.rand(n, generator=draw) * 2 - 1


def test_the_paper_network_has_its_number_of_parameters():
    denoiser, adapter = on_meta(DenoiserConfig.named("paper112")).parameter_counts()
    assert denoiser == 93_563_910
    # F1, F2 for four attention blocks of 512 channels, and the null.
    assert adapter == (512 + 512) + 4 * (1024 * 1024 + 1024) + 1024


def test_the_paper_network_attends_four_times_at_7x7():
    denoiser = on_meta(DenoiserConfig.named("paper112"))
    sizes = []
    for block in denoiser.modules():
        if isinstance(block, Attention):
            block.register_forward_hook(lambda block, _, output: sizes.append((block.heads, *output.shape[1:])))
    denoiser(*meta_inputs(denoiser.config))
    assert sizes == [(8, 512, 7, 7)] * 4


def test_the_paper_network_goes_down_to_7x7_and_its_fifth_down_block_does_not_downsample():
    denoiser = on_meta(DenoiserConfig.named("paper112"))
    sizes = []
    for level in denoiser.encoder:
        level.register_forward_hook(lambda _, __, output: sizes.append(output.shape[-1]))
    denoiser(*meta_inputs(denoiser.config))
    assert sizes == [112, 56, 56, 28, 28, 14, 14, 7, 7, 7, 7]
    downs = [block for block in denoiser.modules() if isinstance(block, ResidualBlock) and block.resample == "down"]
    assert len(downs) == 4


def test_the_paper_network_costs_38_4_gmac(mac_count):
    denoiser = on_meta(DenoiserConfig.named("paper112"))
    macs = mac_count(denoiser, *meta_inputs(denoiser.config))
    assert (macs["Conv2d"] + macs["Linear"] + macs["Attention"]) / 1e9 == pytest.approx(38.4, abs=0.05)


@pytest.mark.parametrize(("name", "millions"), [("small64", (3, 6)), ("small32", (3, 6)), ("tiny32", (1, 1.5))])
def test_the_cpu_presets_are_small_and_attend_at_8x8(name, millions):
    denoiser = on_meta(DenoiserConfig.named(name))
    sizes = []
    for block in denoiser.modules():
        if isinstance(block, Attention):
            block.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[2:])))
    assert denoiser(*meta_inputs(denoiser.config)).shape == (
        1,
        3,
        denoiser.config.image_size,
        denoiser.config.image_size,
    )
    assert set(sizes) == {(8, 8)}
    assert millions[0] < denoiser.parameter_counts()[0] / 1e6 < millions[1]


def test_seeded_weights_have_the_names_order_and_values_they_always_had():
    """Old weights load and old seeds give the same net only if none of the three changes."""
    torch.manual_seed(7)
    digest = hashlib.sha256()
    for name, tensor in Denoiser(SMALL).state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest().startswith("71634031e376365b58d66014")


def test_an_untrained_denoiser_predicts_zero():
    assert not Denoiser(SMALL)(*inputs(2)).any()


def test_the_null_condition_sees_neither_identity_nor_similarity():
    denoiser = trained()
    x, t, identity, m = inputs(3)
    null = torch.tensor([True, False, True])
    one = denoiser(x, t, identity, m, null)
    two = denoiser(x, t, -identity, m / 2, null)
    assert torch.equal(one[null], two[null])
    assert not torch.allclose(one[~null], two[~null])


@pytest.mark.parametrize("changed", ["identity", "m"])
def test_the_condition_changes_the_prediction(changed):
    denoiser = trained()
    x, t, identity, m = inputs(2)
    other = (-identity, m) if changed == "identity" else (identity, -m)
    assert not torch.allclose(denoiser(x, t, identity, m), denoiser(x, t, *other))


def test_every_parameter_has_a_gradient_with_and_without_null_rows():
    """A parameter without one would block the data-parallel all-reduce on the ranks that have it."""
    for null in (None, torch.tensor([True, False])):
        denoiser = trained()
        denoiser(*inputs(2), null).square().sum().backward()
        assert all(parameter.grad is not None for parameter in denoiser.parameters())


@pytest.mark.parametrize("scale", ["unit", "raw"])
def test_the_length_of_the_identity_counts_only_when_raw(scale):
    denoiser = trained(SMALL.model_copy(update={"identity_scale": scale}))
    x, t, identity, m = inputs(2)
    same = torch.allclose(denoiser(x, t, identity, m), denoiser(x, t, 3 * identity, m), atol=1e-5)
    assert same == (scale == "unit")


def test_an_identity_of_another_width_is_refused():
    x, t, identity, m = inputs(2)
    with pytest.raises(ModelError, match="width 5; it was built for 8"):
        Denoiser(SMALL)(x, t, identity[:, :5], m)


def test_bfloat16_autocast_stays_near_float32():
    denoiser = trained()
    args = inputs(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = denoiser(*args)
    torch.testing.assert_close(low.float(), denoiser(*args), atol=0.2, rtol=0)


def test_torch_compile_captures_the_whole_forward_pass_as_one_graph():
    """With the "aot_eager" backend: the captured graph is tested without building kernels, which takes minutes."""
    denoiser, args = trained(), (*inputs(2), torch.tensor([True, False]))
    plain = denoiser(*args)
    denoiser.compile(fullgraph=True, dynamic=False, backend="aot_eager")
    torch.testing.assert_close(denoiser(*args), plain)


def test_a_stored_denoiser_predicts_the_same(tmp_path):
    denoiser = trained()
    path = tmp_path / "denoiser.safetensors"
    path.write_bytes(denoiser_bytes(denoiser, diffusion=DiffusionConfig(timesteps=50), embedder="e" * 64))
    loaded, diffusion = load_denoiser(path)
    assert loaded.config == SMALL
    assert diffusion.timesteps == 50
    assert not loaded.training
    assert torch.equal(loaded(*inputs(2)), denoiser(*inputs(2)))


def test_a_training_starts_from_the_weights_of_an_earlier_one(tmp_path):
    path = tmp_path / "denoiser.safetensors"
    path.write_bytes(denoiser_bytes(trained(), diffusion=DiffusionConfig(), embedder="e" * 64))
    denoiser = Denoiser(SMALL)
    load_initial_weights(denoiser, path, diffusion=DiffusionConfig(), embedder="e" * 64)
    assert torch.equal(denoiser(*inputs(2)), trained()(*inputs(2)))
    load_initial_weights(denoiser, path, diffusion=DiffusionConfig(), embedder=None)  # of any E_id


def test_a_training_continues_at_another_image_size(tmp_path):
    path = tmp_path / "denoiser.safetensors"
    path.write_bytes(denoiser_bytes(trained(), diffusion=DiffusionConfig(), embedder="e" * 64))
    larger = SMALL.model_copy(update={"image_size": 24})
    denoiser = Denoiser(larger)
    load_initial_weights(denoiser, path, diffusion=DiffusionConfig(), embedder="e" * 64)
    assert denoiser.config == larger
    assert torch.equal(denoiser(*inputs(2, larger)), trained()(*inputs(2, larger)))


@pytest.mark.parametrize(
    ("shape", "diffusion", "embedder", "message"),
    [
        ({"condition_tokens": 2}, {}, "e", "condition_tokens 1, here it is 2"),
        ({"patch": 2}, {}, "e", "patch 1, here it is 2"),
        ({}, {"timesteps": 50}, "e", "timesteps 1000, here it is 50"),
        ({}, {"prediction": "velocity"}, "e", "prediction noise, here it is velocity"),
        ({}, {}, "f", "E_id of sha256 e+, here it is f+"),
    ],
)
def test_weights_of_another_shape_schedule_or_embedder_are_refused(tmp_path, shape, diffusion, embedder, message):
    path = tmp_path / "denoiser.safetensors"
    path.write_bytes(denoiser_bytes(trained(), diffusion=DiffusionConfig(), embedder="e" * 64))
    with pytest.raises(ModelError, match=f"trained with {message}; give both the same"):
        load_initial_weights(
            Denoiser(SMALL.model_copy(update=shape)),
            path,
            diffusion=DiffusionConfig(**diffusion),
            embedder=embedder * 64,
        )


def test_a_recognition_net_is_refused_as_denoiser(tmp_path):
    config = RecognitionConfig(net="ir_tiny", image_size=32, embedding=8)
    path = tmp_path / "net.safetensors"
    path.write_bytes(recognition_bytes(build_recognition(config), config))
    with pytest.raises(ModelError, match="not a denoiser"):
        load_denoiser(path)
