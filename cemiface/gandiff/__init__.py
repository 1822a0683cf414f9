"""GANDiffFace: the generator of identities and what is trained on top of it."""
