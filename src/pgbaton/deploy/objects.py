"""What lives inside the cluster rather than on a host: Patroni's dynamic configuration, roles, databases, the lookup.

Compared with what the primary says, changed by way of the primary. Roles and databases that the topology does not name
are left alone. Passwords go to the server as SCRAM verifiers only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from pgbaton.components import patroni, postgres
from pgbaton.deploy import databases, diff, roles
from pgbaton.deploy.databases import DatabaseNow, quoted
from pgbaton.deploy.steps import Cost, Kind, Stage, Step
from pgbaton.errors import CommandError, RefusedError
from pgbaton.references import secret
from pgbaton.secrets import scram_matches
from pgbaton.topology.rules.managed import PREDEFINED_ROLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgbaton.components.postgres import DatabaseRole, DatabaseSpec, TablespaceSpec
    from pgbaton.hosts.base import Host
    from pgbaton.secrets import Vault
    from pgbaton.topology.model import Topology

PATRONICTL = ("patronictl", "-c", patroni.CONFIG)
DYNAMIC = "dynamic configuration"
PENDING = "pending restart"
TEMPLATE = "template1"
#: Databases of every server, which no topology names.
BUILT_IN = frozenset({"postgres", "template0", TEMPLATE})
BUILT_IN_ROLES = frozenset({"postgres", postgres.REPLICATION_ROLE, postgres.REWIND_ROLE})

# Arguments: port, then the databases to look at. Output: one JSON object a line, then the dynamic configuration.
LOOK = r"""
port=$1; shift
sql() { runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 -h /var/run/postgresql -p "$port" -d "$1" -f -; }
sql postgres <<'SQL' || exit 1
SELECT json_build_object(
  'roles', (SELECT json_object_agg(rolname, json_build_array(rolcanlogin, rolconnlimit, rolpassword))
            FROM pg_authid WHERE rolname !~ '^pg_'),
  'memberships', (SELECT coalesce(json_object_agg(name, joined), '{}') FROM (
                    SELECT a.rolname AS name, json_agg(DISTINCT b.rolname) AS joined FROM pg_auth_members AS m
                    JOIN pg_roles AS a ON a.oid = m.member JOIN pg_roles AS b ON b.oid = m.roleid GROUP BY 1) AS each),
  'databases', (SELECT json_object_agg(datname, json_build_array(pg_get_userbyid(datdba), datconnlimit,
                  pg_encoding_to_char(encoding), datcollate)) FROM pg_database),
  'tablespaces', (SELECT coalesce(json_object_agg(spcname,
                    json_build_array(pg_get_userbyid(spcowner), pg_tablespace_location(oid))), '{}')
                  FROM pg_tablespace WHERE spcname !~ '^pg_'),
  'restart_settings', (SELECT json_agg(name) FROM pg_settings WHERE context = 'postmaster'),
  'pending', (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings WHERE pending_restart),
  'wal_segment_size_mb', (SELECT setting::bigint / 1048576 FROM pg_settings WHERE name = 'wal_segment_size'),
  'limits', (SELECT json_object_agg(name, setting::int) FROM pg_settings WHERE name IN ('max_connections',
    'max_locks_per_transaction', 'max_prepared_transactions', 'max_wal_senders', 'max_worker_processes')));
SQL
for database in "$@"; do
  sql "$database" 2>/dev/null <<'SQL'
SELECT json_build_object('lookup', current_database(), 'mark',
  obj_description(to_regnamespace('pgbaton')::oid, 'pg_namespace'),
  'extensions', (SELECT json_agg(extname) FROM pg_extension));
SQL
done
echo '---'
[ ! -f /etc/patroni/config.yml ] || patronictl -c /etc/patroni/config.yml show-config
"""


@dataclass(frozen=True)
class Desired:
    """What the topology wants inside the cluster.

    ``limits`` are the settings that the servers' own files have where there is no dynamic configuration.
    """

    port: int
    dynamic: dict[str, Any]
    roles: tuple[DatabaseRole, ...]
    databases: tuple[DatabaseSpec, ...]
    lookup_sql: str
    tablespaces: tuple[TablespaceSpec, ...] = ()
    limits: dict[str, Any] = field(default_factory=dict)
    wal_segment_size_mb: int | None = None

    @property
    def lookup_mark(self) -> str:
        """Return what marks a database that has this lookup, as the comment of its schema."""
        return f"pgbaton lookup {hashlib.sha256(self.lookup_sql.encode()).hexdigest()[:16]}"

    @property
    def lookup_places(self) -> tuple[str, ...]:
        """Return the databases that need the lookup; template1 gives it to those made later."""
        return (TEMPLATE, "postgres", *(database.name for database in self.databases))


@dataclass(frozen=True)
class Current:
    """What the primary has. ``roles``: login, connection limit, verifier by name; ``lookups``: mark by database.

    ``memberships`` are the roles that a role is a member of, by its name; ``tablespaces``: owner and location by name.
    ``limits`` are the settings in effect that no standby may have lower than its primary.
    """

    dynamic: dict[str, Any] = field(default_factory=dict)
    roles: dict[str, tuple[bool, int, str | None]] = field(default_factory=dict)
    memberships: dict[str, tuple[str, ...]] = field(default_factory=dict)
    databases: dict[str, DatabaseNow] = field(default_factory=dict)
    lookups: dict[str, str | None] = field(default_factory=dict)
    restart_settings: frozenset[str] = frozenset()
    pending: tuple[str, ...] = ()
    limits: dict[str, int] = field(default_factory=dict)
    tablespaces: dict[str, tuple[str, str]] = field(default_factory=dict)
    wal_segment_size_mb: int | None = None


def desired(topology: Topology) -> Desired:
    """Return what a topology wants inside the cluster."""
    return Desired(
        topology.postgresql.port,
        {} if topology.is_manual else patroni.dynamic_configuration(topology),
        postgres.roles(topology),
        postgres.databases(topology),
        postgres.lookup_sql(topology),
        postgres.tablespaces(topology),
        postgres.shared_parameters(topology) if topology.is_manual else {},
        topology.postgresql.wal_segment_size_mb,
    )


async def read(host: Host, wanted: Desired) -> Current:
    """Ask the primary what it has, in one round trip; raises CommandError when it does not answer."""
    argv = ("sh", "-c", LOOK, "sh", str(wanted.port), *wanted.lookup_places)
    return parse((await host.run(*argv, timeout=60)).stdout)


def parse(output: str) -> Current:
    """Read what the LOOK script printed."""
    lines, _, configuration = output.partition("\n---\n")
    server, *lookups = [json.loads(line) for line in lines.splitlines()]
    extensions = {row["lookup"]: tuple(row["extensions"]) for row in lookups}
    return Current(
        dynamic=yaml.safe_load(configuration) or {},
        roles={name: (row[0], row[1], row[2]) for name, row in server["roles"].items()},
        memberships={name: tuple(groups) for name, groups in server["memberships"].items()},
        databases={name: database_now(row, extensions.get(name)) for name, row in server["databases"].items()},
        lookups={row["lookup"]: row["mark"] for row in lookups},
        restart_settings=frozenset(server["restart_settings"]),
        pending=tuple(server["pending"]),
        limits=server["limits"],
        tablespaces={name: (row[0], row[1]) for name, row in server["tablespaces"].items()},
        wal_segment_size_mb=server["wal_segment_size_mb"],
    )


def database_now(row: list[Any], extensions: tuple[str, ...] | None) -> DatabaseNow:
    """Read a database's row."""
    owner, limit, encoding, locale = row
    return DatabaseNow(owner, limit, encoding, locale, extensions)


def steps(wanted: Desired, current: Current | None, vault: Vault, *, standbys: bool) -> tuple[Step, ...]:
    """Return what differs; with ``current`` None (no primary yet) everything that will be wanted.

    ``standbys`` says whether a restart of the primary can be preceded by a switchover.
    """
    now = current or Current()
    found: list[Step] = []
    if current is not None:
        found += dynamic_steps(wanted, current, standbys=standbys)
    found += (step for role in wanted.roles for step in role_steps(role, now, vault))
    found += (step for each in wanted.tablespaces for step in tablespace_steps(each, now))
    found += (step for database in wanted.databases for step in database_steps(database, now))
    found += (lookup_step(wanted, place, now) for place in wanted.lookup_places if must_look_up(wanted, place, now))
    found += (step for database in wanted.databases for step in extension_steps(database, now))
    return tuple(found)


def refuse_impossible(wanted: Desired, current: Current | None) -> None:
    """Raise RefusedError when something is wanted that cannot be had, before anything is changed."""
    wrong = [*unknown_roles(wanted, current or Current())]
    if current is not None:
        there = ((each, current.databases.get(each.name)) for each in wanted.databases)
        wrong += [text for each, now in there if now for text in databases.objections(each, now)]
    if wrong:
        message = "\n  ".join(["the topology wants what cannot be had; nothing was changed:", *wrong])
        hint = "correct the topology; a role is made with CREATE ROLE, an encoding changes with a dump and a restore"
        raise RefusedError(message, hint=hint)


def unknown_roles(wanted: Desired, current: Current) -> Iterator[str]:
    """Yield the roles that somebody is to be a member of and that nobody makes."""
    known = {role.name for role in wanted.roles} | set(current.roles) | PREDEFINED_ROLES
    for role in wanted.roles:
        yield from (f"role {name}, for {role.name}, is not there" for name in role.member_of if name not in known)


def _step(subject: str, action: str, kind: Kind = Kind.DATABASE_OBJECT, **more: Any) -> Step:  # noqa: ANN401 - any field
    if more.get("before"):
        more["before_digest"] = hashlib.sha256(more["before"].encode()).hexdigest()
    return Step(kind, Stage.OBJECTS, "", "postgres", subject, action, **more)


def dynamic_steps(wanted: Desired, current: Current, *, standbys: bool) -> Iterator[Step]:
    """Yield the patch of the dynamic configuration, and the restart that an earlier one still waits for."""
    restart = Cost.SWITCHOVER if standbys else Cost.RESTART
    patch = difference(wanted.dynamic, current.dynamic)
    if patch:
        changed = frozenset(patch.get("postgresql", {}).get("parameters", {}))
        cost = restart if changed & current.restart_settings else Cost.RELOAD
        texts = {"before": show(counterpart(patch, current.dynamic)), "after": show(patch)}
        yield _step(DYNAMIC, "patch", Kind.DYNAMIC_CONFIGURATION, cost=cost, **texts)
    if current.pending:
        yield _step(PENDING, "restart", Kind.DYNAMIC_CONFIGURATION, cost=restart, after=", ".join(current.pending))


def show(patch: dict[str, Any]) -> str:
    """Return a patch as it is shown and applied: YAML, null where a key goes away."""
    return diff.mask(yaml.safe_dump(patch, sort_keys=True, default_flow_style=False))


def difference(wanted: dict[str, Any], current: dict[str, Any], *, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what to merge into ``current`` to have ``wanted``.

    Keys that are not wanted are left alone, but for PostgreSQL's parameters: those are the topology's alone.
    """
    patch: dict[str, Any] = {}
    for key, value in wanted.items():
        there = current.get(key)
        if isinstance(value, dict):
            inner = difference(value, there if isinstance(there, dict) else {}, path=(*path, key))
            patch |= {key: inner} if inner else {}
        elif plain(value) != plain(there):
            patch[key] = value
    if path == ("postgresql", "parameters"):
        patch |= dict.fromkeys(set(current) - set(wanted))
    return patch


def plain(value: object) -> str:
    """Return a setting's value in the one form in which it is compared."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return {"true": "on", "false": "off"}.get(str(value).lower(), str(value))


def counterpart(patch: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    """Return the present values of a patch's keys: the patch that takes it back."""
    values: dict[str, Any] = {}
    for key, value in patch.items():
        there = current.get(key)
        values[key] = counterpart(value, there if isinstance(there, dict) else {}) if isinstance(value, dict) else there
    return values


def lowers_limit(wanted: Desired, current: Current) -> bool:
    """Tell whether a limit goes down that no standby may have lower than its primary (PostgreSQL docs 26.4)."""
    settings = wanted.dynamic.get("postgresql", {}).get("parameters", wanted.limits)
    return any(int(settings[name]) < value for name, value in current.limits.items() if name in settings)


def role_steps(role: DatabaseRole, current: Current, vault: Vault) -> Iterator[Step]:
    """Yield what makes a role: log in, limit of connections, password, the roles it is a member of."""
    name = f"password/{role.password}"
    after = roles.described(role.connection_limit, secret(name), role.member_of)
    if role.name not in current.roles:
        yield _step(f"role {role.name}", "create", after=after)
        return
    login, limit, verifier = current.roles[role.name]
    known = verifier is not None and scram_matches(verifier, vault.value(name))
    joined = [each for each in current.memberships.get(role.name, ()) if role.only or each in role.member_of]
    if not login or limit != role.connection_limit or not known or set(joined) != set(role.member_of):
        password = secret(name) if known else diff.MASK if verifier else "none"
        before = roles.described(limit, password, joined, login=login)
        yield _step(f"role {role.name}", "change", before=before, after=after)


def database_steps(database: DatabaseSpec, current: Current) -> Iterator[Step]:
    """Yield what makes a database, its owner and its limit."""
    subject, now = f"database {database.name}", current.databases.get(database.name)
    if now is None:
        yield _step(subject, "create", after=databases.created(database))
    elif change := databases.difference(database, now):
        yield _step(subject, "change", before=change[0], after=change[1])


def extension_steps(database: DatabaseSpec, current: Current) -> Iterator[Step]:
    """Yield what makes the extensions that a database lacks."""
    for name in databases.lacking(database, current.databases.get(database.name)):
        yield _step(f"extension {name} in {database.name}", "create", after=name)


def tablespace_steps(tablespace: TablespaceSpec, current: Current) -> Iterator[Step]:
    """Yield what makes a tablespace and its owner. Where it is cannot be changed, and was refused before."""
    subject, place = f"tablespace {tablespace.name}", f"LOCATION {tablespace.location}"
    after = f"OWNER {tablespace.owner} {place}"
    owner, _ = current.tablespaces.get(tablespace.name, (None, ""))
    if owner is None:
        yield _step(subject, "create", after=after)
    elif owner != tablespace.owner:
        yield _step(subject, "change", before=f"OWNER {owner} {place}", after=after)


def must_look_up(wanted: Desired, place: str, current: Current) -> bool:
    """Tell whether a database lacks the present form of the lookup."""
    return current.lookups.get(place) != wanted.lookup_mark


def lookup_step(wanted: Desired, place: str, current: Current) -> Step:
    """Return the step that gives a database PgBouncer's lookup."""
    mark = current.lookups.get(place)
    return _step(f"lookup in {place}", "change" if mark else "create", before=mark or "", after=wanted.lookup_mark)


def unmanaged(wanted: Desired, current: Current) -> tuple[str, ...]:
    """Return notes on roles, databases and tablespaces that exist and are not in the topology."""
    strangers = set(current.roles) - {role.name for role in wanted.roles} - BUILT_IN_ROLES
    others = set(current.databases) - {database.name for database in wanted.databases} - BUILT_IN
    tablespaces = set(current.tablespaces) - {tablespace.name for tablespace in wanted.tablespaces}
    notes = {"roles": strangers, "databases": others, "tablespaces": tablespaces}
    return tuple(
        f"{what} not managed, left alone: {', '.join(sorted(names))}" for what, names in notes.items() if names
    )


async def carry_out(host: Host, wanted: Desired, todo: Iterable[Step], vault: Vault) -> None:
    """Make the primary ``host`` what the steps say; the caller has made sure that they are still right."""
    by_subject = {step.subject: step for step in todo}
    if DYNAMIC in by_subject:
        argv = (*PATRONICTL, "edit-config", "--force", "--quiet", "--apply", "-")
        await host.run(*argv, input=by_subject[DYNAMIC].after)
    sql = "".join(script(wanted, by_subject, vault))
    if sql:
        await psql(host, wanted.port, PREAMBLE + sql)


#: Statements with verifiers are not for the server's log, nor for its statistics of statements, where those are kept;
#: elsewhere a setting of that prefix is a name that means nothing.
PREAMBLE = (
    "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic';\n"
    "SET pg_stat_statements.track_utility = off;\n"
)


def script(wanted: Desired, todo: dict[str, Step], vault: Vault) -> Iterator[str]:
    """Yield the SQL for psql: roles and their memberships, tablespaces, then the template, then each database."""
    changed = [role for role in wanted.roles if f"role {role.name}" in todo]
    for role in changed:
        yield roles.role_sql(role, vault, todo[f"role {role.name}"])
    yield from map(roles.membership_sql, changed)
    for tablespace in wanted.tablespaces:
        if f"tablespace {tablespace.name}" in todo:
            yield tablespace_sql(tablespace, create=todo[f"tablespace {tablespace.name}"].action == "create")
    specs = {database.name: database for database in wanted.databases}
    for place in wanted.lookup_places:
        database = todo.get(f"database {place}")
        if database:
            made = databases.create_sql if database.action == "create" else databases.change_sql
            yield f"\\connect postgres\n{made(specs[place])}"
        if f"lookup in {place}" in todo:
            comment = f"COMMENT ON SCHEMA pgbaton IS '{wanted.lookup_mark}';\n"
            yield f"\\connect {quoted(place)}\nBEGIN;\n{wanted.lookup_sql}\n{comment}COMMIT;\n"
        missing = (
            [name for name in specs[place].extensions if f"extension {name} in {place}" in todo]
            if place in specs
            else []
        )
        if missing:
            yield f"\\connect {quoted(place)}\n{''.join(map(databases.extension_sql, missing))}"


def tablespace_sql(tablespace: TablespaceSpec, *, create: bool) -> str:
    """Return the statement that makes a tablespace, or gives it to another owner."""
    name, owner = quoted(tablespace.name), quoted(tablespace.owner)
    if not create:
        return f"ALTER TABLESPACE {name} OWNER TO {owner};\n"
    return f"CREATE TABLESPACE {name} OWNER {owner} LOCATION '{tablespace.location}';\n"


async def psql(host: Host, port: int, sql: str) -> None:
    """Run SQL as the superuser on a host's own server; it goes over standard input, and no verifier into an error."""
    options = ("-XqAt", "-v", "ON_ERROR_STOP=1", "-h", postgres.SOCKETS, "-p", str(port), "-d", "postgres", "-f", "-")
    try:
        await host.run("runuser", "-u", "postgres", "--", "psql", *options, input=sql, timeout=60)
    except CommandError as error:
        raise CommandError(diff.mask(error.message), where=host.name) from None
