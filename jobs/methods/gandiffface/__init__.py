"""GANDiffFace (ICCV workshops 2023): its stages, its parts of the report, and its `METHOD`."""
