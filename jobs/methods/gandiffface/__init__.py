"""The method GANDiffFace."""
