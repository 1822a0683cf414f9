"""StyleGAN2 and StyleGAN3, written from the papers, and the reader of the official files."""
