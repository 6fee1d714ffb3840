"""Says how requests are begun; shared by the processes that begin them."""

from __future__ import annotations

from pydantic import Field

from schemas.runtime.process.settings import DataPlaneSettings

_MIB = 1024 * 1024


class RequestSettings(DataPlaneSettings):
    """Settings of the processes that begin requests: ingress for its clients, batches for their lines."""

    disk_free_min_bytes: int = Field(default=1_024 * _MIB, ge=0)
    """Free bytes on a broker's disk below which no request is taken."""
    idempotency_keys_max: int = Field(default=200_000, ge=1)
    """Idempotency keys of one organization that are remembered, for a day; more are answered 429."""
    tokenizers_dir: str = ""
    """Directory of the tokenizer files that models name, at most 32 MiB each; none is read when it is empty."""
