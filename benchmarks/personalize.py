"""CPU time of personalizing identities in one batch against one by one, by the size of each identity's batch.

Both do the same steps on the same samples; the largest difference of their adapters shows that it is the same work.

    python -m benchmarks.personalize --preset tiny32 --identities 4 --batches 1 2 4 8
"""

from __future__ import annotations

import argparse
import time

import torch

from cemiface.diffusion.config import DiffusionConfig
from cemiface.diffusion.schedule import Schedule
from cemiface.gandiff.base import SlotBase
from cemiface.gandiff.personal.config import LoraConfig, PersonalConfig
from cemiface.gandiff.personal.tuning import Learned, Person, Pictures, tune
from cemiface.gandiff.slot_denoiser import SlotDenoiser
from cemiface.gandiff.slots import SlotDenoiserConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny32")
    parser.add_argument("--identities", type=int, default=4)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", choices=("all", "attention"), default="all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = new_base(options.preset)
    people = [person(number, size=base.shape[-1]) for number in range(options.identities)]
    for batch in options.batches:
        lora = LoraConfig(layers=options.layers)
        config = PersonalConfig(lora=lora, steps=options.steps, batch=batch, held_out=0, learning_rate=1e-4)
        tune(base, people[:1], config)  # warm
        ratios = []
        for _ in range(options.rounds):
            started = time.process_time()
            alone = [tune(base, [one], config)[0] for one in people]
            middle = time.process_time()
            together = tune(base, people, config)
            ratios.append((time.process_time() - middle) / (middle - started))
            each = (middle - started) / len(people) / options.steps
        found = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(
            f"{options.preset} batch {batch}: {1000 * each:.0f} ms per step one by one; in one batch of "
            f"{len(people)} identities {found} of the CPU time; largest difference {difference(alone, together):.1e}",
            flush=True,
        )


def new_base(preset: str) -> SlotBase:
    """A base of random weights, none of them zero."""
    torch.manual_seed(0)
    net = SlotDenoiser(SlotDenoiserConfig.named(preset)).eval()
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    net.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return SlotBase(net=net, schedule=Schedule(DiffusionConfig(prediction="velocity")))


def person(number: int, *, size: int) -> Person:
    """Eight random portraits."""
    draw = torch.Generator().manual_seed(number)
    images = torch.rand(8, 3, size, size, generator=draw) * 2 - 1
    training = Pictures(images=images, asked=[{"gender": "female", "yaw": "frontal"}] * 8)
    return Person(name=f"{number:06d}", training=training, held_out=None, class_pictures=None, seed=number)


def difference(alone: list[Learned], together: list[Learned]) -> float:
    """The largest difference of a number of the adapters."""
    return max(
        float((one.tensors[name] - other.tensors[name]).abs().max())
        for one, other in zip(alone, together, strict=True)
        for name in one.tensors
    )


if __name__ == "__main__":
    main()
