"""What the training stages share: process group, engine, checkpoints, metrics, and the recognition loop."""
