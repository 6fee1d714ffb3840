"""Says where files are kept and how much of them; shared by the processes that read and write them."""

from __future__ import annotations

from typing import Final

from pydantic import Field, field_validator

from schemas.runtime.process.settings import ProcessSettings

_MIB: Final = 1024 * 1024
_SCHEMES: Final = ("file:///", "s3://")


class FilesPlaceSettings(ProcessSettings):
    """Where files are kept."""

    files_url: str = ""
    """Where files of clients are kept: a folder that every ingress and every process of batches shares, `file:///var/lib/tallygate/files`, or a bucket,
    `s3://bucket/below`, with `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION` and, where it is not Amazon's,
    `AWS_ENDPOINT_URL`. There are no files, and no batches, when it is empty."""

    @field_validator("files_url")
    @classmethod
    def _is_a_place_for_files(cls, url: str) -> str:
        if url and not url.startswith(_SCHEMES):
            raise ValueError(f"must begin with {' or '.join(_SCHEMES)}")
        return url


class FileSettings(FilesPlaceSettings):
    """Settings of files that clients bring."""

    file_bytes_max: int = Field(default=200 * _MIB, ge=1_024, le=5 * 1024 * _MIB)
    """Bytes of one file; a larger one is answered 413."""
    org_files_bytes_max: int = Field(default=10 * 1024 * _MIB, ge=1_024)
    """Bytes of all files of one organization; what would be more is answered 413."""
    org_files_max: int = Field(default=10_000, ge=1, le=100_000)
    """Files of one organization; one more is answered 413."""
