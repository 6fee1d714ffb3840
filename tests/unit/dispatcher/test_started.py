"""The first frame of a stream: that it has begun, and what its surface repeats of a job."""

from __future__ import annotations

import msgspec
import pytest

from schemas.frames import Started
from tests.support.attempt_scene import FakeBus, asking_for, attempt_run
from tests.support.scripted_backend import backend, choice_of, streaming, upstreams

_CHUNKS = (
    b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
)


@pytest.mark.parametrize("background", [False, True])
async def test_frames_of_a_job_say_what_its_surface_repeats(background: bool) -> None:
    """Who reads them later has nothing else of its request; who waits has it."""
    request = asking_for("m", stream=True)
    request = msgspec.structs.replace(request, background=background, shown=b"[{}]")
    bus = FakeBus()
    async with backend(streaming(*_CHUNKS)) as url, upstreams({"BACKEND_B1_API_KEY": "S"}) as calls:
        await attempt_run(calls, choice_of(url), request, bus).run()

    (started,) = [event for event in bus.events if isinstance(event, Started)]
    assert started.shown == (b"[{}]" if background else None)
