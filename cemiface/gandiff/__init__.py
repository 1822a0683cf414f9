"""GANDiffFace (ICCV workshops 2023): generator, latent directions, demographic targets, prompt slots, adapters."""
