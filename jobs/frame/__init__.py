"""The contracts: stage, method, run, rank, unit, records, and the config file."""
