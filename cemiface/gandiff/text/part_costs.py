"""Parameters and multiply-accumulates of Stable Diffusion's U-Net and VAE, from their configs, without torch.

Multiply-accumulates are those of convolutions, projections and attention; biases, norms and activations are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from cemiface.gandiff.text.parts import UNetPart, VaePart


@dataclass(kw_only=True)
class PartCost:
    """Of one image through one net.

    Attributes:
        conv_rank, attention_rank: numbers that a branch of rank 1 has on all convolutions, and on all projections of
            attention.
    """

    parameters: int = 0
    macs: int = 0
    conv_rank: int = 0
    attention_rank: int = 0

    def conv(self, inputs: int, outputs: int, *, kernel: int, size: int) -> None:
        """A convolution whose output is size x size."""
        self.parameters += inputs * outputs * kernel**2 + outputs
        self.macs += inputs * outputs * kernel**2 * size**2
        self.conv_rank += inputs * kernel**2 + outputs

    def linear(self, inputs: int, outputs: int, *, vectors: int = 1) -> None:
        """A linear layer on some vectors."""
        self.parameters += inputs * outputs + outputs
        self.macs += inputs * outputs * vectors

    def projection(self, inputs: int, outputs: int, *, vectors: int, bias: bool = False) -> None:
        """A projection of attention."""
        self.linear(inputs, outputs, vectors=vectors)
        self.parameters -= (not bias) * outputs
        self.attention_rank += inputs + outputs

    def residual(self, inputs: int, outputs: int, *, size: int, time: int | None) -> None:
        """ResnetBlock2D; `time` is the width of the time embedding, if there is one."""
        self.parameters += 2 * inputs + 2 * outputs
        self.conv(inputs, outputs, kernel=3, size=size)
        self.conv(outputs, outputs, kernel=3, size=size)
        if time is not None:
            self.linear(time, outputs)
        if inputs != outputs:
            self.conv(inputs, outputs, kernel=1, size=size)

    def transformer(self, width: int, *, layers: int, size: int, condition: int, words: int, linear: bool) -> None:
        """Transformer2DModel: per layer attention to itself, to the words, and a gated feed-forward net."""
        pixels = size**2
        self.parameters += 2 * width
        for _ in range(2):  # into and out of the sequence
            if linear:
                self.linear(width, width, vectors=pixels)
            else:
                self.conv(width, width, kernel=1, size=size)
        for _ in range(layers):
            self.parameters += 3 * 2 * width
            for inputs, vectors in ((width, pixels), (condition, words)):
                self.projection(width, width, vectors=pixels)
                self.projection(inputs, width, vectors=vectors)
                self.projection(inputs, width, vectors=vectors)
                self.macs += 2 * pixels * vectors * width
                self.projection(width, width, vectors=pixels, bias=True)
            self.linear(width, 8 * width, vectors=pixels)
            self.linear(4 * width, width, vectors=pixels)

    def middle_of_vae(self, width: int, *, size: int) -> None:
        """Two residual blocks around an attention of one head."""
        self.residual(width, width, size=size, time=None)
        self.parameters += 2 * width
        for _ in range(4):
            self.linear(width, width, vectors=size**2)
        self.macs += 2 * size**4 * width
        self.residual(width, width, size=size, time=None)


def unet_cost(unet: UNetPart, *, size: int, words: int = 77) -> PartCost:
    """Of one evaluation for a latent of size x size. 859.5 M parameters for Stable Diffusion 1.5."""
    cost, channels = PartCost(), unet.block_out_channels
    time = 4 * channels[0]
    cost.linear(channels[0], time)
    cost.linear(time, time)
    if unet.addition_embed_type:
        cost.linear(unet.projection_class_embeddings_input_dim or 0, time)
        cost.linear(time, time)

    def attend(level: int) -> None:
        layers, linear, condition = unet.transformers[level], unet.use_linear_projection, unet.cross_attention_dim
        cost.transformer(channels[level], layers=layers, size=size, condition=condition, words=words, linear=linear)

    cost.conv(unet.in_channels, channels[0], kernel=3, size=size)
    width, skips, last = channels[0], [channels[0]], len(channels) - 1
    for level, down in enumerate(unet.down_block_types):
        for _ in range(unet.layers_per_block):
            cost.residual(width, channels[level], size=size, time=time)
            width = channels[level]
            if down.startswith("CrossAttn"):
                attend(level)
            skips.append(width)
        if level < last:
            size = (size + 1) // 2
            cost.conv(width, width, kernel=3, size=size)
            skips.append(width)
    cost.residual(width, width, size=size, time=time)
    attend(last)
    cost.residual(width, width, size=size, time=time)
    for level, up in zip(reversed(range(last + 1)), unet.up_block_types, strict=True):
        for _ in range(unet.layers_per_block + 1):
            cost.residual(width + skips.pop(), channels[level], size=size, time=time)
            width = channels[level]
            if up.startswith("CrossAttn"):
                attend(level)
        if level > 0:
            size *= 2
            cost.conv(width, width, kernel=3, size=size)
    cost.parameters += 2 * width
    cost.conv(width, unet.out_channels, kernel=3, size=size)
    return cost


def vae_cost(vae: VaePart, *, size: int) -> tuple[PartCost, PartCost]:
    """Of encoding and of decoding an image of size x size."""
    encoder, decoder, channels = PartCost(), PartCost(), vae.block_out_channels
    encoder.conv(3, channels[0], kernel=3, size=size)
    width, last = channels[0], len(channels) - 1
    for level, outputs in enumerate(channels):
        for _ in range(vae.layers_per_block):
            encoder.residual(width, outputs, size=size, time=None)
            width = outputs
        if level < last:
            size //= 2
            encoder.conv(width, width, kernel=3, size=size)
    encoder.middle_of_vae(width, size=size)
    encoder.parameters += 2 * width
    encoder.conv(width, 2 * vae.latent_channels, kernel=3, size=size)
    decoder.conv(vae.latent_channels, width, kernel=3, size=size)
    decoder.middle_of_vae(width, size=size)
    for level, outputs in zip(reversed(range(last + 1)), channels[::-1], strict=True):
        for _ in range(vae.layers_per_block + 1):
            decoder.residual(width, outputs, size=size, time=None)
            width = outputs
        if level > 0:
            size *= 2
            decoder.conv(width, width, kernel=3, size=size)
    decoder.parameters += 2 * width
    decoder.conv(width, 3, kernel=3, size=size)
    return encoder, decoder
