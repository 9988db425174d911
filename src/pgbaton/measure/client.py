"""The clients' side of a measurement: pgbench on one host, with a private directory, as a unit that ends by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.errors import CommandError, MissingCapabilityError, RefusedError
from pgbaton.hosts import files, process
from pgbaton.measure import latency, pgbench, profiles
from pgbaton.secrets import Vault

if TYPE_CHECKING:
    from pgbaton.hosts.base import Host
    from pgbaton.hosts.process import Result
    from pgbaton.measure.pgbench import Login, Outcome
    from pgbaton.measure.plan import Case, Request
    from pgbaton.measure.ways import Layout, Way
    from pgbaton.proof.target import Target

UNIT = "pgbaton-measure"
DIRECTORY = "/run/pgbaton-measure"
#: Where a pgbench lies that was brought from another host; programs may not be run from everywhere.
BROUGHT = "/var/lib/pgbaton-measure"
#: What systemd's own deadline comes after ours.
GRACE_SECONDS = 10
STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Client:
    """A host that is ready to measure from: where its pgbench is, how many cores it has, how clients log in."""

    host: Host
    program: str
    cores: int
    login: Login

    async def run(self, case: Case, way: Way, *, seconds: int) -> Outcome:
        """Let pgbench work once; what clients suffer is in the outcome. Raises CommandError when it cannot be run."""
        argv = pgbench.argv(self.program, case, self.login, way, seconds=seconds, cores=self.cores)
        script = ("sh", f"{DIRECTORY}/run.sh", DIRECTORY, str(int(case.connect)))
        ended = await self.start(*script, *argv, clients=case.clients, seconds=pgbench.longest(case, seconds))
        if pgbench.BETWEEN not in ended.stdout:
            raise CommandError(process.failure(ended), where=self.host.name)
        return pgbench.read(ended.stdout, ended.stderr, ended.exit_status)

    async def start(self, *argv: str, clients: int, seconds: float) -> Result:
        """Run a program as a unit that has room for so many clients, and at most so many seconds."""
        properties = {
            "LimitNOFILE": clients + pgbench.SPARE_FILES,
            "TasksMax": "infinity",
            "RuntimeMaxSec": round(seconds) + GRACE_SECONDS,
            "WorkingDirectory": DIRECTORY,
        }
        unit = (
            "systemd-run", f"--unit={UNIT}", "--collect", "--quiet", "--pipe", "--wait", "--setenv=LC_ALL=C.UTF-8",
            *(f"--property={name}={value}" for name, value in properties.items()),
        )  # fmt: skip
        return await self.host.run(*unit, *argv, check=False, timeout=seconds)


async def require_idle(host: Host) -> None:
    """Raise RefusedError while another measurement is at work on a host."""
    active = await host.run("systemctl", "is-active", f"{UNIT}.service", check=False)
    if active.stdout.strip() in {"active", "activating"}:
        message = "another measurement is at work here"
        hint = f"wait for it to end; when nobody knows of it: systemctl stop {UNIT}"
        raise RefusedError(message, where=host.name, hint=hint)


async def prepare(target: Target, layout: Layout, request: Request) -> Client:
    """Give a host what pgbench needs; raises MissingCapabilityError when it has none and none can be brought."""
    host = target.hosts[layout.client]
    database = target.topology.databases[0]
    vault = Vault(target.state.vault_directory)
    login = pgbench.Login(database.owner, database.name, DIRECTORY)
    await host.run("rm", "-rf", DIRECTORY)
    await host.run("install", "-d", "-m", "0700", DIRECTORY)
    password = pgbench.passfile(vault.value(f"password/user/{database.owner}"))
    await files.write_file(host, login.passfile, password, mode=0o600)
    await files.write_file(host, login.authority, vault.value("ca"))
    await files.write_file(host, f"{DIRECTORY}/run.sh", pgbench.RUN)
    await files.write_file(host, f"{DIRECTORY}/count.awk", latency.COUNT)
    for name in dict.fromkeys(case.profile for case in request.cases):
        await files.write_file(host, login.script(name), profiles.named(name).script(request.scale))
    program = await find(host) or await bring(host, target.hosts[layout.primary])
    cores = int((await host.run("nproc")).stdout)
    return Client(host, program, cores, login)


async def find(host: Host) -> str | None:
    """Return where a host has pgbench, None when it has none."""
    found = await host.run("sh", "-c", pgbench.FIND, check=False)
    return found.stdout.strip() or None


async def bring(host: Host, primary: Host) -> str:
    """Bring the primary's pgbench to a host, which has the library that it needs; return where it lies then.

    Raises MissingCapabilityError when the primary has none, or the host cannot run it.
    """
    hint = "install pgbench there: on Debian it is in the package of the server, postgresql-VERSION"
    theirs = await find(primary)
    content = (await files.read_files(primary, [theirs]))[theirs].content if theirs else b""
    if not content:
        message = f"there is no pgbench, neither here nor on {primary.name}"
        raise MissingCapabilityError(message, where=host.name, hint=hint)
    path = f"{BROUGHT}/pgbench"
    await files.write_file(host, path, content, mode=0o755)
    tried = await host.run(path, "--version", check=False)
    if not tried.ok:
        await host.run("rm", "-rf", BROUGHT)
        message = f"there is no pgbench, and that of {primary.name} does not run here: {process.failure(tried)}"
        raise MissingCapabilityError(message, where=host.name, hint=hint)
    return path


async def clear(host: Host) -> None:
    """End what still runs, and take away all that was put on a host."""
    await host.run("systemctl", "stop", f"{UNIT}.service", check=False, timeout=STOP_SECONDS)
    await host.run("rm", "-rf", DIRECTORY, BROUGHT)
