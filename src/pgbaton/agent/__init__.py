"""The agent: a daemon on each host of the cluster, which hears the others die and shortens what Patroni waits for.

It is shipped to the hosts by itself and runs there with nothing but Python 3.11 and its standard library, so nothing
in here imports anything of pgbaton from outside of this package but its version.
"""
