"""The stage study-sets."""
