"""The stage fingerprint."""
