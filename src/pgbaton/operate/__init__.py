"""Operate a running cluster: switchover, failover, restart, reinit; each with its pre- and postconditions."""
