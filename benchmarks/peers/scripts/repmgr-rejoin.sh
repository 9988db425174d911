# Bring back a server that is down, as its operator would, and say how. Argument: the primary's address.
if [ -e /var/lib/postgresql/17/main/standby.signal ]; then
  pg_ctlcluster 17 main start
  echo "the standby started by hand"
else
  runuser -u postgres -- repmgr -f /etc/repmgr.conf node rejoin --force-rewind \
    -d "host=$1 user=repmgr dbname=repmgr connect_timeout=2" >&2
  echo "repmgr node rejoin --force-rewind by hand"
fi
systemctl restart repmgrd
