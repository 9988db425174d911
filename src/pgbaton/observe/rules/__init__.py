"""The rules: each a small function from facts to findings, in a module per part of the cluster."""
