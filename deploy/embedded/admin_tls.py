"""Certificates of the admin port of this machine: the port's own, one for each role, and the file of roles."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.embedded.tls import LOOPBACK, Certificates, Holder, make_certificates
from schemas.admin_roles import Role

_FOLDER: Final = "admin-tls"
_URI: Final = "spiffe://tallygate.dev/{role}"
_SERVER: Final = "server"


@dataclass(frozen=True)
class AdminCertificates:
    """The files, in their folder of a state folder."""

    files: Certificates

    @property
    def roles(self) -> Path:
        """Who may do what."""
        return self.files.folder / "roles"

    def settings(self) -> dict[str, str]:
        """What the control plane is told."""
        return {
            "TALLYGATE_ADMIN_TLS_CERT": str(self.files.certificate(_SERVER)),
            "TALLYGATE_ADMIN_TLS_KEY": str(self.files.key(_SERVER)),
            "TALLYGATE_ADMIN_TLS_CLIENT_CA": str(self.files.authority),
            "TALLYGATE_ADMIN_ROLES": str(self.roles),
        }

    def of_client(self, role: Role = Role.OWNER) -> dict[str, str]:
        """What a command line is told."""
        return {
            "TALLYGATE_ADMIN_CA": str(self.files.authority),
            "TALLYGATE_ADMIN_CERT": str(self.files.certificate(role)),
            "TALLYGATE_ADMIN_CERT_KEY": str(self.files.key(role)),
        }

    def client_context(self, role: Role = Role.OWNER) -> ssl.SSLContext:
        """How somebody of this machine speaks to the port."""
        context = ssl.create_default_context(cafile=self.files.authority)
        context.load_cert_chain(self.files.certificate(role), self.files.key(role))
        return context


def identity(role: Role) -> str:
    """What the certificate of a role is called."""
    return "uri:" + _URI.format(role=role)


def admin_certificates(state_dir: Path) -> AdminCertificates:
    """Where they are, or would be."""
    return AdminCertificates(Certificates(state_dir / _FOLDER))


def ensure_admin_certificates(
    state_dir: Path, hosts: Sequence[str] = (), *, anew: bool = False
) -> bool:
    """Make them unless they are there, or `anew`; whether they were made. Raises `StackError`."""
    made = admin_certificates(state_dir)
    if made.files.authority.exists() and made.roles.exists() and not anew:
        return False
    server = Holder(_SERVER, hosts=(*LOOPBACK, *hosts), is_server=True)
    clients = [Holder(role, uri=_URI.format(role=role), is_client=True) for role in Role]
    make_certificates(made.files.folder, [server, *clients])
    lines = [f"{role} {identity(role)}" for role in Role]
    made.roles.write_text("\n".join(["# ROLE IDENTITY", *lines, ""]), encoding="utf-8")
    return True
