"""The stage personalize."""
