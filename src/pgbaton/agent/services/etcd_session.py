"""Being logged in to an etcd that asks for a password: the token, its age, and how a refusal is borne. Pure.

Every member knows a token from the moment in which it was given, and forgets it when it was not shown there for some
time (etcd's ``--auth-token-ttl``, five minutes unless its operators say otherwise). Usually one member is asked, and
another one only when that one is gone: so a token is renewed well before the others forget it, and no failover waits
for a login.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: How old a token gets, in seconds: less than half of what members remember one that is not shown.
RENEW_SECONDS = 120.0
#: How long a login may take. etcd's hashing of a password is slow on purpose.
LOGIN_SECONDS = 2.0
#: After a login that was refused, the next one is not sooner: each costs that etcd processor time, whoever shares it.
REFUSED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Login:
    """Whom to log in as."""

    user: str
    password: str = field(repr=False)


@dataclass(slots=True)
class Session:
    """What is known of being logged in; times are on the loop's clock.

    ``token`` is None when there is none yet, or none any more, and empty where nobody has to log in after all.
    """

    login: Login | None = None
    token: str | None = None
    since_seconds: float = 0.0
    refusal: str = ""
    refused_until: float = 0.0

    def use(self, login: Login | None) -> None:
        """Log in as somebody else from now on; nothing is forgotten when it is the same."""
        if login != self.login:
            self.login, self.token, self.refusal, self.refused_until = login, None, "", 0.0

    @property
    def is_wanted(self) -> bool:
        """Tell whether a login has to come before anything else is asked."""
        return self.login is not None and self.token is None

    def is_due(self, now: float) -> bool:
        """Tell whether the token should be renewed, while it still serves."""
        return self.login is not None and bool(self.token) and now - self.since_seconds >= RENEW_SECONDS

    def refused(self, now: float) -> str:
        """Return why a login is not tried again yet; empty when it may be."""
        return self.refusal if now < self.refused_until else ""

    def began(self, token: str, now: float) -> None:
        """Note a login that succeeded; an empty token says that there is nothing to log in to."""
        self.token, self.since_seconds, self.refusal = token, now, ""

    def was_refused(self, why: str, now: float) -> None:
        """Note a login that was refused."""
        self.refusal, self.refused_until = why, now + REFUSED_SECONDS

    def ended(self, token: str | None) -> None:
        """Note that a token is not accepted any more, unless another one has come meanwhile."""
        if self.token == token:
            self.token = None
