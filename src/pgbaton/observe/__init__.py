"""See a running cluster: collect a snapshot of it, judge it, show it."""
