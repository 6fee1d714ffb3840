"""The last-known-good configuration on disk, so that a process boots when Kafka is away."""

from __future__ import annotations

from pathlib import Path

import msgspec

from schemas.config_state import ConfigState
from schemas.events import ConfigEntry
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

_COPY_NAME = "config.json"


class _Closed(msgspec.Struct, frozen=True):
    """An entity whose newest record could not be read."""

    kind: str
    id: str
    what: str


class _Copy(msgspec.Struct, frozen=True):
    offset: int
    entries: list[ConfigEntry]
    closed: list[_Closed] = []


class ConfigCopy:
    """One file, replaced whole: readers see the old or the new one, never half."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _COPY_NAME

    def read(self) -> ConfigState | None:
        """The configuration in the file; ``None`` when there is none that can be read."""
        try:
            copy = msgspec.json.decode(self.path.read_bytes(), type=_Copy)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, ValueError, RecursionError) as error:
            _LOG.event(LogEvent.CONFIG_COPY_UNREADABLE, path=str(self.path), error=error)
            return None
        state = ConfigState()
        for entry in copy.entries:
            state.apply(entry, copy.offset)
        for one in copy.closed:
            state.close((one.kind, one.id), one.what, copy.offset)
        state.offset = copy.offset
        return state

    def write(self, state: ConfigState) -> None:
        """Replace the file; when that fails it is said, and the older one stays."""
        closed = [_Closed(*who, state.refused[who].what) for who in state.refused]
        copy = _Copy(state.offset, list(state.entries.values()), closed)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(copy))
            fresh.replace(self.path)
        except OSError as error:
            _LOG.event(LogEvent.CONFIG_COPY_NOT_KEPT, path=str(self.path), error=error)
