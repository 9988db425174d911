# Bring back a server that is down, as its operator would, and say how. Argument: the primary's address, empty
# when there is none.
data=/var/lib/postgresql/17/main
as_postgres() { runuser -u postgres -- "$@"; }

if [ -e $data/standby.signal ]; then
  pg_ctlcluster 17 main start
  echo "the standby started by hand"
elif [ -z "$1" ]; then
  pg_ctlcluster 17 main start
  as_postgres repmgr -f /etc/repmgr.conf service unpause >&2  # a switchover that was given up leaves it paused
  echo "the old primary started again by hand: there was no new one"
else
  # It crashed, and must have ended in good order before it can be rewound. repmgr and pg_rewind would see to that, but
  # look for the configuration in the data directory, where Debian does not keep it.
  as_postgres /usr/lib/postgresql/17/bin/postgres --single -D $data \
    -c config_file=/etc/postgresql/17/main/postgresql.conf template1 < /dev/null > /dev/null
  if as_postgres repmgr -f /etc/repmgr.conf node rejoin --force-rewind \
    -d "host=$1 user=repmgr dbname=repmgr connect_timeout=2" >&2; then
    echo "crash recovery and repmgr node rejoin --force-rewind by hand"
  else  # what pg_rewind needs of the WAL may be gone
    as_postgres repmgr -f /etc/repmgr.conf -h "$1" -U repmgr -d repmgr standby clone --force --fast-checkpoint >&2
    pg_ctlcluster 17 main start
    as_postgres repmgr -f /etc/repmgr.conf standby register --force >&2
    echo "cloned anew by hand, with repmgr standby clone --force: repmgr node rejoin --force-rewind failed"
  fi
fi
systemctl restart repmgrd
