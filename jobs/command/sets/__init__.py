"""Published sets: import them under a name, export them in other formats."""
