"""The stage train-recognition."""
