"""What all commands share: options, the choice between text and JSON, and the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console

from pgbaton.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

T = TypeVar("T")
Command = TypeVar("Command", bound="Callable[..., Any]")

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Form of the result.",
)


def cluster_named(text: str) -> Callable[[Command], Command]:
    """Return the option that chooses a cluster, with what it means to a command."""
    return click.option("--cluster", metavar="NAME", envvar="PGBATON_CLUSTER", help=text)


cluster_option = cluster_named("Which cluster; by default the only one known.")
#: For commands whose file names the cluster.
file_cluster_option = cluster_named(
    "With FILE: its name here; by default the file's own. Without: which cluster; by default the only one known."
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


def out() -> Console:
    """Return the console for results: standard output."""
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False)


def err() -> Console:
    """Return the console for progress and questions: standard error."""
    return Console(stderr=True, soft_wrap=not sys.stderr.isatty(), highlight=False)


def tell(console: Console, *words: Any, **options: Any) -> None:  # noqa: ANN401 - rich's own
    """Print progress; when nobody reads any more, the work that it tells of goes on all the same."""
    with contextlib.suppress(OSError, SystemExit):
        console.print(*words, **options)


def emit(output: str, data: Any, show: Callable[[], None]) -> None:  # noqa: ANN401 - anything JSON can carry
    """Print a result: ``data`` as JSON, or by calling ``show``."""
    if output == "json":
        sys.stdout.write(json.dumps(data, indent=2, default=str) + "\n")
    else:
        show()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run asynchronous work to its end."""
    return asyncio.run(work)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is changed; raises RefusedError without a terminal, Abort when the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        message = "this needs a confirmation, and standard input is no terminal"
        raise RefusedError(message, hint="give --yes to go on without being asked")
    click.confirm(question, abort=True, err=True)


def need_root(purpose: str) -> None:
    """Raise RefusedError unless the process runs as root."""
    if os.geteuid() != 0:
        message = f"{purpose} needs root: it makes namespaces, mounts and machines"
        raise RefusedError(message, hint="run it as root, or with sudo; ./run asks sudo by itself")


def require_writable(path: Path, *, option: str) -> None:
    """Raise UsageError when a file could not be written, before minutes are spent on what is to stand in it."""
    there = path.exists()
    try:
        path.open("ab").close()
        if not there:
            path.unlink()
    except OSError as error:
        message = f"cannot write the file: {error.strerror}"
        raise UsageError(message, where=str(path), hint=f"choose another place with {option} FILE") from None
