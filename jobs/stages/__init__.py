"""The stages that every method shares, one folder each."""
