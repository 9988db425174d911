"""The command line: one thin module per group of verbs, imported only when it is used."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from pgbaton import __version__
from pgbaton.errors import Error

#: Every command: where it lives and what `pgbaton --help` says of it, so that help needs no further import.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("pgbaton.cli.topology:init", "Write a topology file from a preset."),
    "check": ("pgbaton.cli.topology:check", "Check a topology file."),
    "schema": ("pgbaton.cli.topology:schema", "Print the topology format's JSON Schema."),
    "budget": ("pgbaton.cli.topology:budget", "Predict what each kind of failure costs."),
    "render": ("pgbaton.cli.deploy:render", "Show every file each host would get."),
    "plan": ("pgbaton.cli.deploy:plan", "Show what apply would change."),
    "apply": ("pgbaton.cli.deploy:apply", "Make a cluster what its topology says."),
    "rollback": ("pgbaton.cli.deploy:rollback", "Take back the last apply's configuration."),
    "lab": ("pgbaton.cli.lab:lab", "Clusters of real machines on this one."),
    "status": ("pgbaton.cli.observe:status", "Show the whole cluster on one screen."),
    "clients": ("pgbaton.cli.observe:clients", "Show who is connected, and from where."),
    "watch": ("pgbaton.cli.observe:watch", "Show the cluster, live."),
    "logs": ("pgbaton.cli.observe:logs", "Show the hosts' journals as one timeline."),
    "switchover": ("pgbaton.cli.operate:switchover", "Move the primary to another host."),
    "failover": ("pgbaton.cli.operate:failover", "Promote a standby when there is no primary."),
    "restart": ("pgbaton.cli.operate:restart", "Restart PostgreSQL, host by host."),
    "reinit": ("pgbaton.cli.operate:reinit", "Clone a standby anew."),
    "standby": ("pgbaton.cli.hand:standby", "Choose whose confirmation commits wait for, without Patroni."),
    "dsn": ("pgbaton.cli.access:dsn", "Print how applications connect."),
    "psql": ("pgbaton.cli.access:psql", "Open psql on the cluster."),
    "secrets": ("pgbaton.cli.access:secrets", "Show generated secrets, renew users' passwords."),
    "bench": ("pgbaton.cli.bench:bench", "Measure what the data path costs, beside PostgreSQL itself."),
    "prove": ("pgbaton.cli.prove:prove", "Break a cluster on purpose, measure it, check every promise."),
    "report": ("pgbaton.cli.report:report", "Look at what prove found."),
    "demo": ("pgbaton.cli.demo:demo", "Bring a lab up, break it four ways, show what it cost."),
}


#: What a shell makes of a program that SIGPIPE ended: its reader, as head, had enough.
READER_GONE = 141


class ReaderGoneError(Exception):
    """Nobody reads standard output any more. click would end with 1 for an OSError."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def __init__(self, *arguments: object, commands_from: dict[str, tuple[str, str]], **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.commands_from = commands_from

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        del ctx
        return list(self.commands_from)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        del ctx
        if cmd_name not in self.commands_from:
            return None
        module, attribute = self.commands_from[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own
        """Run a command, and see what it printed out of the buffer; raises ReaderGoneError when that cannot be."""
        try:
            try:
                value = super().invoke(ctx)
            except SystemExit:
                sys.stdout.flush()
                raise
            sys.stdout.flush()
        except BrokenPipeError:
            raise ReaderGoneError from None
        return value

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.commands_from.items()])


@click.group(
    cls=LazyGroup,
    commands_from=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: pgbaton lab up --preset standard && pgbaton status",
)
@click.version_option(__version__, prog_name="pgbaton")
def root() -> None:
    """PostgreSQL high availability you can prove.

    Designs, deploys, operates and measures PostgreSQL streaming replication behind PgBouncer, HAProxy and
    Keepalived, with Patroni and etcd, or a person, choosing the primary.

    Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 unhealthy, 4 unreachable, 5 objective missed,
    6 refused as unsafe.
    """


def main() -> None:
    """Run the command line; every expected error becomes a short message and its exit code."""
    try:
        # Click returns the code of a command that ended with ctx.exit(), and that command's value otherwise.
        code = root.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort as error:
        # Click turns ^C into this too, and keeps it as the cause.
        interrupted = error.__cause__ is not None
        sys.stderr.write("interrupted\n" if interrupted else "not confirmed: nothing was done\n")
        sys.exit(130 if interrupted else 1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except (BrokenPipeError, ReaderGoneError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(READER_GONE)
    except Error as error:
        show(error)
        sys.exit(error.exit_code)


def show(error: Error) -> None:
    """Print an error and its hint on standard error."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    label = click.style("error:", fg="red", bold=True) if colour else "error:"
    sys.stderr.write(f"{label} {error}\n")
    if error.hint:
        sys.stderr.write(f"  hint: {error.hint}\n")
