"""The clients of what runs beside the agent: etcd, Patroni, PostgreSQL, PgBouncer, HAProxy, systemd."""
