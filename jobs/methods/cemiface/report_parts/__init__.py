"""CemiFace's own parts of the report."""
