"""The stage refill."""
