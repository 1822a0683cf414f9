"""The stage study-groups."""
