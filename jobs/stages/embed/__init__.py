"""The stage embed."""
