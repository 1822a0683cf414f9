"""Launching stages on this machine or on Slurm, and the entry of each rank."""
