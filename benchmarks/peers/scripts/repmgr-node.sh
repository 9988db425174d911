# Prepare one machine. Arguments: name, number, address, the servers' network. The key is there already.
ssh=/var/lib/postgresql/.ssh
ssh-keygen -y -f $ssh/id_ed25519 > $ssh/authorized_keys
printf 'StrictHostKeyChecking accept-new\nConnectTimeout 5\n' > $ssh/config
chown postgres $ssh/*
systemctl start ssh

command='/usr/bin/pg_ctlcluster 17 main'
echo "postgres ALL = NOPASSWD: $command start, $command stop, $command restart, $command reload" > /etc/sudoers.d/repmgr

cat > /etc/repmgr.conf <<END
node_id=$2
node_name='$1'
conninfo='host=$3 user=repmgr dbname=repmgr connect_timeout=2'
data_directory='/var/lib/postgresql/17/main'
pg_bindir='/usr/lib/postgresql/17/bin/'
service_start_command='sudo $command start'
service_stop_command='sudo $command stop'
service_restart_command='sudo $command restart'
service_reload_command='sudo $command reload'
failover=automatic
promote_command='/usr/bin/repmgr standby promote -f /etc/repmgr.conf --log-to-file'
follow_command='/usr/bin/repmgr standby follow -f /etc/repmgr.conf --log-to-file --upstream-node-id=%n'
END

# As the manual says for Debian: the daemon is off until it is told which configuration to use.
cat > /etc/default/repmgrd <<END
REPMGRD_ENABLED=yes
REPMGRD_CONF="/etc/repmgr.conf"
REPMGRD_OPTS="--daemonize=false"
END
systemctl daemon-reload

# "manual": a failed primary that boots again must not serve its old data; its operator decides (repmgr node rejoin).
pg_createcluster 17 main --start-conf=manual -- --data-checksums > /dev/null

configuration=/etc/postgresql/17/main
echo "include 'postgresql.replication.conf'" >> $configuration/postgresql.conf
cat > $configuration/postgresql.replication.conf <<'END'
listen_addresses = '*'
max_wal_senders = 10
max_replication_slots = 10
wal_level = replica
hot_standby = on
archive_mode = on
archive_command = '/bin/true'
wal_log_hints = on
shared_preload_libraries = 'repmgr'
END
cat >> $configuration/pg_hba.conf <<END
local   replication   repmgr             trust
host    replication   repmgr    $4       trust
local   repmgr        repmgr             trust
host    repmgr        repmgr    $4       trust
host    app           app       $4       trust
END
chown postgres $configuration/postgresql.replication.conf
