"""The stage train-gan."""
