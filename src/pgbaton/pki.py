"""The cluster's own certificate authority. Pure but for randomness: nothing is read or written here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pgbaton.components.base import Certificate

#: A certificate that expires within this time is renewed by the next apply.
RENEW_BEFORE = timedelta(days=30)
AUTHORITY_DAYS = 3650
#: Clocks of hosts may be apart by this much.
CLOCK_SKEW = timedelta(hours=1)


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, both PEM."""

    certificate: str
    key: str


def make_authority(common_name: str) -> Issued:
    """Return a new authority: a self-signed certificate that may sign others, but no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = _builder(name, name, key, days=AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    return _signed(builder, key, key)


def issue(authority: Issued, wanted: Certificate, *, days: int) -> Issued:
    """Return a new certificate with a key of its own, signed by the authority."""
    ca = x509.load_pem_x509_certificate(authority.certificate.encode())
    ca_key = serialization.load_pem_private_key(authority.key.encode(), password=None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        message = "the authority's key is not an elliptic-curve key"
        raise TypeError(message)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, wanted.common_name)] if wanted.common_name else []
    builder = _builder(x509.Name(subject), ca.subject, key, days=days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(_usages(wanted)), critical=False)
    if _alternative_names(wanted):
        builder = builder.add_extension(x509.SubjectAlternativeName(_alternative_names(wanted)), critical=False)
    return _signed(builder, key, ca_key)


def serves(pem: str, wanted: Certificate, *, authority: str, now: datetime) -> bool:
    """Tell whether a certificate is what is wanted, signed by the authority, and valid for a while yet."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.encode()))
    except (ValueError, TypeError, InvalidSignature):
        return False
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if certificate.not_valid_after_utc - now < min(RENEW_BEFORE, lifetime / 2):
        return False
    return _names_in(certificate) == _names_wanted(wanted)


def expires(pem: str) -> datetime:
    """Return when a certificate ends, in UTC."""
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _signed(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> Issued:
    subject_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(subject_id, critical=False).add_extension(authority_id, critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    encoded_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Issued(certificate.public_bytes(serialization.Encoding.PEM).decode(), encoded_key.decode())


def _usages(wanted: Certificate) -> list[x509.ObjectIdentifier]:
    usages = {ExtendedKeyUsageOID.SERVER_AUTH: wanted.server, ExtendedKeyUsageOID.CLIENT_AUTH: wanted.client}
    return [usage for usage, asked in usages.items() if asked]


def _alternative_names(wanted: Certificate) -> list[x509.GeneralName]:
    addresses = [x509.IPAddress(ip_address(address)) for address in wanted.addresses]
    return [*(x509.DNSName(name) for name in wanted.dns_names), *addresses]


def _names_wanted(wanted: Certificate) -> tuple[str, frozenset[str], frozenset[str]]:
    usages = frozenset(usage.dotted_string for usage in _usages(wanted))
    return wanted.common_name, frozenset({*wanted.addresses, *wanted.dns_names}), usages


def _names_in(certificate: x509.Certificate) -> tuple[str, frozenset[str], frozenset[str]]:
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    names: set[str] = set()
    usages: frozenset[str] = frozenset()
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names.update(str(name.value) for name in extension.value)
        if isinstance(extension.value, x509.ExtendedKeyUsage):
            usages = frozenset(usage.dotted_string for usage in extension.value)
    return str(common[0].value) if common else "", frozenset(names), usages
