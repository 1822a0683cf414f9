"""The stage directions."""
