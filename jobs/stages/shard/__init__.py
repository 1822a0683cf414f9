"""The stage shard."""
