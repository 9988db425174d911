"""The tables of the topology file, by what they are about; :mod:`pgbaton.topology.model` puts them together."""
