"""An etcd that exists already, before anything leans on it: what its operators gave, and whether it will serve.

What was given is read from files of this machine, and kept in the cluster's vault from then on. It goes to the hosts
over standard input, with a program that asks that etcd from there, and changes nothing.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pgbaton.components import foreign
from pgbaton.deploy.gate import together
from pgbaton.errors import CommandError, RefusedError, UnreachableError, UsageError
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pgbaton.hosts.base import Host
    from pgbaton.secrets import Vault
    from pgbaton.topology.model import ForeignEtcd, HostSpec, Topology

VARIABLE = "PGBATON_ETCD_PASSWORD"
#: What of a password YAML, JSON and shown texts all bear: printable ASCII without blanks, quotes and backslashes.
#: Shorter ones would be found, and hidden, in the midst of other words.
FIT_PASSWORD = re.compile(r"[!#-\[\]-~]{8,128}")
LARGEST_BYTES = 256 * 1024
#: What etcd says at its gateway to a certificate with a common name, while it asks for a certificate and a password.
COMMON_NAME = "CommonName of client"
NAMELESS = " (while authentication is enabled there, the certificate must have no common name: ask for one without)"
ASK_SECONDS = 30


def given(topology: Topology, vault: Vault) -> dict[str, str]:
    """Return what operators gave for a foreign etcd, by the names that the vault has for it; empty without one.

    Raises UsageError when a file cannot be read, or is not what it should be; none of it is ever in a message.
    """
    etcd = topology.foreign_etcd
    if etcd is None:
        return {}
    found: dict[str, str] = {}
    if etcd.ca_file:
        found[foreign.AUTHORITY] = authority(etcd.ca_file)
    if etcd.certificate_file and etcd.key_file:
        found[foreign.CERTIFICATE], found[foreign.KEY] = pair(etcd.certificate_file, etcd.key_file)
    if etcd.user and (password := password_of(etcd, vault)) is not None:
        found[foreign.PASSWORD] = password
    return found


def text_of(key: str, path: str) -> str:
    """Return a file's text, with a newline at its end."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or type(error).__name__}"
        raise refusal(message, key, "correct the path, or let the user that runs pgbaton read the file") from None
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not text.strip() or len(data) > LARGEST_BYTES:
        message = f"{path} holds no text of the kind that is wanted"
        raise refusal(message, key, "name a file in PEM, or of one line")
    return text.rstrip("\n") + "\n"


def refusal(message: str, key: str, hint: str) -> UsageError:
    """Return the error for something that was given and will not do."""
    return UsageError(message, where=f"etcd.{key}", hint=hint)


def authority(path: str) -> str:
    """Return the certificates that etcd's own are signed by."""
    text = text_of("ca_file", path)
    try:
        x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        message = f"{path} holds no certificate in PEM"
        raise refusal(message, "ca_file", "name the authority's certificate") from None
    return text


def pair(certificate_file: str, key_file: str) -> tuple[str, str]:
    """Return a certificate and its key."""
    certificate, key = text_of("certificate_file", certificate_file), text_of("key_file", key_file)
    try:
        public = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    except ValueError:
        message = f"{certificate_file} holds no certificate in PEM"
        raise refusal(message, "certificate_file", "name the client's certificate") from None
    try:
        private = serialization.load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError):
        message = f"{key_file} holds no key in PEM, or one with a passphrase, which nobody could type on the hosts"
        raise refusal(message, "key_file", "name the key without a passphrase, readable by you alone") from None
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != private.public_key().public_bytes(*form):
        message = f"{key_file} is not the key of {certificate_file}"
        raise refusal(message, "key_file", "name the two that belong together")
    return certificate, key


def password_of(etcd: ForeignEtcd, vault: Vault) -> str | None:
    """Return the user's password; None when nobody gives one, and the vault has that of an earlier apply."""
    if etcd.password_file:
        password: str | None = text_of("password_file", etcd.password_file).split("\n")[0]
        place = etcd.password_file
    else:
        password, place = os.environ.get(VARIABLE), VARIABLE
    if password is None:
        if vault.holds(foreign.PASSWORD):
            return None
        message = f"there is no password of {etcd.user}"
        raise refusal(message, "user", f"set etcd.password_file, or {VARIABLE} in the environment of this command")
    if not FIT_PASSWORD.fullmatch(password):
        message = f"the password in {place} is not one that every file here can carry"
        hint = "use 8 to 128 printable characters of ASCII, no blanks, no double quotes, no backslashes"
        raise refusal(message, "user", hint)
    return password


def refuse_another(before: Topology | None, topology: Topology) -> None:
    """Raise RefusedError when a cluster that was deployed would get another etcd, or other keys of the same.

    Its Patronis change one after another: those with the old etcd would go on leading there while others elect anew.
    """
    if before is None or before.is_manual or topology.is_manual:
        return
    was, wanted = before.foreign_etcd, topology.foreign_etcd
    if (was is None) != (wanted is None):
        message = (
            "the etcd of a cluster that was deployed cannot be changed: there would be two leader locks for a while"
        )
        kept = "give the same hosts the role dcs again" if was is None else "put the endpoints in etcd back"
        raise RefusedError(message, hint=f"{kept}; a new cluster can have its etcd elsewhere")
    if was is None or wanted is None:
        return
    if before.dcs_prefix != topology.dcs_prefix:
        message = f"the cluster's record is below {before.dcs_prefix} in etcd, and would be below {topology.dcs_prefix}"
        raise RefusedError(message, hint="keep etcd.namespace and cluster.scope as they were")
    if not set(was.places) & set(wanted.places):
        message = "none of etcd.endpoints is one of before: nobody can tell whether this is the same etcd"
        hint = f"keep one of {', '.join(was.endpoints)} for this apply, and take it out with the next"
        raise RefusedError(message, hint=hint)


@dataclass(frozen=True)
class Answer:
    """What one host was told: by each endpoint, and by its own disk which database's data it has (None: none)."""

    host: str
    endpoints: tuple[Mapping[str, Any], ...]
    system: str | None = None

    @property
    def fit(self) -> tuple[Mapping[str, Any], ...]:
        """Return what the endpoints say that answered."""
        return tuple(each for each in self.endpoints if each["ok"])

    @property
    def failures(self) -> tuple[str, ...]:
        """Return which endpoints did not, and why."""
        failed = ((each["endpoint"], str(each["reason"])) for each in self.endpoints if not each["ok"])
        return tuple(f"{place}: {why}{NAMELESS if COMMON_NAME in why else ''}" for place, why in failed)


async def check(
    topology: Topology, hosts: Mapping[str, Host], vault: Vault, *, before: Topology | None, fresh: bool = False
) -> tuple[str, ...]:
    """Try the foreign etcd from every host that will ask it; return what is worth knowing of it.

    Raises RefusedError with all that stands in the way. ``before`` is the topology that was applied to the end last;
    ``fresh`` says that nothing of the cluster was ever applied from here.
    """
    etcd = topology.foreign_etcd
    if etcd is None:
        return ()
    asking = [host for host in topology.hosts if foreign.Foreign().runs_on(topology, host)]
    answers = await together(*(ask(topology, etcd, host, hosts[host.name], vault) for host in asking))
    wrong = [*complaints(topology, answers, before), *(leftovers(topology, answers) if fresh else ())]
    if wrong:
        message = "\n  ".join(["the foreign etcd will not do; nothing was changed:", *wrong])
        hint = "see to it, then run the same command again; docs/howto/use-an-existing-etcd.md"
        raise RefusedError(message, where="etcd.endpoints", hint=hint)
    return tuple(remarks(answers))


async def ask(topology: Topology, etcd: ForeignEtcd, spec: HostSpec, host: Host, vault: Vault) -> Answer:
    """Ask from one host, with what it will be given; raises RefusedError when it cannot ask at all."""
    call = f"main('fitness', json.loads({json.dumps(settings(topology, etcd, spec, vault))!r}))"
    try:
        result = await host.run("python3", "-I", "-S", "-", input=foreign.program(call), timeout=ASK_SECONDS)
        told = json.loads(result.stdout)
    except UnreachableError:
        raise
    except (CommandError, ValueError) as error:
        # A traceback would end with the line that holds the secrets.
        said = vault.redact(error.message if isinstance(error, CommandError) else str(error)).strip().splitlines()
        message = f"it cannot try the foreign etcd: {said[-1] if said else 'python3 said nothing'}"
        raise RefusedError(message, where=spec.name, hint="install python3 there, and run the same again") from None
    return Answer(spec.name, tuple(told["endpoints"]), told["system"])


def settings(topology: Topology, etcd: ForeignEtcd, spec: HostSpec, vault: Vault) -> dict[str, Any]:
    """Return what a host has to know to try it; this holds secrets, and goes over standard input only."""
    texts = {"authority_text": foreign.AUTHORITY} if etcd.ca_file else {}
    texts |= {"certificate_text": foreign.CERTIFICATE, "key_text": foreign.KEY} if etcd.certificate_file else {}
    texts |= {"password": foreign.PASSWORD} if etcd.user else {}
    return {
        **foreign.where(topology, etcd),
        **({"user": etcd.user} if etcd.user else {}),
        **{key: vault.value(name) for key, name in texts.items()},
        **({"data_directory": topology.data_directory} if spec.has(Role.DATABASE) else {}),
    }


def complaints(topology: Topology, answers: Sequence[Answer], before: Topology | None) -> Iterator[str]:
    """Yield what stands in the way of leaning on it. Pure."""
    for answer in answers:
        needed = len(answer.endpoints) // 2 + 1
        if len(answer.fit) < needed:
            seen = f"{len(answer.fit)} of {len(answer.endpoints)} endpoints serve it, wanted: {needed}"
            yield f"{answer.host}: {seen}; {'; '.join(answer.failures)}"
    clusters = {str(each["cluster"]) for answer in answers for each in answer.fit}
    if len(clusters) > 1:
        identities = ", ".join(sorted(clusters))
        yield f"the endpoints are of different etcds, by their identities {identities}: name those of one"
    yield from about_endpoints(topology, answers, before)
    for alarm in sorted({alarm for answer in answers for each in answer.fit for alarm in each["alarms"] or ()}):
        yield f"etcd has the alarm {alarm}, and takes no writes: its operators have to see to it"
    owners = {each["initialize"] for answer in answers for each in answer.fit}
    if owners:
        yield from about_record(topology, answers, next(iter(owners)) if len(owners) == 1 else "", before)


def about_endpoints(topology: Topology, answers: Sequence[Answer], before: Topology | None) -> Iterator[str]:
    """Yield whether other endpoints than before cannot be told to be of the same etcd. Pure."""
    was = set(before.etcd.places) if before else set()
    if not was or was == set(topology.etcd.places):
        return
    known = {str(each["endpoint"]) for answer in answers for each in answer.fit} & was
    if not known:
        yield "no endpoint of before answers: nobody can tell whether the others are of the same etcd; keep one of them"


def about_record(
    topology: Topology, answers: Sequence[Answer], owner: str | None, before: Topology | None
) -> Iterator[str]:
    """Yield what is wrong with whose record is below the prefix. Pure.

    ``owner`` is the identifier of the database that it is about, empty while one is made, None when there is no record.
    """
    prefix = topology.dcs_prefix
    own = {answer.host: answer.system for answer in answers if answer.system is not None}
    others = {host: system for host, system in own.items() if system != owner}
    if owner and others:
        found = ", ".join(f"{system} on {host}" for host, system in sorted(others.items()))
        yield f"{prefix} is the record of database {owner}, and the data here are of {found}: another cluster's record"
    elif owner and not own and before is None:
        yield (
            f"{prefix} is the record of another cluster, of database {owner}: choose another cluster.scope or "
            f"etcd.namespace; if that cluster is gone for good: etcdctl del --prefix {prefix}"
        )
    elif owner is None and own:
        hosts = ", ".join(sorted(own))
        yield (
            f"there are data on {hosts}, and no record of them below {prefix}: this is another etcd than theirs, or it "
            "was emptied; a Patroni that leads writes it anew by itself"
        )


def leftovers(topology: Topology, answers: Sequence[Answer]) -> Iterator[str]:
    """Yield what is below the prefix of a cluster that is new: its first Patroni would take it over. Pure."""
    told = [each for answer in answers for each in answer.fit if each["initialize"] is None]
    most = max((int(each["keys"]) for each in told), default=0)
    if most:
        prefix = topology.dcs_prefix
        yield (
            f"{most} keys are below {prefix} already, and no cluster's record is: choose another cluster.scope or "
            f"etcd.namespace; if nobody needs them any more: etcdctl del --prefix {prefix}"
        )


def remarks(answers: Sequence[Answer]) -> Iterator[str]:
    """Yield what is worth knowing of an etcd that will do. Pure."""
    for answer in answers:
        if answer.failures:
            yield f"etcd: not every endpoint answers {answer.host}: {'; '.join(answer.failures)}"
    told = [each for answer in answers for each in answer.fit]
    if all(each["quota_bytes"] is None for each in told):
        yield "etcd: its quota and its compaction cannot be seen from here; its operators see to both"
    if all(each["alarms"] is None for each in told):
        yield "etcd: its alarms are not shown to this user; status cannot tell of them"
