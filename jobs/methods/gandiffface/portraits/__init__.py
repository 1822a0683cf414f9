"""The stage portraits."""
