"""A topology whose etcd is elsewhere, made of a preset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

ENDPOINTS = ("https://10.9.0.1:2379", "https://etcd2.example.org:2379", "https://10.9.0.3:12379")
FILES = 'ca_file = "/srv/etcd/ca.crt"\ncertificate_file = "/srv/etcd/us.crt"\nkey_file = "/srv/etcd/us.key"\n'
LOGIN = 'user = "pgbaton"\npassword_file = "/srv/etcd/password"\n'
PASSWORD = "it's:a#{secret}!"


def text(*, preset: str = "standard", files: str = FILES, login: str = LOGIN, more: str = "") -> str:
    """Return the text of a topology file with an etcd elsewhere; ``more`` are further lines of its table."""
    listed = ", ".join(f'"{endpoint}"' for endpoint in ENDPOINTS)
    table = f'\n[etcd]\nendpoints = [{listed}]\nnamespace = "/pg/production"\n{files}{login}{more}'
    return presets.text(preset).replace(', "dcs"]', "]").replace('"balancer", "dcs"', '"balancer"') + table


def foreign(**changes: str) -> Topology:
    """Return the topology that the text says."""
    return load.loads(text(**changes))
