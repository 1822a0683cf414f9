"""The stage train-base."""
