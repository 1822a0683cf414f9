"""A small run of the whole chain, from drawn faces to a published folder, at the smallest size of attribute nets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

PEOPLE, IMAGES, SIZE = 8, 6, 32
SLOTS = """
      - {name: gender, attribute: male, bins: {female: [null, 0.5], male: [0.5, null]}}
      - {name: light, attribute: light, bins: {dark: [null, 0.45], bright: [0.45, null]}}
"""
PROMPTS = "slots: {light: {dark: {weight: 1}, bright: {weight: 1}}}\n"
CONFIG = f"""
name: small
method: gandiffface
seed: 3
shard: {{faces: faces, image_size: 32, shard_images: 20, held_out_identities: 3}}
train-embedder:
  sets: [real]
  recognition: {{net: ir_tiny, embedding: 32, image_size: 32}}
  margin: {{kind: cosface, scale: 16, margin: 0.1}}
  epochs: 2
  batch: 8
  drop_after_epochs: [1]
  log_images: 16
embed: {{}}
train-gan:
  gan: {{preset: tiny32}}
  images: 64
  batch: 8
  checkpoint_images: 32
  log_images: 32
  frechet_images: 64
  frechet_samples: 40
candidates: {{count: 120, block: 40}}
directions: {{attributes: [light], min_correlation: 0.0, samples: 200}}
identities:
  count: 5
  target: {{gender: {{female: 0.5, male: 0.5}}}}
  min_face: 0
  max_cosine: 1.0
  max_cosine_to_real: 1.0
  if_short: less
portraits: {{count: 3, edits: {{light: 1.0}}, min_cosine: -1, identities_per_unit: 2}}
attributes: {{}}
train-base:
  denoiser:
    preset: tiny32
    slots: {SLOTS}
  diffusion: {{prediction: velocity}}
  images: 64
  batch: 8
  ema_decay: 0.9
  checkpoint_images: 32
  log_images: 32
personalize:
  identities_per_unit: 2
  identities_per_batch: 2
  tuning: {{steps: 2, batch: 2, check_steps: 1, check_images: 2, check_sampling_steps: 2, lora: {{rank: 2}}}}
generate:
  prompts: prompts.yaml
  images_per_identity: 4
  steps: 2
  min_face: 0
  cosine: [-1, 1]
  max_portrait_cosine: 1.0
  identities_per_shard: 2
train-recognition:
  recognition: {{net: ir_tiny, embedding: 32, image_size: 32}}
  margin: {{kind: cosface, scale: 16, margin: 0.1}}
  epochs: 1
  batch: 4
  drop_after_epochs: []
  log_images: 8
study-scores: {{sets: [real, portraits, synthetic, untuned], rounds: 20}}
evaluate: {{}}
fingerprint: {{}}
audit: {{false_alarms: 0.3, max_dropped_fraction: 1.0}}
refill: {{}}
settle: {{}}
publish:
  set_name: small-set
  creator: the tests
  license: LicenseRef-test
  governance:
    real_data:
      - {{name: shard.faces, basis: drawn by a program, agreement: nobody was photographed}}
    leaving_out: Nobody is in it.
    uses: Testing this suite.
    uses_not_allowed: None.
    contact: tests@example.org
    retention: Until the tests end.
report: {{title: Small run}}
"""


def draw_faces(folder: Path) -> None:
    """A smooth pattern per person, with other brightness in every image."""
    for person in range(PEOPLE):
        draw = np.random.default_rng(person)
        small = Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        pattern = np.asarray(small.resize((SIZE, SIZE)), np.float32)
        home = folder / f"person-{person}"
        home.mkdir(parents=True)
        for image in range(IMAGES):
            pixels = pattern * draw.uniform(0.4, 1.0) + draw.normal(0, 6, pattern.shape)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(home / f"{image}.png")
