"""The stage evaluate."""
