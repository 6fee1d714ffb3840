"""Certificates for one machine: an authority, and whom it vouches for, made once.

Invariant: keys are readable by this user alone, a folder is whole or not there, and its authority vouches for nobody
else ever: its key is not kept.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.embedded.ports import HOST
from deploy.embedded.problem import StackError
from schemas.runtime.process.clock import Clock

_AHEAD: Final = timedelta(hours=1)
"""How much a clock may be behind ours."""
_LASTS: Final = timedelta(days=3_650)
_SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
_CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH
LOOPBACK: Final = (HOST, "::1", "localhost")


@dataclass(frozen=True)
class Holder:
    """Who gets a certificate: the name of its files, and what stands in it."""

    name: str
    hosts: tuple[str, ...] = ()
    uri: str = ""
    is_server: bool = False
    is_client: bool = False


# Servers are clients of each other.
STORE_HOLDERS: Final = tuple(
    Holder(side, hosts=LOOPBACK, is_server=True, is_client=True) for side in ("server", "client")
)


@dataclass(frozen=True)
class Certificates:
    """The files, in one folder."""

    folder: Path

    @property
    def authority(self) -> Path:
        """Who vouches for all of them."""
        return self.folder / "authority.pem"

    def certificate(self, holder: str) -> Path:
        """Of a holder, by its name."""
        return self.folder / f"{holder}.pem"

    def key(self, holder: str) -> Path:
        """The secret that belongs to it."""
        return self.folder / f"{holder}.key"


def ensure_certificates(folder: Path, holders: Sequence[Holder] = STORE_HOLDERS) -> Certificates:
    """Make them unless they are there. Raises `StackError` where they cannot be written."""
    if not Certificates(folder).authority.exists():
        make_certificates(folder, holders)
    return Certificates(folder)


def make_certificates(folder: Path, holders: Sequence[Holder]) -> Certificates:
    """Make all of them anew; what was there is gone. Raises `StackError` where they cannot be written."""
    staging = folder.with_name(f"{folder.name}.new")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700, parents=True)
        now = datetime.fromtimestamp(Clock().local_ms() / 1_000, UTC)
        _write_all(Certificates(staging), holders, now)
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    except OSError as error:
        raise StackError(
            f"certificates cannot be written to {folder}", str(error), "choose another --state-dir"
        ) from error
    return Certificates(folder)


def _write_all(made: Certificates, holders: Sequence[Holder], now: datetime) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    name = _name("tallygate, this machine only")
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        **dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        ),
    )
    authority = (
        _builder(name, name, secret.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(secret, hashes.SHA256())
    )
    for holder in holders:
        _write_pair(made, holder, authority, secret, now)
    made.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))


def _write_pair(
    made: Certificates,
    holder: Holder,
    authority: x509.Certificate,
    secret: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    kinds = [
        kind for kind, has in ((_SERVER, holder.is_server), (_CLIENT, holder.is_client)) if has
    ]
    # Verifiers that are strict want to know whose key signed.
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(secret.public_key())
    certificate = (
        _builder(_name(f"tallygate {holder.name}"), authority.subject, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(signer, critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(holder)), critical=False)
        .add_extension(x509.ExtendedKeyUsage(kinds), critical=False)
        .sign(secret, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    descriptor = os.open(made.key(holder.name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(pem)
    made.certificate(holder.name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _AHEAD)
        .not_valid_after(now + _LASTS)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _names(holder: Holder) -> list[x509.GeneralName]:
    uris: list[x509.GeneralName] = (
        [x509.UniformResourceIdentifier(holder.uri)] if holder.uri else []
    )
    return uris + [_host(host) for host in holder.hosts]


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
