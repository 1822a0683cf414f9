"""Augmentation of a batch with equal parameters: ours against kornia's. Both draw numbers per image.

Both: square crops of 0.9 to 1 of the area anywhere in the image, enlarged to the full size; flips of every second
image; brightness, contrast, saturation and hue within 0.1; erasing 0.02 to 0.1 of every second image. They differ in
one point: ours rotates the hue in YIQ by a matrix; kornia does it in HSV, with the four color steps in random order.
Needs the extra `bench`.

  python -m benchmarks.augmentation --batch 128 --size 112 --rounds 7
"""

from __future__ import annotations

import argparse
import sys

import torch

from benchmarks.rounds import print_ratios, run_rounds
from cemiface.recognition.augment import augment
from cemiface.recognition.config import AugmentConfig
from jobs.training.recognition import draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=7, help="runs of each, interleaved (default: 7)")
    options = parser.parse_args()
    try:
        from kornia.augmentation import (
            AugmentationSequential,
            ColorJitter,
            RandomErasing,
            RandomHorizontalFlip,
            RandomResizedCrop,
        )
    except ImportError:
        sys.exit("kornia is not installed; pip install -e '.[bench]'")
    torch.set_num_threads(1)
    config = AugmentConfig()
    theirs = AugmentationSequential(
        RandomHorizontalFlip(p=0.5),
        RandomResizedCrop((options.size, options.size), scale=config.crop_area, ratio=(1.0, 1.0), p=1.0),
        ColorJitter(config.brightness, config.contrast, config.saturation, config.hue, p=1.0),
        RandomErasing(scale=config.erase_area, ratio=(0.3, 1 / 0.3), p=config.erase_probability),
        data_keys=["input"],
    )
    x = torch.rand(options.batch, 3, options.size, options.size, generator=torch.Generator().manual_seed(0))
    signed = x * 2 - 1

    def ours() -> torch.Tensor:
        uniform = draw(range(options.batch), seed=1)
        flips = (uniform[:, 0] < 0.5).tolist()  # while the batch is put together, as the loader does it
        stacked = torch.stack([one.flip(2) if flip else one for one, flip in zip(signed, flips, strict=True)])
        return augment(stacked, uniform, config=config)

    seconds = run_rounds({"ours": ours, "kornia": lambda: theirs(x)}, rounds=options.rounds)
    print(f"{options.batch} images of {options.size} px, float32, one thread")
    print_ratios(seconds, ours="ours", work=options.batch, unit="images")


if __name__ == "__main__":
    main()
