"""What the process of batches is told by its environment."""

from __future__ import annotations

from pydantic import Field, field_validator

from ingress.files.settings import FilesPlaceSettings
from ingress.request_settings import RequestSettings


class BatchesSettings(RequestSettings, FilesPlaceSettings):
    """Settings of the process that runs batches, prefix ``TALLYGATE_``."""

    http_port: int
    """Port of ``/livez``, ``/readyz`` and ``/metrics``."""
    batch_lines_max: int = Field(default=16, ge=1, le=1_024)
    """Lines of one batch that are under way at once in this process."""
    batch_lines_per_s: float = Field(default=20.0, gt=0, le=10_000)
    """Lines of all batches that begin in a second in this process: what they take of the gateway is bounded by that, however fast
    backends answer."""

    @field_validator("files_url")
    @classmethod
    def _is_given(cls, url: str) -> str:
        if not url:
            raise ValueError("is needed: batches are files, in the place that every ingress has")
        return url
