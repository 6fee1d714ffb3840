"""Spans of what stores are asked for a request that is traced: a function of the ledger, or a reply on the bus."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from schemas import span_names as names
from schemas.runtime.process.tracing import Kind, Span, Tracer

__all__ = ["calling", "replying"]

_FUNCTION: Final = "FCALL"
_SYSTEM: Final = "redis"
"""The conventions' name of the protocol; Valkey speaks it."""


def calling(tracer: Tracer, request_id: str, function: str, answer: asyncio.Future[Any]) -> None:
    """A span of a function that is asked about the request, until its ``answer`` is there."""
    if (parent := tracer.of(request_id)) is None:
        return
    span = tracer.below(
        parent,
        f"{_FUNCTION} {function}",
        Kind.CLIENT,
        {
            names.DB_SYSTEM: _SYSTEM,
            names.DB_OPERATION: _FUNCTION,
            names.DB_PROCEDURE: function,
            names.REQUEST_ID: request_id,
        },
    )
    answer.add_done_callback(partial(_answered, span))


def replying(tracer: Tracer, request_id: str, channel: str, stored: asyncio.Future[Any]) -> None:
    """A span of the end that is told to whoever waits for the request, until the bus has ``stored`` it."""
    if (parent := tracer.of(request_id)) is None:
        return
    span = tracer.below(
        parent,
        "send reply",
        Kind.PRODUCER,
        {
            names.MESSAGING_SYSTEM: _SYSTEM,
            names.MESSAGING_OPERATION_NAME: "send",
            names.MESSAGING_OPERATION_TYPE: "send",
            names.MESSAGING_DESTINATION: channel,
            names.REQUEST_ID: request_id,
        },
    )
    stored.add_done_callback(partial(_answered, span))


def _answered(span: Span, answer: asyncio.Future[Any]) -> None:
    if answer.cancelled():
        span.end("cancelled")
    else:
        error = answer.exception()
        span.end(None if error is None else type(error).__name__)
