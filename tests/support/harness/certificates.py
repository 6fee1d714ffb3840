"""Certificates for tests of TLS: an authority, and what it vouches for, whatever it says and whenever it holds."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.embedded import tls

DAY = timedelta(days=1)


def nine_days() -> AbstractContextManager[object]:
    """The embedded stack's certificates that are made inside end in nine days, when `tallygate doctor` and the alert speak."""
    return patch.object(tls, "_LASTS", 9 * DAY)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Vouches for whom it likes."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        signs = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
        builder = _builder(self._name, self._name, self._key, (-DAY, 2 * DAY))
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        own = builder.add_extension(signs, critical=True).sign(self._key, hashes.SHA256())
        self.pair = _written(folder, name, own, self._key)

    def vouch(
        self, who: str, *names: str, holds: tuple[timedelta, timedelta] = (-DAY, 2 * DAY)
    ) -> Pair:
        """A certificate for names such as ``DNS:example.org``, by default ours; it holds from and to, from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = _builder(_named(who), self._name, key, holds)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        builder = builder.add_extension(signer, critical=False)
        if shown := [_name(name) for name in names or ("IP:127.0.0.1",) if name]:
            builder = builder.add_extension(x509.SubjectAlternativeName(shown), critical=False)
        return _written(self._folder, who, builder.sign(self._key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    holds: tuple[timedelta, timedelta],
) -> x509.CertificateBuilder:
    now, public = datetime.now(UTC), key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + holds[0])
        .not_valid_after(now + holds[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _written(
    folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> Pair:
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    pair.key.chmod(0o600)
    return pair


def _name(text: str) -> x509.GeneralName:
    kind, _, name = text.partition(":")
    if kind == "IP":
        return x509.IPAddress(ip_address(name))
    return x509.DNSName(name) if kind == "DNS" else x509.UniformResourceIdentifier(name)


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
