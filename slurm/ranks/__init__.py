"""What a rank does beside its work: heartbeats, stop requests, requeueing."""
