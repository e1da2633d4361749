"""Comparison with reference arrays, one file a kind of fixture."""
