"""The bus: how answers travel from workers to the ingress that holds the connection.

A frame is stored in its request's stream first and announced on the ingress's channel second, with
the body inline. Pub/sub may lose it; the stream is what a reader falls back to.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Final

from schemas.frames import Frame, Terminal, decode_frame, encode_frame
from schemas.ledger.owners import instance_of
from schemas.runtime.valkey.opening import open_store
from schemas.runtime.valkey.store import NodeView
from schemas.times import FULL, Times

COUNTED: Final = ("counted:due", "counted:owners", "counted:bytes")
"""Where the bus counts what each organization has on it; bus.lua has the types."""
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


@dataclass(frozen=True, slots=True)
class Long:
    """A stream that holds much, or for long: whose it is, from which frame on it is kept, and how much that is."""

    org: str
    first_seq: int
    size_bytes: int


class Bus:
    """Sends and reads frames. Raises what ``Store`` raises."""

    def __init__(self, url: str, times: Times = FULL) -> None:
        self._times = times
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
        self, frame: Frame, reply_to: str | None, *, kept: bool = False, long: Long | None = None
    ) -> bool:
        """Store and announce the frame; False when a newer fence or the same number was there.

        ``kept`` frames stay for minutes, in streams for a day, others until shortly after their
        request ended. ``long`` says how much is kept of a stream that is counted.
        """
        counted, bounds = ((), ()) if long is None else (COUNTED, _bounds(frame, long))
        appended = await self.store.call(
            "FCALL",
            "tgbus1_send",
            1 + len(counted),
            stream_of(frame.request_id),
            *counted,
            f"{frame.fence}-{frame.seq}",
            encode_frame(frame),
            reply_to or "",
            _ttl_ms(self._times, frame, kept=kept),
            *bounds,
        )
        return bool(appended)

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


def _bounds(frame: Frame, long: Long) -> tuple[str | int, ...]:
    oldest = f"{frame.fence}-{long.first_seq}"
    return oldest, long.org, long.size_bytes, _STREAMS_PER_ORG_BYTES_MAX, _STREAMS_BYTES_MAX


def _ttl_ms(times: Times, frame: Frame, *, kept: bool) -> int:
    is_stream = frame.seq > 1 or not isinstance(frame.content, Terminal)
    if kept:
        return times.streams_kept_ms if is_stream else times.frames_kept_ms
    is_over = isinstance(frame.content, Terminal)
    return times.frames_ended_ms if is_over else times.frames_running_ms
