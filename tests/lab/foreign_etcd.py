"""An etcd on machines of a lab that pgbaton does not deploy: with TLS, users and roles, as others would run it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton import pki
from pgbaton.components.base import Certificate
from pgbaton.hosts.files import write_file
from pgbaton.operate.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pgbaton.hosts.base import Host

MEMBERS = {"e1": "10.77.0.31", "e2": "10.77.0.32", "e3": "10.77.0.33"}
USER, PASSWORD, ROOT_PASSWORD = "pgbaton", "let:me#in%now", "root:is$not&ours"
NAMESPACE = "/pg/trial"
DIRECTORY = "/etc/theirs"
#: Somebody else's record beside the cluster's, in the same namespace.
NEIGHBOUR = f"{NAMESPACE}/neighbour/leader"

PREAMBLE = f"""
set -eu
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=https://127.0.0.1:2379 ETCDCTL_CACERT={DIRECTORY}/ca.crt
export ETCDCTL_CERT={DIRECTORY}/member.crt ETCDCTL_KEY={DIRECTORY}/member.key
"""
USERS = f"""
etcdctl put {NEIGHBOUR} somebody
printf %s '{ROOT_PASSWORD}' | etcdctl user add root --interactive=false
etcdctl role add root
etcdctl user grant-role root root
etcdctl role add postgres
etcdctl role grant-permission postgres readwrite --prefix=true {NAMESPACE}/test-elsewhere/
printf %s '{PASSWORD}' | etcdctl user add {USER} --interactive=false
etcdctl user grant-role {USER} postgres
etcdctl auth enable
"""
AS_ROOT = f"export ETCDCTL_USER='root:{ROOT_PASSWORD}'\n"


@dataclass(frozen=True)
class Theirs:
    """Their authority, and another one that has nothing to do with them."""

    authority: pki.Issued
    stranger: pki.Issued

    @classmethod
    def made(cls) -> Theirs:
        """Make both."""
        return cls(pki.make_authority("their etcd"), pki.make_authority("a stranger"))

    def member(self, name: str) -> pki.Issued:
        """Return the certificate of a member, by its name and address."""
        addresses = (MEMBERS[name], "127.0.0.1")
        wanted = Certificate(
            name,
            file="m",
            owner="etcd",
            common_name="",
            addresses=addresses,
            dns_names=(name,),
            server=True,
            client=True,
        )
        return pki.issue(self.authority, wanted, days=365)

    def give(self, directory: Path) -> None:
        """Write what operators of pgbaton are given."""
        ours, named = (
            pki.issue(
                self.authority, Certificate("us", file="us", owner="root", common_name=name, client=True), days=365
            )
            for name in ("", "pgbaton")
        )
        given = {
            "ca.crt": self.authority.certificate,
            "stranger.crt": self.stranger.certificate,
            "us.crt": ours.certificate,
            "us.key": ours.key,
            "named.crt": named.certificate,
            "named.key": named.key,
            "password": f"{PASSWORD}\n",
        }
        for name, text in given.items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o600)


def environment(name: str) -> str:
    """Return a member's settings."""
    address = MEMBERS[name]
    tls = {"CERT_FILE": "member.crt", "KEY_FILE": "member.key", "TRUSTED_CA_FILE": "ca.crt"}
    files = {key: f"{DIRECTORY}/{file}" for key, file in tls.items()} | {"CLIENT_CERT_AUTH": "true"}
    values = {
        "NAME": name,
        "DATA_DIR": "/var/lib/etcd/theirs",
        "LISTEN_CLIENT_URLS": f"https://{address}:2379,https://127.0.0.1:2379",
        "ADVERTISE_CLIENT_URLS": f"https://{address}:2379",
        "LISTEN_PEER_URLS": f"https://{address}:2380",
        "INITIAL_ADVERTISE_PEER_URLS": f"https://{address}:2380",
        "INITIAL_CLUSTER": ",".join(f"{each}=https://{place}:2380" for each, place in MEMBERS.items()),
        "INITIAL_CLUSTER_STATE": "new",
        **files,
        **{f"PEER_{key}": value for key, value in files.items()},
    }
    return "".join(f'ETCD_{key}="{value}"\n' for key, value in values.items())


async def run(hosts: Mapping[str, Host], theirs: Theirs) -> None:
    """Bring up the members, and let the cluster's user in."""
    for name in MEMBERS:
        issued = theirs.member(name)
        for file, text in (("ca.crt", theirs.authority.certificate), ("member.crt", issued.certificate)):
            await write_file(hosts[name], f"{DIRECTORY}/{file}", text)
        await write_file(hosts[name], f"{DIRECTORY}/member.key", issued.key, mode=0o600, owner="etcd", group="etcd")
        await write_file(hosts[name], "/etc/default/etcd", environment(name))
    await asyncio.gather(*(hosts[name].run("systemctl", "enable", "--now", "--no-block", "etcd") for name in MEMBERS))

    async def healthy() -> str | None:
        said = await hosts["e1"].run("sh", "-s", input=f"{PREAMBLE}etcdctl endpoint health", check=False)
        return None if said.ok else said.stderr.strip()[-200:]

    await until("their etcd is healthy", healthy, seconds=60, interval_seconds=0.5)
    await hosts["e1"].run("sh", "-s", input=PREAMBLE + USERS)


async def keys(host: Host, prefix: str) -> dict[str, str]:
    """Return what is below a prefix, as their root sees it."""
    asked = f"{PREAMBLE}{AS_ROOT}etcdctl get --prefix {prefix} --print-value-only=false\n"
    lines = (await host.run("sh", "-s", input=asked)).stdout.splitlines()
    return dict(zip(lines[::2], lines[1::2], strict=True))
