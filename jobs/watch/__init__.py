"""How a run stands: heartbeats, states of ranks, throughput, progress."""
