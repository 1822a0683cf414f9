"""The contracts: stage, method, run, rank, unit of work, records, and the config file."""
