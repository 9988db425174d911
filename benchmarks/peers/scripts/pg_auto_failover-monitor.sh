# Make the monitor. Argument: the address at which nodes reach it.
export PGDATA=/var/lib/postgresql/monitor
pg_autoctl=$(command -v pg_autoctl || echo /usr/lib/postgresql/17/bin/pg_autoctl)
as_postgres() { runuser -u postgres -- env PATH="/usr/lib/postgresql/17/bin:$PATH" PGDATA="$PGDATA" "$@"; }

as_postgres "$pg_autoctl" create monitor --auth trust --ssl-self-signed --hostname "$1"
as_postgres "$pg_autoctl" -q show systemd --pgdata "$PGDATA" > /etc/systemd/system/pgautofailover.service
systemctl daemon-reload
systemctl enable --quiet --now pgautofailover

for _ in $(seq 60); do
  as_postgres psql -XqAt -d pg_auto_failover -c 'SELECT 1' > /dev/null 2>&1 && exit 0
  sleep 0.5
done
echo "the monitor does not answer" >&2
exit 1
