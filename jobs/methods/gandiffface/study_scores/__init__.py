"""The stage study-scores."""
