"""The stage study-m."""
