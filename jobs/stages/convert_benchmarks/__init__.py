"""The stage convert-benchmarks."""
