"""A fixed piece of work that CPU time is compared with: what it takes here and now says how fast the machine is.

JSON, a hash and a loop, much like what processes do. It never changes, or all figures relative to it do.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import Final

_DOCUMENT: Final = {
    "id": "req_0123456789",
    "messages": [{"role": "user", "content": "hello " * 20}] * 3,
    "numbers": [1.5] * 20,
}
_DOCUMENTS: Final = 60
_STEPS: Final = 8_000


def reference_cpu_ms() -> float:
    """Do the work once, about 1.5 ms; the CPU time that it took, in milliseconds."""
    started_s = time.thread_time()
    for _ in range(_DOCUMENTS):
        text = json.dumps(_DOCUMENT).encode()
        hashlib.sha256(text).hexdigest()
        json.loads(text)
    sum(step * step % 7 for step in range(_STEPS))
    return (time.thread_time() - started_s) * 1_000
