"""What each preset renders, to the letter. After a change that is meant: scripts/golden, then read the diff."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgbaton import blueprint
from pgbaton.cli.demo import STOCK
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pgbaton.blueprint import HostBlueprint
    from pgbaton.components.base import File

HERE = Path(__file__).parent


def pair() -> str:
    """Return two hosts that are everything, without Patroni, whose balancers start a program to find the primary."""
    text = presets.text("manual").replace('["database"]', '["balancer", "database"]').replace("# check = ", "check = ")
    balancers = text.index('[[hosts]]\nname = "lb1"'), text.index('[[hosts]]\nname = "db1"')
    return (text[: balancers[0]] + text[balancers[1] :]).replace('"query" ', '"script" ')


def elsewhere() -> str:
    """Return the usual cluster with an etcd that it did not bring."""
    table = """
[etcd]
endpoints = ["https://10.9.0.1:2379", "https://etcd2.example.org:2379", "https://etcd3.example.org:2379"]
namespace = "/pg/production"
ca_file = "/srv/etcd/ca.crt"
certificate_file = "/srv/etcd/pgbaton.crt"
key_file = "/srv/etcd/pgbaton.key"
user = "pgbaton"
"""
    return presets.text("standard").replace('"database", "dcs"', '"database"') + table


#: The presets as they are, one whose hosts have as many different roles as any, without agents, one that has
#: nothing where it usually is, the least of all, and one whose etcd is elsewhere.
CASES = {name: presets.text(name) for name in presets.NAMES} | {
    "stock": presets.text("classic") + STOCK,
    "apart": (HERE / "apart.toml").read_text(encoding="utf-8"),
    "pair": pair(),
    "elsewhere": elsewhere(),
}
#: A database that replicates over a network of its own.
APART = presets.text("standard").replace("[network]\n", '[network]\nreplication_subnet = "10.78.0.0/24"\n')
for number in (21, 22, 23):
    address = f'address = "10.77.0.{number}"'
    APART = APART.replace(address, f'{address}\nreplication_address = "10.78.0.{number}"')
USUAL = re.compile(r"\b(5432|6432|6433|5000|5001|8404|6000|6001|8008|2379|2380|7790|7791)\b|/var/lib/postgresql/1\d/")
#: Everything that pools can have of their own, and only the host that has pools.
POOLS = (
    presets.text("standard")
    .replace("[pooling]\n", "[pooling]\nprocesses = 2\nsize = 9\nreserve = 3\napplication_name_add_host = true\n")
    .replace("[balancing]\n", "[balancing]\nlog_connections = true\n")
    .replace(
        'name = "app"\n\n[[databases]]\nname = "app"\nowner = "app"\n',
        'name = "app"\n\n[[users]]\nname = "old"\npool_mode = "session"\npool_size = 3\nmax_user_connections = 5\n\n'
        '[[databases]]\nname = "app"\nowner = "app"\nmax_db_connections = 13\n\n'
        '[[databases]]\nname = "lines"\nowner = "app"\npool_size = 4\npool_mode = "statement"\n',
    )
)
#: Two VIPs, each of a balancer of its own, and a name that clients have for both.
SEVERAL = presets.text("standard").replace(
    'vip = "10.77.0.100"', 'more_vips = ["10.77.0.101"]\ndns_names = ["db.example.com"]\nvip = "10.77.0.100"'
)
#: The preset in a network of IPv6.
IPV6 = presets.text("standard").replace("10.77.0.0/24", "fd00:77::/64").replace("10.77.0.", "fd00:77::")


def rendered(host: HostBlueprint) -> str:
    """Return everything that a host gets, as one text."""
    packages = f"packages: {' '.join(host.packages)}\n"
    units = "".join(f"unit: {unit.name}{' (masked)' if unit.masked else ''}\n" for unit in host.units)
    files = "".join(
        f"\n### {file.path} ({file.mode:04o} {file.owner} {file.group})\n{shown(file)}\n" for file in host.files
    )
    return packages + units + files


def shown(file: File) -> str:
    """Return a text; of bytes only that they are bytes, because they change with every line of the program in them."""
    return file.content if isinstance(file.content, str) else "(binary)"


def by_hand(*changes: tuple[str, str]) -> str:
    """Return the preset of a cluster that a person fails over, with some of its text replaced."""
    text = presets.text("manual")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


ELSEWHERE = (
    '[postgresql]\ndata_directory = "/srv/pg/data"\nwal_directory = "/srv/wal/main"\n',
    '[[tablespaces]]\nname = "fast"\nlocation = "/srv/fast/orders"\nowner = "app"\n\n[[users]]',
)
#: Clusters that a person fails over, with what the preset has not, and the hosts that it makes a difference on.
BY_HAND = {
    "hand-agents": (
        by_hand(
            ("# agent = false ", "agent = true "),
            ('# check = "query" ', 'check = "agent" '),
            ("[postgresql]\n", ELSEWHERE[0]),
            ("[[users]]", ELSEWHERE[1]),
        ),
        ("lb1", "db1"),
    ),
    "hand-database": (by_hand(("[pooling]\n", '[pooling]\nplacement = "database"\n')), ("lb1", "db1")),
    "hand-none": (by_hand(("[pooling]\n", '[pooling]\nplacement = "none"\n')), ("lb1", "db1")),
    "hand-pooler": (
        by_hand(
            ("[pooling]\n", '[pooling]\nplacement = "pooler"\n'),
            (
                "[postgresql]\n",
                '[[hosts]]\nname = "pool1"\naddress = "10.77.0.31"\nroles = ["pooler"]\n\n[postgresql]\n',
            ),
        ),
        ("lb1", "pool1"),
    ),
    "hand-application": (
        by_hand(
            ("[pooling]\n", '[pooling]\nplacement = "application"\n'),
            (
                "[postgresql]\n",
                '[[hosts]]\nname = "shop"\naddress = "10.77.0.41"\nroles = ["application"]\n\n[postgresql]\n',
            ),
        ),
        ("lb1", "shop"),
    ),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_a_cluster_that_a_person_fails_over_renders_what_it_did(case: str) -> None:
    text, hosts = BY_HAND[case]
    for host in hosts:
        compare(case, text, only=host)


@pytest.mark.parametrize("case", CASES)
def test_a_preset_renders_what_it_did(case: str) -> None:
    compare(case, CASES[case])


def test_pools_of_their_own_render_what_they_did() -> None:
    compare("pools", POOLS, only="lb1")


def test_several_vips_render_what_they_did() -> None:
    compare("several", SEVERAL, only="lb2")


def test_a_network_for_replication_renders_what_it_did() -> None:
    compare("replication", APART, only="db1")


@pytest.mark.parametrize("host", ["lb1", "db1"])
def test_a_network_of_ipv6_renders_what_it_did(host: str) -> None:
    compare("ipv6", IPV6, only=host)


def compare(case: str, text: str, *, only: str = "") -> None:
    """Compare what hosts of a topology get with what was kept; keep it, where that is asked for."""
    for host in blueprint.draw(load.loads(text)).hosts:
        if only not in {"", host.host}:
            continue
        kept = HERE / case / f"{host.host}.txt"
        if os.environ.get("PGBATON_UPDATE_GOLDEN"):
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(rendered(host), encoding="utf-8")
        assert kept.read_text(encoding="utf-8") == rendered(host), f"{case}/{host.host} changed; see scripts/golden"


def test_no_usual_port_or_place_is_left_where_all_were_changed() -> None:
    """A word of a file that does not come from the topology would be one that cannot be changed."""
    hosts = blueprint.draw(load.loads(CASES["apart"])).hosts
    left = {(host.host, file.path, found[0]) for host in hosts for file in host.files for found in usual(file)}
    assert left == set()
    preset = blueprint.draw(load.loads(CASES["compact"])).hosts
    assert len({found[0] for host in preset for file in host.files for found in usual(file)}) > 12


def usual(file: File) -> list[re.Match[str]]:
    return list(USUAL.finditer(shown(file)))
