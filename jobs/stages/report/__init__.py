"""The stage report."""
