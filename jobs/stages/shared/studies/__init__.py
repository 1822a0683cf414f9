"""What the studies share: nets of one recipe trained on several groups of images, over seeds."""
