"""The parts of the report that are GANDiffFace's own."""
