"""The style-based GAN: layers against formulas, what the nets' outputs depend on, and the generator's file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from cemiface.errors import ModelError
from cemiface.gandiff.gan.config import GAN_PRESETS, GanConfig
from cemiface.gandiff.gan.cost import gan_parameters
from cemiface.gandiff.gan.generator import generator_bytes, latent, load_generator, truncated
from cemiface.gandiff.gan.layers import EqualConv, EqualLinear, StyledConv, blur, doubled
from cemiface.gandiff.gan.nets import Critic, Generator

TINY = GanConfig.named("tiny32")


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(1)
    return Generator(TINY)


@pytest.mark.parametrize("layer", [EqualLinear(400, 64), EqualLinear(400, 64, rate=0.01), EqualConv(400, 64)])
def test_layers_of_any_width_keep_the_variance_with_weights_of_variance_one(layer: torch.nn.Module) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 400, *((6, 6) if isinstance(layer, EqualConv) else ()))
    weight = layer.weight * (layer.rate if isinstance(layer, EqualLinear) else 1)
    assert weight.std().item() == pytest.approx(1, rel=0.05)
    out = layer(x)[..., 1:-1, 1:-1] if isinstance(layer, EqualConv) else layer(x)
    assert out.std().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("demodulate", [True, False])
def test_a_styled_convolution_is_a_convolution_of_its_own_per_image(demodulate: bool) -> None:
    torch.manual_seed(2)
    layer = StyledConv(6, 5, w_width=7, demodulate=demodulate).double()
    torch.nn.init.normal_(layer.bias)
    x, w = torch.randn(3, 6, 9, 9).double(), torch.randn(3, 7).double()
    found = layer(x, w)
    for image in range(3):
        style = w[image] @ layer.style.weight.T / 7**0.5 + layer.style.bias
        weight = layer.weight / (6 * 9) ** 0.5 * style[None, :, None, None]  # equation 1 of StyleGAN2
        if demodulate:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()  # equation 3
        expected = F.conv2d(x[image : image + 1], weight, layer.bias, padding=1)
        torch.testing.assert_close(found[image : image + 1], expected)


def test_doubling_interpolates_linearly() -> None:
    x = torch.randn(2, 3, 5, 4)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(doubled(x), expected)


def test_blur_keeps_what_is_flat_and_removes_patterns_of_two_pixels() -> None:
    flat, rows = torch.full((1, 1, 8, 8), 3.0), torch.arange(8) % 2 * 2.0 - 1
    torch.testing.assert_close(blur(flat), flat)
    stripes, checks = rows.expand(1, 1, 8, 8), (rows[:, None] * rows)[None, None]
    for pattern in (stripes, stripes.mT, checks):
        assert blur(pattern.contiguous())[..., 1:-1, 1:-1].abs().max() == 0


def _nyquist_share(images: torch.Tensor) -> float:
    """The power of stripes and checks of two pixels, relative to the mean power of the neighboring frequencies."""
    power = torch.fft.fft2(images * torch.hann_window(images.shape[-1]).outer(torch.hann_window(images.shape[-1])))
    power = power.abs().square().mean((0, 1))
    half = images.shape[-1] // 2
    places = [(half, half), (0, half), (half, 0)]
    near = [
        power[(a + i) % (2 * half), (b + j) % (2 * half)]
        for a, b in places
        for i in (-4, 0, 4)
        for j in (-4, 0, 4)
        if i or j
    ]
    at = sum(power[a, b] for a, b in places) / 3
    return float(at / torch.stack(near).mean())


def test_untrained_generators_draw_no_checkerboard() -> None:
    """Depth to space alone has tens of times the power of its neighborhood at these frequencies."""
    z = torch.randn(8, TINY.z_width, generator=torch.Generator().manual_seed(3))
    shares, without_blur = [], []
    for seed in range(4):
        torch.manual_seed(seed)
        generator = Generator(TINY)
        with torch.no_grad():
            shares.append(_nyquist_share(generator(z)))
            h = generator.constant.expand(8, -1, -1, -1)
            w = generator.mapping(z)
            for number, block in enumerate(generator.blocks):
                h, _ = block(h, w)
                h = doubled(h) if number + 1 < len(generator.blocks) else h
            without_blur.append(_nyquist_share(F.pixel_shuffle(generator.spread(h, w), 2)))
    assert max(shares) < 2
    assert min(without_blur) > 4 * max(shares)


def test_an_image_does_not_depend_on_the_others_of_its_batch(generator: Generator) -> None:
    z = torch.randn(5, TINY.z_width)
    critic = Critic(TINY)
    with torch.no_grad():
        together = generator(z)
        for row in range(5):
            torch.testing.assert_close(generator(z[row : row + 1])[0], together[row])
        torch.testing.assert_close(critic(together)[2:3], critic(together[2:3]))


@pytest.mark.parametrize("name", GAN_PRESETS)
def test_parameters_are_counted_without_building_the_nets(name: str) -> None:
    config = GanConfig.named(name)
    with torch.device("meta"):
        built = Generator(config), Critic(config)
    counts = tuple(sum(parameter.numel() for parameter in net.parameters()) for net in built)
    assert gan_parameters(config) == counts


@pytest.mark.parametrize("size", [8, 12, 16, 48, 112])
def test_nets_of_many_sizes_fit_together(size: int) -> None:
    config = GanConfig.named("tiny32", image_size=size)
    images = Generator(config)(torch.randn(2, config.z_width))
    assert images.shape == (2, 3, size, size)
    assert Critic(config)(images).shape == (2,)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"image_size": 18}, "image_size"),
        ({"image_size": 4}, "image_size"),
        ({"image_size": 2**20}, "image_size"),
        ({"channels": 6}, "channels"),
        ({"most_channels": 4}, "most_channels"),
        ({"preset": "huge"}, "preset"),
    ],
)
def test_impossible_configs_are_refused_by_field(fields: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError, match=f"{field}: got"):
        GanConfig.model_validate({"preset": "tiny32", **fields})


def test_the_mean_of_w_is_that_of_many_latents(generator: Generator) -> None:
    generator.set_w_mean()
    with torch.no_grad():
        w = generator.mapping(torch.randn(20_000, TINY.z_width))
    torch.testing.assert_close(generator.w_mean, w.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(truncated(w, generator.w_mean, 1.0), w)
    assert torch.equal(truncated(w[:1], generator.w_mean, 0.0)[0], generator.w_mean)


def test_a_latent_depends_on_its_seed_alone() -> None:
    assert torch.equal(latent(5, 32), latent(5, 32))
    assert not torch.equal(latent(5, 32), latent(6, 32))


def test_a_generator_comes_back_from_its_file(generator: Generator, tmp_path: Path) -> None:
    generator.set_w_mean()
    path = tmp_path / "generator.safetensors"
    path.write_bytes(generator_bytes(generator, lineage="[]"))
    found = load_generator(path)
    w = generator.mapping(torch.randn(2, TINY.z_width))
    assert torch.equal(found.synthesis(w), generator.synthesis(w))
    assert torch.equal(found.w_mean, generator.w_mean)
    assert (found.image_size, found.z_width, found.w_width) == (32, 32, 32)


def test_files_that_are_no_generator_are_refused_in_one_line(generator: Generator, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    endless = GanConfig.named("tiny32").model_dump_json().replace('"mapping_layers":2', '"mapping_layers":1000000000')
    assert "1000000000" in endless
    wide = GanConfig.named("tiny32", most_channels=8000, channels=8000).model_dump_json()
    others = [{"architecture": "stylegan9"}, *({"architecture": "gandiff", "config": c} for c in ("{}", endless, wide))]
    for metadata in (None, *others):
        save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
        with pytest.raises(ModelError, match=r"weights .*other\.safetensors: ") as caught:
            load_generator(path)
        assert "\n" not in str(caught.value)
