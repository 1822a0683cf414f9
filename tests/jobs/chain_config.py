"""A config with the stages up to generate, for tests that start nothing."""

from __future__ import annotations

CHAIN = """
name: chain
seed: 1
shard: {faces: faces}
train-embedder: {sets: [real]}
embed: {}
train-diffusion: {}
identities: {}
generate: {similarity: [0.0]}
"""
