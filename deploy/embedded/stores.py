"""Ledger and bus of a stack: which program serves them, where, and how clients are let in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from deploy.embedded.cluster import ClusterNode, cluster_settings
from deploy.embedded.ledger_shape import LedgerShape, link
from deploy.embedded.ports import HOST
from deploy.embedded.store_users import password_of, users_file
from deploy.embedded.tls import Certificates


@dataclass(frozen=True)
class Stores:
    """The servers, by their names and ports."""

    shape: LedgerShape
    ports: Mapping[str, int]
    program: Path
    certificates: Certificates | None = None
    """With them every connection is TLS, both ways and between servers."""
    secret: str = ""
    """With it each process is a user of its own."""

    @property
    def ledger_url(self) -> str:
        """Where the ledger's clients connect to."""
        return self.ledger_url_of("")

    @property
    def bus_url(self) -> str:
        """Where the clients of the bus connect to."""
        return self.bus_url_of("")

    def ledger_url_of(self, role: str) -> str:
        """The same for one of the processes, which may be a user of its own."""
        if not self.shape.is_cluster:
            return self._url("", [self.ports["ledger"]], role)
        return self._url("+cluster", [self.ports[name] for name in self.shape.names], role)

    def bus_url_of(self, role: str) -> str:
        """The same for one of the processes."""
        return self._url("", [self.ports["bus"]], role)

    def users(self, name: str) -> str | None:
        """The file of users of a server; none where everybody is the default user."""
        return (
            users_file("bus" if name == "bus" else "ledger", self.secret) if self.secret else None
        )

    @property
    def nodes(self) -> Sequence[ClusterNode]:
        """The ledger's servers as those of a cluster; none where one stands alone."""
        if not self.shape.is_cluster:
            return ()
        return [ClusterNode(self.ports[name], self.ports[link(name)]) for name in self.shape.names]

    def url(self, port: int) -> str:
        """Of one server."""
        return self._url("", [port])

    def settings(self, name: str) -> str:
        """Where a server listens and to whom: the part of its configuration that depends on the stack."""
        port = self.ports[name]
        lines = f"port {port}\n"
        if self.certificates is not None:
            lines = f"port 0\ntls-port {port}\n{_tls_settings(self.certificates)}"
        if name in self.shape.names and self.shape.is_cluster:
            lines += cluster_settings(self.ports[link(name)])
        return lines

    def _url(self, kind: str, ports: Sequence[int], role: str = "") -> str:
        servers = ",".join(f"{HOST}:{port}" for port in ports)
        if role and self.secret:
            servers = f"{role}:{password_of(self.secret, role)}@{servers}"
        if self.certificates is None:
            return f"redis{kind}://{servers}" + ("" if kind else "/0")
        options = {
            "ssl_ca_certs": self.certificates.authority,
            "ssl_certfile": self.certificates.certificate("client"),
            "ssl_keyfile": self.certificates.key("client"),
        }
        return f"rediss{kind}://{servers}{'' if kind else '/0'}?{urlencode(options)}"


def _tls_settings(certificates: Certificates) -> str:
    return f"""\
tls-cert-file "{certificates.certificate("server")}"
tls-key-file "{certificates.key("server")}"
tls-ca-cert-file "{certificates.authority}"
tls-auth-clients yes
tls-replication yes
tls-cluster yes
"""
