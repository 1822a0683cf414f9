"""The stage publish."""
