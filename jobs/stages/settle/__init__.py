"""The stage settle."""
