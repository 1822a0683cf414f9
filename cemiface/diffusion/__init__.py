"""Diffusion that the methods share: U-Net, noise schedule, samplers, moving average of weights."""
