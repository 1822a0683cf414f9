"""The denoiser against its peers: forward, training step and 20-step sampling at 112 px, in CPU seconds.

Peers: the same U-Net, written straightforwardly in the reference layout (`benchmarks/reference_denoiser.py`, whose
whole step pays two recognition forwards), and a `diffusers` UNet2DModel of nearly equal cost (per multiply-accumulate;
needs the extra `bench`). All contenders are measured in one run, interleaved: each round runs every contender once, and
a ratio is taken within its round. Printed are the median ratio and its smallest and largest; above 1, ours is cheaper.
Fractions are of the rate of a 2048 x 2048 matrix product on this machine, measured in the same rounds. Peak memory of
a step is measured in a process of its own per contender.

    python -m benchmarks.generator --threads 1 --rounds 3
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.reference_denoiser import ReferenceDenoiser
from cemiface.diffusion.config import DiffusionConfig
from cemiface.diffusion.ema import Ema
from cemiface.diffusion.sampler import ddim
from cemiface.diffusion.schedule import Schedule
from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.nets import Embedder, build_recognition
from cemiface.semihard.config import DenoiserConfig, LossConfig
from cemiface.semihard.cost import denoiser_cost
from cemiface.semihard.denoiser import Denoiser
from cemiface.semihard.losses import cemiface_loss

PARTS = ("forward", "step", "memory", "whole", "sampling")
MATMUL = 2048
DIFFUSERS_CHANNELS = (128, 128, 256, 256, 512)  # 112 to 7 px; two layers per level come nearest to the paper's cost


@dataclass(frozen=True, kw_only=True)
class Batch:
    x0: Tensor
    noise: Tensor
    t: Tensor
    m: Tensor
    identity: Tensor


def batch_of(n: int, size: int, embedding: int) -> Batch:
    draw = torch.Generator().manual_seed(0)
    return Batch(
        x0=torch.rand(n, 3, size, size, generator=draw) * 2 - 1,
        noise=torch.randn(n, 3, size, size, generator=draw),
        t=torch.randint(1000, (n,), generator=draw),
        m=torch.rand(n, generator=draw) * 2 - 1,
        identity=torch.randn(n, embedding, generator=draw),
    )


class Contender:
    """A denoiser with its optimizer, and the parts that are timed."""

    def __init__(self, net: nn.Module, *, tuned: bool) -> None:
        """`tuned`: channels-last weights and fused AdamW as in our training; else the defaults of torch."""
        self.net = net.to(memory_format=torch.channels_last) if tuned else net  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-6, fused=tuned)

    def noise(self, batch: Batch) -> Tensor:
        found: Tensor = self.net(batch.x0, batch.t, batch.identity, batch.m, None)
        return found

    @torch.no_grad()
    def forward(self, batch: Batch) -> None:
        self.noise(batch)

    def step(self, batch: Batch) -> None:
        """Forward, backward and AdamW of the denoiser alone."""
        self.optimizer.zero_grad()
        F.mse_loss(self.noise(batch), batch.noise).backward()
        self.optimizer.step()


class Diffusers(Contender):
    """Unconditional, which is less work than ours."""

    def __init__(self, size: int) -> None:
        from diffusers import UNet2DModel

        kinds = ["DownBlock2D"] * 4 + ["AttnDownBlock2D"]
        net: Any = UNet2DModel(
            sample_size=size,
            in_channels=3,
            out_channels=3,
            layers_per_block=2,
            block_out_channels=DIFFUSERS_CHANNELS,
            down_block_types=tuple(kinds),
            up_block_types=("AttnUpBlock2D", *["UpBlock2D"] * 4),
            attention_head_dim=64,
        )
        super().__init__(net, tuned=False)

    def noise(self, batch: Batch) -> Tensor:
        found: Tensor = self.net(batch.x0, batch.t).sample
        return found

    def macs(self, size: int) -> int:
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.noise(batch_of(1, size, 1))
        return int(counter.get_total_flops() // 2)


def ours(config: DenoiserConfig) -> Contender:
    return Contender(Denoiser(config), tuned=True)


def reference(config: DenoiserConfig) -> Contender:
    return Contender(ReferenceDenoiser(config), tuned=False)


def peak_of_step(make: Callable[[DenoiserConfig], Contender], config: DenoiserConfig, batch: int) -> int:
    """Peak memory of two steps, in bytes; call it in a fresh process."""
    torch.set_num_threads(1)
    contender = make(config)
    for _ in range(2):
        contender.step(batch_of(batch, config.image_size, config.embedding))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def whole_step(contender: Contender, batch: Batch, *, embedder: Embedder, schedule: Schedule, ema: Ema | None) -> None:
    """Equation 14, with E_id(x) from the store (ours, with EMA), or computed at every step (the reference)."""
    identity = batch.identity
    if ema is None:
        with torch.no_grad():
            identity = embedder(batch.x0)
    x_t = schedule.add_noise(batch.x0, batch.noise, batch.t)
    contender.optimizer.zero_grad()
    losses = cemiface_loss(
        contender.net(x_t, batch.t, identity, batch.m, None),
        noise=batch.noise,
        x_t=x_t,
        t=batch.t,
        m=batch.m,
        identity=identity,
        embedder=embedder,
        schedule=schedule,
        config=LossConfig(),
    )
    losses.total.backward()
    contender.optimizer.step()
    if ema is not None:
        ema.update(contender.net, step=10_000)


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process, all its threads."""
    started = time.process_time()
    work()
    return time.process_time() - started


def rounds_of(work: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Each piece of work once per round, after one round that is not counted."""
    for run in work.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            taken[name].append(seconds(run))
    return taken


def ratio(above: list[float], below: list[float], *, scale: float = 1.0) -> str:
    found = [a / b * scale for a, b in zip(above, below, strict=True)]
    return f"{statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--preset", default="paper112")
    parser.add_argument("--only", choices=PARTS, help="one part (default: all)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = DenoiserConfig.named(options.preset)
    batch = batch_of(options.batch, config.image_size, config.embedding)
    bench = Benchmark(config, batch=batch, rounds=options.rounds)
    for name in PARTS:
        if options.only in (None, name):
            getattr(bench, name)()


class Benchmark:
    def __init__(self, config: DenoiserConfig, *, batch: Batch, rounds: int) -> None:
        self.config, self.batch, self.rounds = config, batch, rounds
        torch.manual_seed(0)
        self.ours = ours(config)
        self.reference = reference(config)
        self.diffusers: Any = None
        try:
            self.diffusers = Diffusers(config.image_size)
        except ImportError:
            print("diffusers is not installed; pip install -e '.[bench]' for that peer")
        a, b = torch.randn(MATMUL, MATMUL), torch.randn(MATMUL, MATMUL)
        self.matmul = {"matmul": lambda: a @ b}
        self.macs = denoiser_cost(config).macs

    def _times(self, method: str) -> dict[str, list[float]]:
        contenders = {"ours": self.ours, "reference": self.reference}
        if self.diffusers is not None:
            contenders["diffusers"] = self.diffusers
        work = {name: (lambda c=c: getattr(c, method)(self.batch)) for name, c in contenders.items()}
        return rounds_of({**work, **self.matmul}, rounds=self.rounds)

    def _print(self, what: str, times: dict[str, list[float]], *, passes: int) -> None:
        print(f"{what}: ours takes {statistics.median(times['ours']):.2f} CPU seconds")
        print(f"  reference layout / ours         {ratio(times['reference'], times['ours'])}")
        if "diffusers" in times:
            share = self.macs / self.diffusers.macs(self.config.image_size)
            print(f"  diffusers / ours, per operation {ratio(times['diffusers'], times['ours'], scale=share)}")
        rate = self.macs * len(self.batch.x0) * passes / MATMUL**3
        print(f"  ours, of the matmul rate        {ratio(times['matmul'], times['ours'], scale=rate)}")

    def forward(self) -> None:
        self._print("forward", self._times("forward"), passes=1)

    def step(self) -> None:
        self._print("denoiser step (forward, backward, AdamW)", self._times("step"), passes=3)

    def memory(self) -> None:
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
            peaks = [
                fresh.apply(peak_of_step, (make, self.config, len(self.batch.x0))) / 1e9 for make in (ours, reference)
            ]
        print(f"peak memory of a step: ours {peaks[0]:.2f} GB, reference layout {peaks[1]:.2f} GB")

    def whole(self) -> None:
        """The step of equation 14 with a recognition net of the paper's size."""
        net = RecognitionConfig(
            net="ir50" if self.config.image_size == 112 else "ir18",
            embedding=self.config.embedding,
            image_size=self.config.image_size,
        )
        embedder, schedule = Embedder(build_recognition(net).eval(), net), Schedule(DiffusionConfig())
        ema = Ema(self.ours.net, decay=0.9999)
        common: dict[str, Any] = {"embedder": embedder, "schedule": schedule}
        times = rounds_of(
            {
                "part": lambda: self.ours.step(self.batch),
                "ours": lambda: whole_step(self.ours, self.batch, ema=ema, **common),
                "reference": lambda: whole_step(self.reference, self.batch, ema=None, **common),
            },
            rounds=self.rounds,
        )
        print(f"whole step: ours takes {statistics.median(times['ours']):.2f} CPU seconds")
        print(f"  whole step / its denoiser part  {ratio(times['ours'], times['part'])}")
        print(f"  reference layout / ours         {ratio(times['reference'], times['ours'])}")

    def sampling(self) -> None:
        """20 DDIM steps against 20 bare forwards of the same net."""
        schedule = Schedule(DiffusionConfig())
        one = Batch(**{name: value[:1] for name, value in vars(self.batch).items()})

        def sampled() -> None:
            ddim(
                lambda x, t: self.ours.net(x, t, one.identity, one.m, None),
                noise=one.noise,
                schedule=schedule,
                steps=20,
            )

        def bare() -> None:
            for _ in range(20):
                self.ours.forward(one)

        times = rounds_of({"sampling": sampled, "bare": bare}, rounds=self.rounds)
        print(f"sampling, one image: ours takes {statistics.median(times['sampling']):.2f} CPU seconds")
        print(f"  20 bare forwards / 20 steps     {ratio(times['bare'], times['sampling'])}")


if __name__ == "__main__":
    main()
