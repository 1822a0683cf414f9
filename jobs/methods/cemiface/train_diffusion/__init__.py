"""The stage train-diffusion."""
