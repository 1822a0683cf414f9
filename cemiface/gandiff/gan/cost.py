"""Parameters of the style-based GAN, computed from its config without torch."""

from __future__ import annotations

from itertools import pairwise

from cemiface.gandiff.gan.config import PATCH, GanConfig


def gan_parameters(config: GanConfig) -> tuple[int, int]:
    """Parameters of the generator and of the critic that `cemiface.gandiff.gan.nets` builds."""
    return _generator(config), _critic(config)


def _generator(config: GanConfig) -> int:
    sides, width = config.sides, config.channels // 4
    widths = [config.z_width, *[config.w_width] * config.mapping_layers]
    total = sum(a * b + b for a, b in pairwise(widths)) + config.width_at(sides[0]) * sides[0] ** 2
    for side, after in pairwise((*sides, sides[-1])):
        inputs, outputs = config.width_at(side), config.width_at(after)
        for a, b, kernel in ((inputs, inputs, 3), (inputs, outputs, 3), (outputs, 3, 1)):
            total += _styled(a, b, kernel=kernel, w_width=config.w_width)
    total += _styled(config.channels, width * PATCH**2, kernel=3, w_width=config.w_width)
    return total + _styled(width, 3, kernel=3, w_width=config.w_width)


def _critic(config: GanConfig) -> int:
    sides = config.sides[::-1]
    total = 9 * 3 * PATCH**2 * config.channels + config.channels
    for side, after in pairwise(sides):
        a, b = config.width_at(side), config.width_at(after)
        total += 9 * a * a + a + 9 * a * b + b + a * b
    width = config.width_at(sides[-1])
    return total + 9 * width**2 + width + width**2 * sides[-1] ** 2 + width + width + 1


def _styled(inputs: int, outputs: int, *, kernel: int, w_width: int) -> int:
    return kernel**2 * inputs * outputs + outputs + w_width * inputs + inputs
