"""Measure what the data path costs: pgbench by every way to the primary, in turn."""
