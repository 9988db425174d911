# Start and register the first server.
as_postgres() { runuser -u postgres -- "$@"; }

pg_ctlcluster 17 main start
as_postgres createuser --superuser repmgr
as_postgres createdb repmgr --owner repmgr
as_postgres psql -XqAt -c 'ALTER USER repmgr SET search_path TO repmgr, "$user", public'
as_postgres createuser app
as_postgres createdb app --owner app
as_postgres repmgr -f /etc/repmgr.conf primary register
