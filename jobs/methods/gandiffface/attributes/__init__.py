"""The stage attributes."""
