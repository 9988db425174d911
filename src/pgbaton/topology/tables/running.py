"""Who promotes, how long everything may take, who may reach what, and how the operator does."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from pgbaton.topology.addresses import Subnet  # noqa: TC001 - pydantic resolves annotations at run time
from pgbaton.topology.tables.base import LOGIN, HostName, Port, Seconds, Section


class OrchestrationKind(StrEnum):
    """Who promotes a standby."""

    PATRONI = "patroni"
    MANUAL = "manual"


class Orchestration(Section):
    """Who promotes."""

    kind: OrchestrationKind = Field(
        default=OrchestrationKind.PATRONI,
        description=(
            "patroni: Patroni with etcd promotes; manual: plain streaming replication, and a person promotes with "
            "`pgbaton failover`."
        ),
    )
    primary: HostName | None = Field(
        default=None,
        description=(
            "The database that is made primary by the very first apply of a manual cluster, by default the first that "
            "is listed; who is primary afterwards is on the hosts alone."
        ),
    )
    rest_port: Port = Field(default=8008, description="Patroni's REST port.")
    etcd_client_port: Port = Field(default=2379, description="etcd's client port.")
    etcd_peer_port: Port = Field(default=2380, description="etcd's peer port.")
    watchdog: Literal["off", "automatic", "required"] = Field(
        default="automatic", description="Whether Patroni arms /dev/watchdog: where there is one, or always."
    )
    agent: bool | None = Field(
        default=None,
        description="An agent on every host of network.subnet that is not only an application's; by default where "
        "agents can run and decide: with Patroni, PostgreSQL 17 and three such hosts.",
    )
    heartbeat_port: Port = Field(default=7790, description="Agents' port for each other's heartbeats (UDP).")
    health_port: Port = Field(default=7791, description="Agents' port for questions about their host's health.")


#: Agents' heartbeats in a detection time, unless it is so short that they would come more often than this.
HEARTBEATS_IN_DETECTION = 5
SHORTEST_HEARTBEAT_SECONDS = 0.05


class Timings(Section):
    """Durations, in seconds; the defaults are what the stock parts can bear."""

    ttl: Annotated[int, Field(ge=1, le=3600)] = Field(default=20, description="Life of the leader lock.")
    loop_wait: Annotated[int, Field(ge=1, le=3600)] = Field(default=1, description="Patroni's loop.")
    retry_timeout: Annotated[int, Field(ge=1, le=3600)] = Field(default=3, description="Patroni's patience with etcd.")
    primary_start_timeout: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=0, description="How long a crashed primary may try to restart before a standby takes over."
    )
    check_interval: Seconds = Field(default=0.2, description="HAProxy's checks of a healthy server.")
    read_check_interval: Seconds = Field(
        default=0.5, description="HAProxy's checks of a healthy standby: each is a TLS handshake for Patroni."
    )
    check_fast_interval: Seconds = Field(default=0.1, description="HAProxy's checks of a server in transition.")
    check_fall: Annotated[int, Field(ge=1, le=10)] = Field(default=2, description="Failed checks before it is down.")
    advert_interval: Annotated[float, Field(ge=0.01, le=40)] = Field(default=0.1, description="VRRP adverts.")
    balancer_check_interval: Seconds = Field(default=0.5, description="Keepalived's round trip through HAProxy.")
    vip_return: Annotated[float, Field(ge=1, le=1000)] = Field(
        default=30.0,
        description="Of several VIPs, one that is elsewhere goes back to its own balancer when that has been well for "
        "so long. A single VIP stays where it is.",
    )
    wal_sender_timeout: Seconds = Field(default=2.0, description="A silent standby is dropped.")
    wal_retrieve_retry_interval: Seconds = Field(default=0.1, description="A standby looks for its primary again.")
    server_login_retry: Seconds = Field(default=0.1, description="PgBouncer tries a failed server again.")
    server_connect_timeout: Seconds = Field(default=2.0, description="PgBouncer gives up on a connection attempt.")
    query_wait: Seconds = Field(default=60.0, description="A queued client waits this long for a server.")
    tcp_user_timeout: Seconds = Field(default=3.0, description="Unacknowledged data on pool connections.")
    etcd_election: Annotated[float, Field(ge=0.1, le=50)] = Field(
        default=1.0,
        description="etcd's members elect a leader when they have not heard theirs for this long; it beats ten times "
        "as often. With agents a third of this, unless it is set.",
    )
    heartbeat_interval: Seconds | None = Field(
        default=None,
        description="Agents' heartbeats to each other; by default a fifth of detection_time, 0.05 at the least.",
    )
    detection_time: Seconds = Field(
        default=0.5, description="Agents take a host for silent that was not heard for this long: 4 heartbeats or more."
    )

    @property
    def heartbeat_seconds(self) -> float:
        """Return the time between two heartbeats of an agent."""
        if self.heartbeat_interval is not None:
            return self.heartbeat_interval
        return max(self.detection_time / HEARTBEATS_IN_DETECTION, SHORTEST_HEARTBEAT_SECONDS)


class Security(Section):
    """Who may reach what."""

    firewall: bool = Field(default=True, description="Load an nftables table that drops what is not listed.")
    client_networks: tuple[Subnet, ...] = Field(
        default=(), description="Networks of the applications; by default the cluster's subnet, and those of its VIPs."
    )
    operator_networks: tuple[Subnet, ...] = Field(
        default=(), description="Networks that may use SSH; by default everywhere, because a lock-out helps nobody."
    )
    certificate_days: Annotated[int, Field(ge=2, le=3650)] = Field(default=365, description="Life of certificates.")


class Ssh(Section):
    """How the operator reaches the hosts; everything else comes from the user's own ssh_config."""

    user: Annotated[str, Field(pattern=LOGIN)] | None = Field(
        default=None, description="Login name; sudo without a password is used when it is not root."
    )
    port: Port | None = Field(default=None, description="Port of sshd.")
    identity_file: str | None = Field(default=None, description="Private key.")
    config_file: str | None = Field(default=None, description="ssh_config to use instead of the user's own.")
