"""A real host, over the user's own OpenSSH client: agents, hardware keys, jump hosts and ssh_config all work."""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton.errors import CommandError, MissingCapabilityError, RefusedError, UnreachableError, UsageError
from pgbaton.hosts import process
from pgbaton.hosts.base import Host

if TYPE_CHECKING:
    from pgbaton.hosts.process import Result
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import HostSpec, Ssh

#: How long to wait for a connection, in seconds, and how long an idle one is kept for the next command.
CONNECT_SECONDS = 10
PERSIST_SECONDS = 60
#: Where root keeps shared connections.
ROOT_BASE = Path("/run")
#: ssh's exit status for its own failures; a program on the host may use it too.
SSH_FAILED = 255
#: What every remote program gets, whatever shell and login files the user has.
ENVIRONMENT = ("env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")

#: What ssh says when it fails, and what to do about it; the first that is found is told.
HINTS = (
    (
        "IDENTIFICATION HAS CHANGED",
        "the host shows another key than before: find out why; if it was installed anew, ssh-keygen -R forgets the old",
    ),
    (
        "Host key verification failed",
        "compare the key's fingerprint with what the host's console shows, then connect once with ssh yourself",
    ),
    ("Permission denied", "does `ssh` with the same user and key log in without asking? Is the key in the agent?"),
    ("Could not resolve hostname", "check the host's address, and its ssh setting in the topology"),
    ("", "does `ssh` from here reach the host? Is it on, and is its sshd running?"),
)


@dataclass(frozen=True)
class SshHost(Host):
    """Run programs over SSH, as root or through sudo.

    ``options`` are ssh's; ``prefix`` runs the client itself somewhere else, as in a network namespace.
    """

    destination: str
    options: tuple[str, ...]
    control_directory: Path
    sudo: bool = False
    prefix: tuple[str, ...] = ()

    @staticmethod
    def of(host: HostSpec, ssh: Ssh, state: ClusterState, *, prefix: tuple[str, ...] = ()) -> SshHost:
        """Return the transport to a host, as the topology and the user's ssh_config say.

        Raises UsageError for a destination that ssh would take for an option; MissingCapabilityError without ssh.
        """
        destination = host.ssh or str(host.address)
        if destination.startswith("-"):
            message = f"{destination!r} is no host: ssh would take it for an option"
            raise UsageError(message, where=f"hosts.{host.name}.ssh", hint="begin it with a user or host name")
        own = own_options(ssh)
        settings = effective_settings(own, destination)
        identity = f"{state.directory}\n{host.name}\n{destination}\n{own}\n{prefix}"
        options = (*own, *connection_options(settings, identity))
        sudo = settings.get("user", "root") != "root"
        return SshHost(host.name, destination, options, control_directory(), sudo=sudo, prefix=prefix)

    def local_argv(self, argv: tuple[str, ...], *, terminal: bool = False) -> tuple[str, ...]:
        """Return the ssh command line for ``argv``, quoted for the remote shell."""
        remote = (*(("sudo", "-n", "--") if self.sudo else ()), *ENVIRONMENT, *argv)
        mode = "-tt" if terminal else "-T"
        return (*self.prefix, "ssh", mode, *self.options, "--", self.destination, shlex.join(remote))

    async def run(
        self,
        *argv: str,
        input: str | bytes | None = None,  # noqa: A002 - the name subprocess uses
        check: bool = True,
        timeout: float | None = 30.0,
    ) -> Result:
        """Run a program on this host to its end; ``timeout`` is in seconds.

        What ssh itself has to say goes to a file, so that its failures and the program's are told apart.
        Raises CommandError on a non-zero exit when ``check``, UnreachableError when the host cannot be reached.
        """
        with tempfile.NamedTemporaryFile(dir=self.control_directory, prefix="log.") as log:
            local = logging_to(self.local_argv(argv), log.name)
            result = await process.run(*local, input=input, check=False, timeout=timeout, where=self.name)
            said = log.read().decode(errors="replace").strip()
        if result.exit_status == SSH_FAILED and said:
            raise UnreachableError(said, where=self.name, hint=hint_for(said))
        result = replace(result, argv=argv)
        if check and not result.ok:
            raise CommandError(process.failure(result), where=self.name, hint=self.sudo_hint(result))
        return result

    async def close(self) -> None:
        """End the shared connection, if there is one; it would end by itself after a minute without use."""
        await process.run(*self.prefix, "ssh", "-O", "exit", *self.options, "--", self.destination, check=False)

    def sudo_hint(self, result: Result) -> str | None:
        """Return what to do when it was sudo that refused."""
        if self.sudo and result.stderr.startswith("sudo:"):
            return f"the user that logs in at {self.destination} must be allowed to use sudo without a password"
        return None


def logging_to(local: tuple[str, ...], path: str) -> tuple[str, ...]:
    """Return an ssh command line with ssh's own messages in a file."""
    at = local.index("ssh") + 1
    return (*local[:at], "-E", path, *local[at:])


def hint_for(said: str) -> str:
    """Return what to do about a failure of ssh."""
    return next(hint for sign, hint in HINTS if sign in said)


def own_options(ssh: Ssh) -> tuple[str, ...]:
    """Return the options that the topology's settings are."""
    pairs = (("-F", ssh.config_file), ("-l", ssh.user), ("-p", ssh.port), ("-i", ssh.identity_file))
    return tuple(part for flag, value in pairs if value is not None for part in (flag, str(value)))


def effective_settings(options: tuple[str, ...], destination: str) -> dict[str, str]:
    """Return what ssh would use for a destination, of all that its own configuration files say."""
    try:
        result = process.capture("ssh", "-G", *options, "--", destination)
    except FileNotFoundError:
        message = "this machine has no ssh"
        raise MissingCapabilityError(message, hint="on Debian: apt-get install openssh-client") from None
    if not result.ok:
        raise UsageError(
            result.stderr.strip(), where=f"ssh to {destination}", hint="check the ssh settings of the topology"
        )
    pairs = (line.partition(" ") for line in result.stdout.splitlines())
    return {key: value for key, _, value in pairs}


def connection_options(settings: dict[str, str], identity: str) -> tuple[str, ...]:
    """Return the options that make connections safe, quick and shared; ``identity`` tells connections apart.

    Unknown host keys are refused; only where the user's configuration accepts new ones, that is left in force.
    """
    new_keys = "accept-new" if settings.get("stricthostkeychecking") == "accept-new" else "yes"
    socket = control_directory() / hashlib.sha256(identity.encode()).hexdigest()[:16]
    chosen = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": new_keys,
        "ConnectTimeout": str(CONNECT_SECONDS),
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
        "ControlMaster": "auto",
        "ControlPath": str(socket),
        "ControlPersist": str(PERSIST_SECONDS),
    }
    return tuple(part for key, value in chosen.items() for part in ("-o", f"{key}={value}"))


def control_directory() -> Path:
    """Return the private directory of shared connections, made if it is missing.

    Its path is short: a socket's address ends at 108 bytes, of which ssh needs some for a temporary name.
    Raises RefusedError when someone else has made it.
    """
    user = os.geteuid()
    base = ROOT_BASE if user == 0 else Path(tempfile.gettempdir())
    path = base / f"pgbaton-ssh-{user}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o077:
        message = f"{path} is not a directory that only you can use"
        raise RefusedError(message, hint=f"find out who made it; then remove it: rm -r {path}")
    return path
