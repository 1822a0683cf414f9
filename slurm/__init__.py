"""The cluster plane: run folder, whole files, markers, checkpoints, stop flag, submission. Knows no faces, no nets."""
