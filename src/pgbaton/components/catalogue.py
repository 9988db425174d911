"""All the components. Adding one is a new module and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components.agent import Agent
from pgbaton.components.directories import Directories
from pgbaton.components.etcd import Etcd
from pgbaton.components.firewall import Firewall
from pgbaton.components.foreign import Foreign
from pgbaton.components.haproxy import Haproxy
from pgbaton.components.keepalived import Keepalived
from pgbaton.components.manual import Manual
from pgbaton.components.patroni import Patroni
from pgbaton.components.pgbouncer import Pgbouncer
from pgbaton.components.postgres import Postgres
from pgbaton.components.system import System

if TYPE_CHECKING:
    from pgbaton.components.base import Component

SERVICES: tuple[Component, ...] = (
    Etcd(),
    Foreign(),
    Postgres(),
    Patroni(),
    Manual(),
    Pgbouncer(),
    Haproxy(),
    Keepalived(),
    Agent(),
)
COMPONENTS: tuple[Component, ...] = (
    System(tuple(sorted({user for component in SERVICES for user in component.users()}))),
    Firewall(),
    Directories(),
    *SERVICES,
)
