"""CemiFace (NeurIPS 2024): its stages, its parts of the report, and its `METHOD`."""
