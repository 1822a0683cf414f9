"""The style-based GAN: generator, critic, losses, and given StyleGAN generators."""
