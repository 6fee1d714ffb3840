"""How much of ingress a reader has to know to follow one plain request."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import ingress
from schemas.events import RateStatus
from schemas.frames import Terminal
from tests.support.gateway import Gateway

_ROOT = Path(ingress.__path__[0])
_FILES_MAX = 15
_RATE = RateStatus(id="org:requests_per_s", limit=9, remaining=8, reset_ms=1)
"""Of which workers tell in every answer."""


async def test_a_plain_request_touches_few_files() -> None:
    """Of a chat completion that is not streamed, by the files of which a function runs.

    A file more is a hop more for whoever reads; what only some requests need is elsewhere.
    """
    gateway = Gateway()
    gateway.log.worker = lambda _: (Terminal(200, body=b"{}", rates=(_RATE,)),)
    await gateway.chat()
    touched: set[str] = set()

    def note(frame: FrameType, _event: str, _arg: object) -> None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_ROOT):
            touched.add(str(path.relative_to(_ROOT)))

    before = sys.gettrace()
    sys.settrace(note)
    try:
        answer = await gateway.chat()
    finally:
        sys.settrace(before)

    assert answer.status_code == 200
    assert len(touched) <= _FILES_MAX, sorted(touched)
