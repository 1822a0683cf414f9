"""Submitting jobs to Slurm, and asking it about them."""
