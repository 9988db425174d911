"""Workloads: what clients do while something breaks; adding one is a line in WORKLOADS."""
