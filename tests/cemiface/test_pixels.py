from __future__ import annotations

import numpy as np
import torch

from cemiface.pixels import to_bytes, to_unit_range


def test_every_pixel_level_survives_the_round_trip_to_a_net_input():
    images = np.arange(256, dtype=np.uint8).repeat(3).reshape(2, 8, 16, 3)
    tensor = to_unit_range(images)
    assert tensor.shape == (2, 3, 8, 16)
    assert (tensor.dtype, tensor.min(), tensor.max()) == (torch.float32, -1, 1)
    assert np.array_equal(to_bytes(tensor), images)


def test_values_outside_the_range_are_clipped_and_others_rounded_to_the_nearest_level():
    values = torch.tensor([-3.0, 3.0, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert to_bytes(values)[0, :, :, 0].tolist() == [[0, 255], [0, 1]]
