"""The stage identities."""
