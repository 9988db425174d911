"""Proof: put a running cluster through faults, measure what its clients see, and audit what it kept."""
