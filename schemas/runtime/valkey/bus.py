"""The bus: how answers travel from workers to the ingress that holds the connection.

A frame is stored in its request's stream first and announced on the ingress's channel second, with
the body inline. Pub/sub may lose it; the stream is what a reader falls back to.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from importlib import resources
from typing import Any, Final

import msgspec

from schemas.frames import Frame, Terminal, decode_frame, encode_frame
from schemas.ledger.owners import instance_of
from schemas.runtime.process.tracing import Tracer
from schemas.runtime.valkey.opening import open_store
from schemas.runtime.valkey.spans import replying
from schemas.runtime.valkey.store import NodeView, StoreUnavailable
from schemas.times import FULL, Times

_COUNTED: Final = ("{counted}due", "{counted}owners", "{counted}bytes")
"""Where the bus counts what each organization has on it; bus.lua has the types."""
_TOO_LATE_MS: Final = 60_000
"""How long the newest frame stays of a stream for which there was no room."""
_STREAMS_PER_ORG_BYTES_MAX: Final = 64 * 1024 * 1024
_STREAMS_BYTES_MAX: Final = 96 * 1024 * 1024
"""Half of the bus's memory at most is for what may be read late."""


def channel_of(ingress_instance: str) -> str:
    """The channel on which an ingress hears of frames."""
    return f"ing:{ingress_instance}"


def cancel_channel_of(instance_id: str) -> str:
    """The channel on which a dispatcher hears which of its requests were cancelled."""
    return f"dsp:{instance_id}"


def stream_of(request_id: str) -> str:
    """The stream that keeps a request's frames."""
    return f"rep:{request_id}"


class Long(msgspec.Struct, frozen=True):
    """A stream that holds much, or for long: whose it is, from which frame on it is kept, and how much that is."""

    org: str
    first_seq: int
    size_bytes: int


class Bus:
    """Sends and reads frames. Raises what ``Store`` raises."""

    def __init__(self, url: str, times: Times = FULL, tracer: Tracer | None = None) -> None:
        self._times = times
        self._tracer = tracer
        source = resources.files(__package__).joinpath("bus.lua").read_bytes()

        async def load(node: NodeView) -> None:
            await node.send("FUNCTION", "LOAD", "REPLACE", source)

        self.store = open_store(url, on_connect=load)

    @property
    def connection(self) -> int:
        """The number of the connection in use; behind another one frames may be gone."""
        return self.store.connections

    async def start(self) -> None:
        """Connect."""
        await self.store.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self.store.stop()

    async def send(
        self,
        frame: Frame,
        reply_to: str | None,
        *,
        kept: bool = False,
        long: Long | None = None,
        of_job: bool = False,
    ) -> bool:
        """Store and announce the frame; False when a newer fence or the same number was there.

        ``kept`` frames stay for minutes, in streams for a day or, ``of_job``, for a quarter of an hour, others until
        shortly after their request ended. ``long`` says how much is kept of a stream that is counted.
        """
        stream = stream_of(frame.request_id)
        ttl_ms = _ttl_ms(self._times, frame, kept=kept, of_job=of_job)
        oldest = () if long is None else (f"{frame.fence}-{long.first_seq}",)
        sending = self.store.call(
            "FCALL",
            "tgbus2_send",
            1,
            stream,
            f"{frame.fence}-{frame.seq}",
            encode_frame(frame),
            reply_to or "",
            ttl_ms,
            *oldest,
        )
        if self._tracer is not None and isinstance(frame.content, Terminal):
            replying(self._tracer, frame.request_id, reply_to or "", sending)
        if long is None:
            return bool(await sending)
        most = (_STREAMS_PER_ORG_BYTES_MAX, _STREAMS_BYTES_MAX)
        counting = self.count(stream, long.org, long.size_bytes, ttl_ms, *most)
        appended, has_room = await asyncio.gather(sending, _or_none(counting))
        if has_room == 0:
            # Who has not read the earlier frames is too late.
            await asyncio.gather(
                self.store.call("XTRIM", stream, "MAXLEN", 1),
                self.store.call("PEXPIRE", stream, _TOO_LATE_MS, "LT"),
            )
        return bool(appended)

    def count(
        self, name: str, org: str, size_bytes: int, ttl_ms: int, of_org_max: int, of_all_max: int
    ) -> asyncio.Future[Any]:
        """Count what an organization has here under this name, anew; the future holds 0 when there is no room."""
        entry = (name, org, size_bytes, ttl_ms, of_org_max, of_all_max)
        return self.store.call("FCALL", "tgbus2_count", len(_COUNTED), *_COUNTED, *entry)

    def forget(self, name: str) -> asyncio.Future[Any]:
        """Count it no longer."""
        return self.store.call("FCALL", "tgbus2_forget", len(_COUNTED), *_COUNTED, name)

    async def read(self, request_id: str, after: str, count: int = 256) -> list[Frame]:
        """Frames of the request after the stream id ``after`` (``0-0`` for all), oldest first."""
        entries = await self.store.call(
            "XRANGE", stream_of(request_id), f"({after}", "+", "COUNT", count
        )
        return [decode_frame(fields[1]) for _, fields in entries]

    async def last(self, request_id: str) -> Frame | None:
        """The newest frame of the request; ``None`` when there is none."""
        entries = await self.store.call("XREVRANGE", stream_of(request_id), "+", "-", "COUNT", 1)
        return decode_frame(entries[0][1][1]) if entries else None

    async def tell_cancelled(self, owner: str, request_id: str) -> None:
        """Ring the owner of a running attempt; one that does not hear it learns from its lease."""
        await self.store.call("PUBLISH", cancel_channel_of(instance_of(owner)), request_id)


async def _or_none(counting: asyncio.Future[Any]) -> Any:
    """What was counted; nothing while the server that counts is away: the next frame is counted."""
    with suppress(StoreUnavailable):
        return await counting
    return None


def _ttl_ms(times: Times, frame: Frame, *, kept: bool, of_job: bool) -> int:
    is_stream = frame.seq > 1 or not isinstance(frame.content, Terminal)
    if kept and is_stream:
        return times.job_streams_kept_ms if of_job else times.streams_kept_ms
    if kept:
        return times.frames_kept_ms
    is_over = isinstance(frame.content, Terminal)
    return times.frames_ended_ms if is_over else times.frames_running_ms
