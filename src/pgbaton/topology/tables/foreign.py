"""An etcd that exists already: where it is, how to be let in, and below which keys to stay."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from pgbaton.topology.addresses import at_port
from pgbaton.topology.tables.base import Section

#: A scheme, a host's name or address, one of IPv6 in brackets, a port; nothing after it.
ENDPOINT = (
    r"^https?://([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*|\[[0-9A-Fa-f:.]{2,45}\])"
    r":([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"
)
#: Keys are paths; an empty part, or a dot that leads out of one, would end up below other keys than it says.
NAMESPACE = r"^(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,62}){1,6}$"
#: Where a file is on the operator's machine. Relative ones would mean another file in every directory.
LOCAL_FILE = r"^/[^\s]{1,1023}$"
ETCD_USER = r"^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,62}$"


def shortened(endpoint: str) -> str:
    """Return an endpoint with its address of IPv6 in the short form: one member is spelled in one way.

    Raises ValueError for one whose brackets hold no address, which no pattern could say.
    """
    scheme, _, place = endpoint.partition("://")
    host, brackets, port = place.partition("]:")
    return f"{scheme}://{at_port(IPv6Address(host.removeprefix('[')), int(port))}" if brackets else endpoint


Endpoint = Annotated[str, Field(pattern=ENDPOINT), AfterValidator(shortened)]
LocalFile = Annotated[str, Field(pattern=LOCAL_FILE)]

PLAIN = "http"


class ForeignEtcd(Section):
    """An etcd that exists already and that pgbaton did not deploy; without endpoints the hosts run their own.

    Files are on the operator's machine: they are read by plan and apply, and brought to the hosts.
    """

    endpoints: tuple[Endpoint, ...] = Field(
        default=(),
        description="Its members, as https://HOST:PORT, by name or address; no host has the role dcs then.",
    )
    namespace: Annotated[str, Field(pattern=NAMESPACE)] = Field(
        default="/service",
        description="The keys are below NAMESPACE/SCOPE/; clusters that share an etcd differ in one.",
    )
    ca_file: LocalFile | None = Field(default=None, description="The authority that its certificates are signed by.")
    certificate_file: LocalFile | None = Field(default=None, description="The certificate that hosts show to it.")
    key_file: LocalFile | None = Field(default=None, description="The key of that certificate, without a passphrase.")
    user: Annotated[str, Field(pattern=ETCD_USER)] | None = Field(
        default=None, description="The user that hosts log in to it as; its password is in password_file."
    )
    password_file: LocalFile | None = Field(
        default=None,
        description="A file with that user's password in its first line; by default PGBATON_ETCD_PASSWORD has it.",
    )
    plain_http: bool = Field(
        default=False, description="Accept endpoints with http: whoever is on the network can read and change the lock."
    )

    @property
    def is_plain(self) -> bool:
        """Tell whether the endpoints are asked without TLS."""
        return bool(self.endpoints) and urlsplit(self.endpoints[0]).scheme == PLAIN

    @property
    def places(self) -> tuple[str, ...]:
        """Return the endpoints without their scheme: ``host:port``."""
        return tuple(urlsplit(endpoint).netloc for endpoint in self.endpoints)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the endpoints' host names or addresses, in their order."""
        return tuple(urlsplit(endpoint).hostname or "" for endpoint in self.endpoints)
