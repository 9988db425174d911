"""Commands that give access: dsn, psql, secrets."""

from __future__ import annotations

import secrets as randomness
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from pgbaton.cli import common
from pgbaton.cli.opened import open_cluster
from pgbaton.components.postgres import SOCKETS
from pgbaton.errors import Error, MissingCapabilityError, UsageError
from pgbaton.hosts import process
from pgbaton.hosts.files import write_file
from pgbaton.observe import connections
from pgbaton.state import write_private
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pgbaton.cli.opened import Opened
    from pgbaton.hosts.base import Host
    from pgbaton.observe.connections import Endpoint

read_option = click.option("--read", is_flag=True, help="The way for reads instead of the one for writes.")
synchronous_option = click.option(
    "--synchronous", is_flag=True, help="The way for reads of synchronous standbys alone, where it has a port."
)
user_option = click.option("--user", metavar="USER", help="A user of the topology; by default the database's owner.")
database_option = click.option("--database", metavar="DATABASE", help="By default the topology's first database.")

#: The ways in, by what they are for.
TITLES = {"write": "writes", "read": "reads", "synchronous": "reads of synchronous standbys"}
#: Run psql, then take its private directory away, also when the terminal is closed. psql handles ^C itself: this shell
#: must only survive it.
PSQL_AND_CLEAN_UP = """
directory=$1
shift
trap 'rm -rf -- "$directory"' EXIT
trap : INT QUIT
trap 'exit 129' HUP
trap 'exit 143' TERM
psql "$@"
exit $?
"""


@click.command(epilog='Example: psql "$(pgbaton dsn --with-password)"')
@click.option("--uri", is_flag=True, help="Print one libpq URI and nothing else, without the password.")
@click.option("--with-password", is_flag=True, help="Print one complete libpq URI and nothing else.")
@read_option
@synchronous_option
@user_option
@database_option
@common.cluster_option
@common.output_option
def dsn(
    *,
    uri: bool,
    with_password: bool,
    read: bool,
    synchronous: bool,
    user: str | None,
    database: str | None,
    cluster: str | None,
    output: str,
) -> None:
    """Print how applications connect.

    Libpq URIs for writes and for reads, and the same in the words of the common drivers. They verify the servers'
    certificate against the cluster's authority, whose file this command writes into the cluster's state directory.
    """
    opened = open_cluster(cluster)
    authority = publish_authority(opened)
    ways = connections.endpoints(opened.topology, authority=str(authority), user=user, database=database)
    chosen = connections.way(ways, purpose_of(read=read, synchronous=synchronous))
    if uri or with_password:
        password = opened.vault.value(f"password/{password_name(chosen.user)}") if with_password else None
        common.emit(output, {"uri": chosen.uri(password)}, lambda: click.echo(chosen.uri(password)))
        return
    described = describe(opened, (chosen,) if read or synchronous else ways)
    common.emit(output, described, lambda: show_connections(described))


def purpose_of(*, read: bool, synchronous: bool) -> str:
    """Return which way in is asked for; raises UsageError for two at once."""
    if read and synchronous:
        message = "--read and --synchronous are two ways"
        raise UsageError(message, hint="choose one of them")
    return "synchronous" if synchronous else "read" if read else "write"


def password_name(user: str) -> str:
    """Return under which name a user's password is kept."""
    return f"user/{user}"


def publish_authority(opened: Opened) -> Path:
    """Write the authority's certificate into the state directory, and to the same path on a lab's application hosts.

    So that one URI is good here, in a lab's network namespace, and in its machines.
    """
    path = opened.state.directory / "ca.crt"
    certificate = opened.vault.value("ca")
    if not path.exists() or path.read_text(encoding="utf-8") != certificate:
        write_private(path, certificate)
    if opened.is_lab:
        common.run(copy_to_machines(opened, path, certificate))
    return path


async def copy_to_machines(opened: Opened, path: Path, certificate: str) -> None:
    """Write the certificate to a path on every application host of a lab; one that is off is told of."""
    for name, host in application_hosts(opened).items():
        try:
            await write_file(host, str(path), certificate)
        except Error as error:
            click.echo(f"{name}: the authority's certificate could not be written there: {error.message}", err=True)


def application_hosts(opened: Opened) -> dict[str, Host]:
    """Return the hosts that clients run on: those of the topology, and the machine that every lab has for them."""
    hosts = opened.hosts()
    outside = {name for name in hosts if not opened.topology.has_host(name)}
    return {spec.name: hosts[spec.name] for spec in opened.topology.with_role(Role.APPLICATION)} | {
        name: hosts[name] for name in sorted(outside)
    }


def describe(opened: Opened, ways: tuple[Endpoint, ...]) -> dict[str, Any]:
    """Return everything an application needs but the password, which is named."""
    return {
        "cluster": opened.topology.name,
        "user": ways[0].user,
        "database": ways[0].database,
        "sslrootcert": ways[0].authority,
        "password": f"password/{password_name(ways[0].user)}",
        **{
            way.purpose: {
                "uri": way.uri(),
                "host": way.address,
                "port": way.port,
                "drivers": {name: write(way) for name, write in connections.DRIVERS.items()},
            }
            for way in ways
        },
    }


def show_connections(described: Mapping[str, Any]) -> None:
    """Print URIs and snippets, as they are: lines to copy must not be wrapped."""
    for purpose, title in TITLES.items():
        if purpose not in described:
            continue
        way = described[purpose]
        click.secho(title, bold=True)
        click.echo(f"  {way['uri']}")
        for name, words in way["drivers"].items():
            click.echo(f"  {name}:")
            click.echo("".join(f"    {line}\n" for line in words.splitlines()), nl=False)
        click.echo()
    click.echo(f"password: pgbaton secrets show {described['password']}")
    click.echo(f"authority: {described['sslrootcert']} (copy it to the applications' hosts)")


@click.command(
    context_settings={"ignore_unknown_options": True}, epilog="Example: pgbaton psql --read -- -c 'select 1'"
)
@click.option("--host", metavar="HOST", help="As superuser in that database host's own server, past all balancers.")
@read_option
@synchronous_option
@user_option
@database_option
@common.cluster_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- PSQL-ARGUMENTS]")
def psql(
    *,
    host: str | None,
    read: bool,
    synchronous: bool,
    user: str | None,
    database: str | None,
    cluster: str | None,
    arguments: tuple[str, ...],
) -> None:
    """Open psql on the cluster, through the VIP as an application would; its exit status is passed on.

    In a lab psql runs on the application machine, else on this one.
    """
    opened = open_cluster(cluster)
    if host is not None:
        if read or synchronous or user:
            message = "--host opens a server's own socket as superuser: --read, --synchronous and --user mean nothing"
            raise UsageError(message, hint="leave --host out, or those")
        process.replace(*superuser_argv(opened, host, database or "postgres", arguments))
    ways = connections.endpoints(opened.topology, authority="", user=user, database=database)
    way = connections.way(ways, purpose_of(read=read, synchronous=synchronous))
    password = opened.vault.value(f"password/{password_name(way.user)}")
    argv = lab_argv(opened, way, password) if opened.is_lab else local_argv(opened, way, password)
    process.replace(*argv, *arguments)


def superuser_argv(opened: Opened, host: str, database: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Return psql over a server's Unix socket; raises UsageError when the host is no database host."""
    names = [spec.name for spec in opened.topology.with_role(Role.DATABASE)]
    if host not in names:
        message = f"no database host is named {host}"
        raise UsageError(message, hint=f"known: {', '.join(names)}")
    where = ("-h", SOCKETS, "-p", str(opened.topology.postgresql.port), "-d", database)
    # The superuser's own home and a directory it may read: psql looks into both.
    enter = ("runuser", "-u", "postgres", "--", "env", "--chdir=/", "HOME=/var/lib/postgresql")
    return opened.hosts()[host].local_argv((*enter, "psql", *where, *arguments), terminal=sys.stdin.isatty())


def conninfo(way: Endpoint, *, authority: str, passfile: str) -> str:
    """Return how psql connects, with the password in a file."""
    parts = {
        "host": way.address,
        "port": way.port,
        "dbname": way.database,
        "user": way.user,
        "sslmode": "verify-full",
        "sslrootcert": authority,
        "passfile": passfile,
        "connect_timeout": connections.CONNECT_TIMEOUT,
    }
    return " ".join(f"{key}='{quoted(str(value))}'" for key, value in parts.items())


def quoted(value: str) -> str:
    """Return a value as it stands between quotes in a conninfo string."""
    return value.replace("\\", "\\\\").replace("'", "\\'")


def lab_argv(opened: Opened, way: Endpoint, password: str) -> tuple[str, ...]:
    """Put what psql needs into a private directory on the application machine; return what uses and removes it."""
    clients = application_hosts(opened)
    if not clients:
        message = "the lab has no application machine to run psql on"
        raise UsageError(message, hint="pgbaton psql --host HOST opens a database host's own server")
    client = next(iter(clients.values()))
    directory = f"/run/pgbaton-psql-{randomness.token_hex(8)}"
    common.run(prepare(client, directory, way, opened.vault.value("ca"), password))
    connection = conninfo(way, authority=f"{directory}/ca.crt", passfile=f"{directory}/passfile")
    argv = ("sh", "-c", PSQL_AND_CLEAN_UP, "sh", directory, "-d", connection)
    return client.local_argv(argv, terminal=sys.stdin.isatty())


async def prepare(client: Host, directory: str, way: Endpoint, authority: str, password: str) -> None:
    """Make a directory that only root can read, with the authority's certificate and the password in it."""
    await client.run("install", "-d", "-m", "0700", directory)
    await write_file(client, f"{directory}/ca.crt", authority, mode=0o600)
    await write_file(client, f"{directory}/passfile", connections.passfile(way, password), mode=0o600)


def local_argv(opened: Opened, way: Endpoint, password: str) -> tuple[str, ...]:
    """Return psql of this machine; the password lies beside the vault it comes from, as private as that."""
    if shutil.which("psql") is None:
        message = "psql is not installed on this machine"
        raise MissingCapabilityError(message, hint="apt-get install postgresql-client")
    passfile = opened.state.directory / "passfile"
    write_private(passfile, connections.passfile(way, password))
    return ("psql", "-d", conninfo(way, authority=str(publish_authority(opened)), passfile=str(passfile)))


@click.group(epilog="Example: pgbaton secrets show password/user/app")
def secrets() -> None:
    """Show generated secrets, and renew users' passwords."""


@secrets.command("list", epilog="Example: pgbaton secrets list")
@common.cluster_option
@common.output_option
def list_names(*, cluster: str | None, output: str) -> None:
    """List the names of all secrets; the values stay where they are."""
    names = open_cluster(cluster).vault.names
    common.emit(output, list(names), lambda: click.echo("".join(f"{name}\n" for name in names), nl=False))


@secrets.command(epilog="Example: pgbaton secrets show password/user/app")
@click.argument("name")
@common.cluster_option
@common.output_option
def show(*, name: str, cluster: str | None, output: str) -> None:
    """Print one secret's value and nothing else."""
    value = open_cluster(cluster).vault.value(name)
    common.emit(output, {"name": name, "value": value}, lambda: click.echo(value.rstrip("\n")))


@secrets.command(epilog="Example: pgbaton secrets rotate password/user/app && pgbaton apply")
@click.argument("name")
@common.cluster_option
@common.output_option
def rotate(*, name: str, cluster: str | None, output: str) -> None:
    """Generate another password for a user of the topology; the next apply has the server take it.

    Whoever is connected stays so. New connections need the new password once it is applied, not before.
    """
    opened = open_cluster(cluster)
    with opened.state.lock("secrets rotate"):
        opened.vault.renew(name)
    hint = f"{name} is another one from the next pgbaton apply on; pgbaton secrets show {name} prints it"
    common.emit(output, {"name": name, "rotated": True}, lambda: click.echo(hint))
