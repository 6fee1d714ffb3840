"""Certificates for tests of TLS, made by the ``openssl`` program: an authority, and what it vouches for."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_LEAF = """\
subjectAltName={name}
basicConstraints=CA:FALSE
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""


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
        self.pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", "keyUsage=critical,keyCertSign"),
            *("-keyout", self.pair.key, "-out", self.pair.certificate),
        )

    def vouch(self, who: str, name: str = "IP:127.0.0.1") -> Pair:
        """A certificate for a name such as ``DNS:example.org``."""
        pair = Pair(self._folder / f"{who}.pem", self._folder / f"{who}.key")
        asked, told = self._folder / f"{who}.csr", self._folder / f"{who}.ext"
        told.write_text(_LEAF.format(name=name))
        _openssl(
            "req", "-new", *_NEW_KEY, "-subj", f"/CN={who}", "-keyout", pair.key, "-out", asked
        )
        _openssl(
            *("x509", "-req", "-in", asked, "-CA", self.pair.certificate, "-CAkey", self.pair.key),
            *("-CAcreateserial", "-days", "2", "-extfile", told, "-out", pair.certificate),
        )
        return pair


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=20)
