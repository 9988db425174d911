"""Hosts: the one seam through which pgbaton touches the world."""
