"""A training step and embedding of faces against straightforward implementations of the same recipe.

Both sides train the same net from the same weights with CosFace on the same number of classes, SGD with momentum and
weight decay and a clipped gradient norm; the straightforward one is plain PyTorch in the default memory format with
cross entropy on all logits and without DeepSpeed. Losses of the first steps are compared before timing.
Embedding is of image and mirror image, as in evaluation.

  python -m benchmarks.recognition --net mobilefacenet --batch 32 --classes 10000 --rounds 7
"""

from __future__ import annotations

import argparse
import copy
import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.rounds import Candidates, print_ratios, run_rounds
from cemiface.recognition.class_head import ClassHead, TrainedHead
from cemiface.recognition.config import MarginConfig, RecognitionConfig
from cemiface.recognition.nets import Embedder, build_recognition
from jobs.training.engine import start_engine
from jobs.training.world import World

RATE, MOMENTUM, DECAY, CLIP = 1e-4, 0.9, 5e-4, 5.0


class Straightforward(nn.Module):
    """CosFace as its paper defines it."""

    def __init__(self, centers: Tensor, margin: MarginConfig) -> None:
        super().__init__()
        self.weight, self.margin = nn.Parameter(centers), margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosine = F.linear(F.normalize(embeddings), F.normalize(self.weight)).clamp(-1, 1)
        hot = torch.zeros_like(cosine).scatter_(1, labels[:, None], self.margin.margin)
        return F.cross_entropy((cosine - hot) * self.margin.scale, labels)


def training(net: nn.Module, *, x: Tensor, labels: Tensor, classes: int, embedding: int) -> Candidates:
    """A training step of each side; every call updates the weights of its side."""
    margin = MarginConfig()
    plain = copy.deepcopy(net).train()
    head = ClassHead(classes, embedding, margin, seed=0)
    other = Straightforward(head.weight.detach().clone(), margin)
    parameters = [*plain.parameters(), *other.parameters()]
    plain_optimizer = torch.optim.SGD(parameters, lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)

    def straightforward() -> float:
        loss = other(plain(x), labels)
        plain_optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), CLIP)
        plain_optimizer.step()
        return loss.item()

    world = World(rank=0, size=1, device=torch.device("cpu"))
    net = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    engine = start_engine(net, optimizer=optimizer, batch=len(x), gradient_clipping=CLIP, world=world)
    net.to(memory_format=torch.channels_last)
    trained = TrainedHead(head, learning_rate=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    engine.train()

    def ours() -> float:
        found = head(engine(x.contiguous(memory_format=torch.channels_last)), labels)
        engine.backward(found.loss)
        engine.step()
        trained.step(learning_rate=RATE)
        return found.loss.item()

    for _ in range(3):
        one, two = ours(), straightforward()
        assert abs(one - two) < 1e-3 * two, f"losses differ: {one} and {two}"
    return {"ours": ours, "straightforward": straightforward}


def embedding(net: nn.Module, *, x: Tensor, config: RecognitionConfig) -> Candidates:
    net = net.eval()
    embedder = Embedder(net, config)

    def straightforward() -> Tensor:
        with torch.no_grad():
            return net(x) + net(x.flip(3))

    def ours() -> Tensor:
        with torch.inference_mode():
            return embedder(x) + embedder(x.flip(3))

    assert F.cosine_similarity(ours(), straightforward()).min() > 0.9999, "embeddings differ"
    return {"ours": ours, "straightforward": straightforward}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="mobilefacenet", help="ir18, ir50, irse50, mobilefacenet (default), ir_tiny")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--classes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7, help="runs of each, interleaved (default: 7)")
    options = parser.parse_args()
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "DS_ACCELERATOR": "cpu"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    torch.manual_seed(0)
    config = RecognitionConfig(net=options.net, image_size=options.size)
    net = build_recognition(config)
    x = torch.rand(options.batch, 3, options.size, options.size) * 2 - 1
    labels = torch.randint(options.classes, (options.batch,))
    print(f"{options.net} at {options.size} px, batch {options.batch}, {options.classes} classes, fp32, one thread")
    print("training step:")
    steps = training(net, x=x, labels=labels, classes=options.classes, embedding=config.embedding)
    print_ratios(run_rounds(steps, rounds=options.rounds), ours="ours", work=options.batch, unit="images")
    print("embedding with mirror image:")
    runs = embedding(net, x=x, config=config)
    print_ratios(run_rounds(runs, rounds=options.rounds), ours="ours", work=options.batch, unit="images")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
