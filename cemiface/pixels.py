"""Images as nets take them, float in [-1, 1], and as files hold them, uint8."""

from __future__ import annotations

import numpy as np
import torch


def to_unit_range(images: np.ndarray, *, device: torch.device | str = "cpu") -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [-1, 1], as every net here takes them."""
    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    return tensor.float().div_(127.5).sub_(1.0)


def to_bytes(images: torch.Tensor) -> np.ndarray:
    """float (N, 3, H, W) in [-1, 1] to uint8 (N, H, W, 3); rounded to the nearest level, clipped."""
    levels = images.add(1.0).mul(127.5).round().clamp(0, 255)
    array: np.ndarray = levels.byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return array
