"""Benchmarks against named peers: runnable files that print ratios. They are not tests."""
