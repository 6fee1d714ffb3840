"""Certificates of one machine's stores: an authority, a server's and a client's, made once with openssl.

Invariant: keys are readable by this user alone. They live in the state folder and are of no use anywhere else:
the server's name is the loopback address.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.embedded.ports import HOST
from deploy.embedded.problem import StackError

_DAYS: Final = "3650"
_DEADLINE_S: Final = 30.0
_KIND: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
# Servers are clients of each other. Verifiers that are strict want to know whose key signed.
_EXTENSIONS: Final = f"""\
basicConstraints=CA:FALSE
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
subjectAltName=IP:{HOST},DNS:localhost
extendedKeyUsage=serverAuth,clientAuth
"""


@dataclass(frozen=True)
class Certificates:
    """The files, in one folder."""

    folder: Path

    @property
    def authority(self) -> Path:
        """Who vouches for both sides."""
        return self.folder / "authority.pem"

    def certificate(self, side: str) -> Path:
        """Of the `server` or the `client`."""
        return self.folder / f"{side}.pem"

    def key(self, side: str) -> Path:
        """The secret that belongs to it."""
        return self.folder / f"{side}.key"


def ensure_certificates(folder: Path) -> Certificates:
    """Make them unless they are there. Raises `StackError` without openssl."""
    certificates = Certificates(folder)
    if certificates.authority.exists():
        return certificates
    # What an interrupted start left is of no use: its authority signs nothing any more.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    made, secret = folder / "authority.new", folder / "authority.key"
    _openssl(
        *("req", "-x509", *_KIND, "-days", _DAYS, "-subj", "/CN=tallygate stores"),
        *("-keyout", str(secret), "-out", str(made)),
    )
    for side in ("server", "client"):
        _sign(certificates, side, made, secret)
    # Nobody else is ever vouched for.
    secret.unlink()
    made.rename(certificates.authority)
    return certificates


def _sign(certificates: Certificates, side: str, authority: Path, secret: Path) -> None:
    extensions, request = (certificates.folder / f"{side}.{end}" for end in ("ext", "csr"))
    extensions.write_text(_EXTENSIONS)
    _openssl(
        *("req", *_KIND, "-subj", f"/CN=tallygate {side}"),
        *("-keyout", str(certificates.key(side)), "-out", str(request)),
    )
    _openssl(
        *("x509", "-req", "-in", str(request), "-days", _DAYS, "-CAcreateserial"),
        *("-CA", str(authority), "-CAkey", str(secret), "-extfile", str(extensions)),
        *("-out", str(certificates.certificate(side))),
    )


def _openssl(*arguments: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise StackError(
            "TLS of the stores needs openssl",
            "the certificates are made with it, and it is not on PATH",
            "install it (on Debian: apt-get install openssl), or leave --store-tls out",
        )
    made = subprocess.run(
        (program, *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_DEADLINE_S,
        umask=0o077,
        check=False,
    )
    if made.returncode:
        words = made.stderr.decode(errors="replace").strip()
        raise StackError("openssl made no certificate", words, "try it with another openssl")
