"""Samplers by number of evaluations: distance to a 250-step reference, and the cosine to the inquiry face.

Takes a finished run (train-diffusion and identities), starts every sampler from the same noise, and prints for each
the root mean square distance of its pixels ([-1, 1]) to 250 steps of DDIM from the noisiest timestep, and the mean
cosine to the inquiry face at each m beside that of the reference. The reference recomputes its noise after clipping, so
that the number of steps only changes how closely the same path is followed.

    python -m benchmarks.solvers runs/demo --identities 16
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cemiface.diffusion.sampler import Predict, adams, ddim
from cemiface.diffusion.schedule import Schedule
from cemiface.semihard.denoiser import load_denoiser
from jobs.frame.experiment import load_run_folder
from jobs.methods.cemiface.identities.plan import INQUIRIES
from jobs.methods.cemiface.train_diffusion.plan import DENOISER
from jobs.stages.shared.embedding import load_embedder
from shards.embeddings.embeddings import read_embeddings

SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "ddim 20 leading, as DCFace": partial(ddim, steps=20, spacing="leading", rederive_noise=False),
    "ddim 20 leading": partial(ddim, steps=20, spacing="leading"),
    "ddim 20 trailing": partial(ddim, steps=20, spacing="trailing"),
    "ddim 10 trailing": partial(ddim, steps=10, spacing="trailing"),
    "adams 10 mixed": partial(adams, steps=10),
    "adams 8 mixed": partial(adams, steps=8),
    "adams 10 trailing": partial(adams, steps=10, spacing="trailing"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--identities", type=int, default=16)
    parser.add_argument("--m", type=float, nargs="+", default=[-1.0, -0.5, 0.0, 0.5, 1.0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = load_run_folder(options.run)
    denoiser, config = load_denoiser(run.stage_folder("train-diffusion").output(DENOISER))
    embedder, schedule = load_embedder(run), Schedule(config)
    inquiries = read_embeddings(run.stage_folder("identities").output(f"{INQUIRIES}.h5")).features
    identity = torch.from_numpy(inquiries[: options.identities])
    size = denoiser.config.image_size
    noise = torch.randn((len(identity), 3, size, size), generator=torch.Generator().manual_seed(0))

    def predict_at(m: float) -> Predict:
        column = torch.full((len(identity),), m)
        return lambda x, t: denoiser(x, t, identity, column, None)

    def sampled(sampler: Callable[..., Tensor]) -> Tensor:
        return torch.stack([sampler(predict_at(m), noise=noise, schedule=schedule) for m in options.m])

    def cosines(images: Tensor) -> list[float]:
        with torch.no_grad():
            return [float(torch.cosine_similarity(embedder(part.clamp(-1, 1)), identity).mean()) for part in images]

    reference = sampled(partial(ddim, steps=250, spacing="trailing"))
    expected = cosines(reference)
    print("mean cosine at m =", *(f"{m:7.2f}" for m in options.m))
    print(f"{'reference, 250 steps':<28}", *(f"{cosine:7.3f}" for cosine in expected))
    for name, sampler in SAMPLERS.items():
        images = sampled(sampler)
        distance = float((images - reference).square().mean().sqrt())
        print(f"{name:<28}", *(f"{cosine:7.3f}" for cosine in cosines(images)), f"  distance {distance:.4f}")


if __name__ == "__main__":
    main()
