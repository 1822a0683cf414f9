"""What the privacy gate needs in several stages: files as recorded, leak checks, lineage, the marks of images."""
