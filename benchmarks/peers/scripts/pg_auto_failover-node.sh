# Make one node and hand it to systemd. Arguments: name, address, the monitor's address, data directory.
export PGDATA=$4
pg_autoctl=$(command -v pg_autoctl || echo /usr/lib/postgresql/17/bin/pg_autoctl)
as_postgres() { runuser -u postgres -- env PATH="/usr/lib/postgresql/17/bin:$PATH" PGDATA="$PGDATA" "$@"; }

as_postgres "$pg_autoctl" create postgres --auth trust --ssl-self-signed --pg-hba-lan \
  --username app --dbname app --name "$1" --hostname "$2" \
  --monitor "postgres://autoctl_node@$3:5432/pg_auto_failover?sslmode=require"
as_postgres "$pg_autoctl" -q show systemd --pgdata "$PGDATA" > /etc/systemd/system/pgautofailover.service
systemctl daemon-reload
systemctl enable --quiet --now pgautofailover
