"""Everything about clusters: run folder, published files, markers, checkpoints, stop flag, Slurm jobs."""
