"""Names that are not the user's to give: managed settings, reserved users and databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Settings that have a key of their own, and that key.
INSTEAD: Mapping[str, str] = {
    "data_directory": "postgresql.data_directory",
    "listen_addresses": "hosts[…].address",
    "max_connections": "postgresql.max_connections",
    "max_replication_slots": "postgresql.max_replication_slots",
    "max_slot_wal_keep_size": "postgresql.max_slot_wal_keep_size_mb",
    "max_wal_senders": "postgresql.max_wal_senders",
    "port": "postgresql.port",
    "superuser_reserved_connections": "postgresql.reserved_connections",
    "synchronous_commit": "replication.mode",
    "synchronous_standby_names": "replication.mode and replication.count",
    "tcp_user_timeout": "timings.tcp_user_timeout",
    "wal_receiver_timeout": "timings.wal_sender_timeout",
    "wal_retrieve_retry_interval": "timings.wal_retrieve_retry_interval",
    "wal_sender_timeout": "timings.wal_sender_timeout",
}

#: Settings that postgresql.settings may not have.
MANAGED: frozenset[str] = frozenset(INSTEAD) | {
    # durability, and what an acknowledgement means
    "allow_system_table_mods",
    "data_sync_retry",
    "fsync",
    "full_page_writes",
    "ignore_checksum_failure",
    "ignore_invalid_pages",
    "restart_after_crash",
    "zero_damaged_pages",
    # replication: Patroni writes them, or all servers must agree on them through etcd
    "hot_standby",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_worker_processes",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "sync_replication_slots",
    "track_commit_timestamp",
    "wal_level",
    "wal_log_hints",
    "wal_receiver_status_interval",
    # archiving and recovery run commands: not from here
    "archive_cleanup_command",
    "archive_command",
    "archive_library",
    "archive_mode",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "restore_command",
    # who may come in, and how
    "cluster_name",
    "config_file",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "include",
    "include_dir",
    "include_if_exists",
    "password_encryption",
    "reserved_connections",
    "ssl",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_crl_dir",
    "ssl_crl_file",
    "ssl_key_file",
    "ssl_min_protocol_version",
    "ssl_passphrase_command",
    "ssl_passphrase_command_supports_reload",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
}

#: Roles of the cluster's own services, and words that pg_hba.conf or SQL take otherwise.
RESERVED_USERS: frozenset[str] = frozenset(
    {
        "all",
        "current_role",
        "current_user",
        "none",
        "patroni",
        "pgbaton",
        "pgbaton_agent",
        "pgbaton_check",
        "pgbaton_probe",
        "pgbouncer",
        "postgres",
        "public",
        "replication",
        "replicator",
        "rewind",
        "samegroup",
        "samerole",
        "session_user",
        "user",
    }
)

#: PostgreSQL's own databases, PgBouncer's console, and words of pg_hba.conf.
RESERVED_DATABASES: frozenset[str] = frozenset(
    {"all", "pgbouncer", "postgres", "replication", "samegroup", "samerole", "sameuser", "template0", "template1"}
)

#: Predefined roles that both supported versions have, but for pg_database_owner, which has no members.
PREDEFINED_ROLES: frozenset[str] = frozenset(
    {
        "pg_checkpoint",
        "pg_execute_server_program",
        "pg_monitor",
        "pg_read_all_data",
        "pg_read_all_settings",
        "pg_read_all_stats",
        "pg_read_server_files",
        "pg_signal_backend",
        "pg_stat_scan_tables",
        "pg_write_all_data",
        "pg_write_server_files",
    }
)

#: Those that reach beyond the server.
STRONG_ROLES: frozenset[str] = frozenset({"pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"})

#: Extensions of PostgreSQL and of Debian's other packages that work only when the server loaded them at its start.
PRELOADED_EXTENSIONS: frozenset[str] = frozenset(
    {"pg_cron", "pg_partman_bgw", "pg_stat_statements", "pg_wait_sampling", "pgaudit", "timescaledb"}
)
