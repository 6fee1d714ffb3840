"""The routes of files and batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deploy.reference.openapi.common_errors import CALLER
from deploy.reference.openapi.contract import Answer, Named, RouteContract, header, in_path, query
from ingress.apis.openai.batches import BatchList, BatchObject
from ingress.apis.openai.files import FileDeleted, FileList, FileObject
from ingress.batches.lines import BATCHED
from ingress.http import paths
from schemas.errors import ErrorCode

_UPLOAD: Final = Named(
    "FileUpload",
    {
        "type": "object",
        "required": ["file", "purpose"],
        "properties": {
            "file": {"type": "string", "contentMediaType": "application/octet-stream"},
            "purpose": {"type": "string", "enum": ["batch"]},
            "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
            "expires_after[seconds]": {"type": "integer", "minimum": 3_600, "maximum": 2_592_000},
        },
    },
)
_UPLOADING: Final = {
    ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.BODY_TOO_LARGE,
    ErrorCode.BODY_TOO_SLOW,
    ErrorCode.RATE_LIMIT_EXCEEDED,
}
_ONE: Final = f"{paths.FILES}/{{file_id}}"


def file_routes() -> Iterator[RouteContract]:
    """All of them; 404 also where the gateway keeps no files."""
    known = CALLER | {ErrorCode.NOT_FOUND}
    file_id = in_path("file_id", "The id of a file.")
    shown = {200: Answer("The file.", FileObject)}
    yield RouteContract(
        "files.create",
        "openai",
        "POST",
        paths.FILES,
        "Upload a file.",
        shown,
        known | _UPLOADING,
        body=_UPLOAD,
        body_media="multipart/form-data",
    )
    yield RouteContract(
        "files.list",
        "openai",
        "GET",
        paths.FILES,
        "List files.",
        {200: Answer("A page.", FileList)},
        known,
        (
            query("limit", "How many.", type="integer", minimum=1, maximum=10_000, default=10_000),
            query("after", "The id of a file: those behind it."),
            query("order", "By time.", type="string", enum=["asc", "desc"], default="desc"),
            query("purpose", "Only those of it."),
        ),
    )
    yield RouteContract(
        "files.show", "openai", "GET", _ONE, "One file.", shown, known, (file_id,)
    )  # fmt: skip
    gone = {200: Answer("It is there no more.", FileDeleted)}
    yield RouteContract(
        "files.delete", "openai", "DELETE", _ONE, "Delete a file.", gone, known, (file_id,)
    )
    yield RouteContract(
        "files.content",
        "openai",
        "GET",
        f"{_ONE}/content",
        "What a file contains.",
        {200: Answer("Its bytes.", None, ("application/octet-stream",))},
        known,
        (file_id,),
    )


_BATCH: Final = Named(
    "BatchRequest",
    {
        "type": "object",
        "required": ["input_file_id", "endpoint", "completion_window"],
        "properties": {
            "input_file_id": {"type": "string"},
            "endpoint": {"type": "string", "enum": list(BATCHED)},
            "completion_window": {"type": "string", "enum": ["24h"]},
            "metadata": {
                "type": ["object", "null"],
                "additionalProperties": {"type": "string", "maxLength": 512},
                "maxProperties": 16,
            },
            "output_expires_after": {
                "type": ["object", "null"],
                "required": ["anchor", "seconds"],
                "properties": {
                    "anchor": {"type": "string", "enum": ["created_at"]},
                    "seconds": {"type": "integer", "minimum": 3_600, "maximum": 2_592_000},
                },
            },
        },
    },
)
_READING: Final = {
    ErrorCode.INVALID_JSON,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.BODY_TOO_LARGE,
    ErrorCode.BODY_TOO_SLOW,
    ErrorCode.RATE_LIMIT_EXCEEDED,
}


def batch_routes() -> Iterator[RouteContract]:
    """All of them; 404 also where the gateway keeps no files."""
    known = CALLER | {ErrorCode.NOT_FOUND}
    one, batch_id = f"{paths.BATCHES}/{{batch_id}}", in_path("batch_id", "The id of a batch.")
    shown = {200: Answer("The batch.", BatchObject)}
    yield RouteContract(
        "batches.create",
        "openai",
        "POST",
        paths.BATCHES,
        "Run the requests of a file when there is room.",
        shown,
        known | _READING,
        (
            header(
                "X-Tallygate-Webhook-Url",
                "Where its end is told; it begins with an address that the organization allows.",
            ),
        ),
        body=_BATCH,
    )
    yield RouteContract(
        "batches.list",
        "openai",
        "GET",
        paths.BATCHES,
        "List batches, newest first.",
        {200: Answer("A page.", BatchList)},
        known,
        (
            query("limit", "How many.", type="integer", minimum=1, maximum=100, default=20),
            query("after", "The id of a batch: those before it."),
        ),
    )
    yield RouteContract(
        "batches.show", "openai", "GET", one, "One batch.", shown, known, (batch_id,)
    )
    yield RouteContract(
        "batches.cancel",
        "openai",
        "POST",
        f"{one}/cancel",
        "Cancel a batch; the answer is what it is now.",
        shown,
        known,
        (batch_id,),
    )
