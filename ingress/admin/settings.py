"""What the control plane is told by its environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr, model_validator

from schemas.admin_roles import read_roles
from schemas.config_signing import Signer
from schemas.runtime.process.pepper_settings import PepperSettings, WebhookPepperSettings
from schemas.runtime.process.server_tls import ServerFiles
from schemas.runtime.process.settings import signer_of


class AdminSettings(PepperSettings, WebhookPepperSettings):
    """Settings of the admin process, prefix ``TALLYGATE_``."""

    admin_port: int = 8443
    """Port of ``/admin/v1``, which without TLS only this machine's programs may use whatever the host is, and of
    ``/v1/status`` and ``/metrics``."""
    admin_tls_cert: Path | None = None
    """PEM file of the admin port's certificate. With it the port speaks TLS, and only with who has a certificate."""
    admin_tls_key: Path | None = None
    """PEM file of its key."""
    admin_tls_client_ca: Path | None = None
    """PEM file of who vouches for the certificates of clients."""
    admin_roles: Path | None = None
    """File of who may do what under TLS, a line ``ROLE IDENTITY`` each; obeyed from the next request on."""

    config_signing_key: SecretStr | None = None
    """Private key that signs what this process writes into the configuration, as ``tallygate config keys`` prints it."""

    @property
    def config_signer(self) -> Signer | None:
        """Whoever signs what is written here; ``None`` where nothing is signed."""
        return signer_of("admin", self.config_signing_key, self.config_verify_keys)

    @model_validator(mode="after")
    def _can_sign(self) -> AdminSettings:
        _ = self.config_signer
        return self

    @property
    def admin_tls(self) -> ServerFiles | None:
        """The files of mutual TLS; ``None`` where the admin port is plain HTTP."""
        files = (self.admin_tls_cert, self.admin_tls_key, self.admin_tls_client_ca)
        certificate, key, clients = files
        if certificate is None or key is None or clients is None:
            return None
        return ServerFiles(certificate, key, clients)

    @property
    def opens_admin_port(self) -> bool:
        """Whether anybody of this machine may use the admin port."""
        return self.admin_tls is None

    @model_validator(mode="after")
    def _has_all_of_tls(self) -> AdminSettings:
        names = ("admin_tls_cert", "admin_tls_key", "admin_tls_client_ca", "admin_roles")
        left_out = [name for name in names if getattr(self, name) is None]
        if len(left_out) == len(names):
            return self
        if left_out:
            variables = ", ".join(f"TALLYGATE_{name.upper()}" for name in left_out)
            raise ValueError(f"TLS of the admin port also needs {variables}")
        _check_files(self)
        return self


def _check_files(settings: AdminSettings) -> None:
    """Raises ``ValueError`` for what the process could not start with."""
    assert settings.admin_tls is not None
    assert settings.admin_roles is not None
    try:
        settings.admin_tls.context()
        settings.admin_tls.expires_at_s()
    except (OSError, ValueError) as error:
        raise ValueError(f"the files of TALLYGATE_ADMIN_TLS_* cannot be used: {error}") from error
    try:
        read_roles(settings.admin_roles.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"the file of TALLYGATE_ADMIN_ROLES cannot be used: {error}") from error
