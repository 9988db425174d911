"""SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side, without channel binding."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

MECHANISM = "SCRAM-SHA-256"
#: "n,,": the client binds to no channel. Base64 of it is sent again, so that nobody can have changed it.
CHANNEL_BINDING = "n,,"
#: PostgreSQL's default is 4096. A peer that asks for more than this wants to keep the agent busy.
MOST_ITERATIONS = 100_000


class ScramError(Exception):
    """The other side does not follow the protocol, or does not know the password."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The client's last message, and the signature with which a server has to answer it."""

    message: str
    server_signature: bytes = field(repr=False)


def new_nonce() -> str:
    """Return a nonce that nobody else has."""
    return base64.b64encode(secrets.token_bytes(18)).decode()


def first_message(user: str, nonce: str) -> str:
    """Return the client's first message."""
    return CHANNEL_BINDING + _bare(user, nonce)


def prove(user: str, password: str, nonce: str, challenge: str) -> Proof:
    """Return the answer to a server's challenge; raises ScramError when that is no answer to our first message."""
    asked = _attributes(challenge)
    if not asked["r"].startswith(nonce) or len(asked["r"]) == len(nonce):
        message = "the server's nonce does not go on from ours: this is an answer to another login"
        raise ScramError(message)
    binding = base64.b64encode(CHANNEL_BINDING.encode()).decode()
    without_proof = f"c={binding},r={asked['r']}"
    signed = f"{_bare(user, nonce)},{challenge},{without_proof}".encode()
    salted = _salted(password, _binary(asked["s"]), asked["i"])
    client_key = _sign(salted, b"Client Key")
    signature = _sign(hashlib.sha256(client_key).digest(), signed)
    proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
    message = f"{without_proof},p={base64.b64encode(proof).decode()}"
    return Proof(message, _sign(_sign(salted, b"Server Key"), signed))


def verify(proof: Proof, final: str) -> None:
    """Return when the server has shown that it knows the password; raises ScramError otherwise."""
    said = _attributes(final)
    if "e" in said:
        message = f"the server ends the login: {said['e']}"
        raise ScramError(message)
    if not hmac.compare_digest(_binary(said["v"]), proof.server_signature):
        message = "the server does not know the password: it is not the one it says it is"
        raise ScramError(message)


def _bare(user: str, nonce: str) -> str:
    escaped = user.replace("=", "=3D").replace(",", "=2C")
    return f"n={escaped},r={nonce}"


def _salted(password: str, salt: bytes, iterations: str) -> bytes:
    # SASLprep changes nothing in ASCII; pgbaton makes no other passwords.
    if not password.isascii():
        message = "the password has characters outside of ASCII; set one without"
        raise ScramError(message)
    if not iterations.isascii() or not iterations.isdecimal() or not 0 < int(iterations[:9]) <= MOST_ITERATIONS:
        message = f"the server asks for {iterations[:20]} iterations; up to {MOST_ITERATIONS} are right"
        raise ScramError(message)
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, int(iterations))


def _sign(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _attributes(message: str) -> dict[str, str]:
    """Return a message's attributes by name; one that is asked for and missing is an error like any other."""
    found = _Attributes()
    for part in message.split(","):
        name, equals, value = part.partition("=")
        if len(name) != 1 or not equals:
            message = f"the server's message has a part that is no attribute: {part[:20]!r}"
            raise ScramError(message)
        found[name] = value
    return found


class _Attributes(dict[str, str]):
    def __missing__(self, name: str) -> str:
        message = f"the server's message lacks the attribute {name}"
        raise ScramError(message)


def _binary(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        message = f"the server's message has a value that is no Base64: {text[:20]!r}"
        raise ScramError(message) from None
