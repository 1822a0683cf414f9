"""The stage audit."""
