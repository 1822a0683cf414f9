"""Reading config files: YAML, base files, overrides, and refusals in one line."""
