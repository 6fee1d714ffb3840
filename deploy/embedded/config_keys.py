"""The keys that sign the configuration of a stack: each derived from one secret of its state folder. Pure."""

from __future__ import annotations

import hashlib
import hmac

from deploy.embedded.state import Memory
from schemas.config_signing import Signer, SignerName, read_signer


def signer_of_stack(memory: Memory, name: SignerName) -> Signer:
    """Whoever signs under that name, the same at every start."""
    return read_signer(name, _key(memory, name))


def config_settings(memory: Memory, role: str) -> dict[str, str]:
    """What a process is told: whose signatures it believes, and its own key if it writes. While a log from before is not
    signed, everybody is believed."""
    settings = {}
    if role in ("admin", "accounting"):
        settings["TALLYGATE_CONFIG_SIGNING_KEY"] = _key(memory, role)
    if memory.is_config_signed:
        names: tuple[SignerName, ...] = ("admin", "accounting")
        keys = (f"{name}={signer_of_stack(memory, name).public}" for name in names)
        settings["TALLYGATE_CONFIG_VERIFY_KEYS"] = ",".join(keys)
    return settings


def _key(memory: Memory, name: str) -> str:
    secret = bytes.fromhex(memory.config_secret)
    return hmac.new(secret, name.encode(), hashlib.sha256).hexdigest()
