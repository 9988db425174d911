# Clone a standby, start and register it. Argument: the primary's address.
as_postgres() { runuser -u postgres -- "$@"; }

rm -r /var/lib/postgresql/17/main
as_postgres repmgr -f /etc/repmgr.conf -h "$1" -U repmgr -d repmgr standby clone --fast-checkpoint
pg_ctlcluster 17 main start
as_postgres repmgr -f /etc/repmgr.conf standby register
