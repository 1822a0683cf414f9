"""The project beside named peers: runnable files that print ratios. Not tests."""
