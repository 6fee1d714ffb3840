"""What the control plane is told by its environment."""

from __future__ import annotations

from pydantic import SecretStr, model_validator

from schemas.config_signing import Signer
from schemas.runtime.process.settings import PepperSettings, signer_of


class AdminSettings(PepperSettings):
    """Settings of the admin process, prefix ``TALLYGATE_``."""

    admin_port: int = 8443
    """Port of ``/admin/v1``, which only this machine's programs may use whatever the host is, and of
    ``/v1/status`` and ``/metrics``."""
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
