"""Status of a run: heartbeats, rank states, throughput, progress."""
