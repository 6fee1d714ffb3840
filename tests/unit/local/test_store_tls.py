"""TLS of the stores: what is made, who may read it, and what a client is told."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from deploy.embedded.ledger_shape import LedgerShape, ledger_ports
from deploy.embedded.problem import StackError
from deploy.embedded.stores import Stores
from deploy.embedded.tls import Certificates, ensure_certificates
from deploy.embedded.valkey import store_program


def test_certificates_are_made_once_and_their_keys_are_private(tmp_path: Path) -> None:
    """Both sides load; the authority can sign nothing any more."""
    made = ensure_certificates(tmp_path / "tls")
    first = made.certificate("server").read_bytes()

    again = ensure_certificates(tmp_path / "tls")

    assert again == made
    assert again.certificate("server").read_bytes() == first
    context = ssl.create_default_context(cafile=made.authority)
    context.load_cert_chain(made.certificate("client"), made.key("client"))
    assert {made.key(side).stat().st_mode & 0o777 for side in ("server", "client")} == {0o600}
    assert not list(made.folder.glob("authority.key"))


def test_what_an_interrupted_start_left_is_made_anew(tmp_path: Path) -> None:
    """Half a folder would vouch for nobody."""
    for name in ("tls", "tls.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "server.key").write_text("half")

    assert "BEGIN CERTIFICATE" in ensure_certificates(tmp_path / "tls").authority.read_text()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """With what to do about it."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StackError, match="cannot be written"):
        ensure_certificates(tmp_path / "file" / "tls")


def test_clients_and_servers_are_told_of_tls_together(tmp_path: Path) -> None:
    """A port without TLS is not open, and nobody comes without a certificate."""
    shape = LedgerShape(3)
    stores = Stores(shape, {**ledger_ports(shape), "bus": 1}, tmp_path, _certificates(tmp_path))

    assert stores.bus_url.startswith("rediss://127.0.0.1:1/0?ssl_ca_certs=")
    assert stores.ledger_url.startswith("rediss+cluster://127.0.0.1:6400,127.0.0.1:6402,")
    settings = stores.settings("ledger-0").splitlines()
    assert {"port 0", "tls-port 6400", "tls-auth-clients yes", "tls-cluster yes"} <= {*settings}


def test_a_server_that_cannot_be_started_is_refused_with_its_remedy(tmp_path: Path) -> None:
    """No program, and the embedded one, which has no TLS."""
    with pytest.raises(StackError, match="is no program"):
        store_program(tmp_path / "none", has_tls=False)
    with pytest.raises(StackError, match="has no TLS"):
        store_program(None, has_tls=True)


def _certificates(folder: Path) -> Certificates:
    return Certificates(folder / "tls")
