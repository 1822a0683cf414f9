"""Measures of whole sets of faces."""
