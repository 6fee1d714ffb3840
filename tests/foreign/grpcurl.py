"""grpcurl, a client that nobody here wrote, against a running stack: `python -m tests.foreign.grpcurl`.

It knows nothing of the service but what reflection tells: lists it, describes it, calls every method, and is refused as it should be.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.harness.running_stack import running_stack

_MODULE = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
_FOLDER = Path(tempfile.gettempdir()) / "tallygate-foreign" / "go"
_BUILD_S, _CALL_S = 900.0, 60.0
_SERVICE = "tallygate.inference.v1.InferenceService"
_MODEL = "echo-1"


def grpcurl() -> Path | None:
    """The program; ``None``, with a word about it, when it cannot be had."""
    program = _FOLDER / "grpcurl"
    if program.exists():
        return program
    go = shutil.which("go")
    if go is None:
        print("SKIPPED: no Go here for grpcurl", flush=True)
        return None
    own = {**os.environ, "GOBIN": str(_FOLDER), "GOFLAGS": "-mod=mod"}
    try:
        subprocess.run(
            [go, "install", _MODULE],
            env=own,
            check=True,
            timeout=_BUILD_S,
            capture_output=True,
            text=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        print(f"SKIPPED: grpcurl cannot be had: {getattr(error, 'stderr', error)}", flush=True)
        return None
    return program  # fmt: skip


@dataclass
class Transcript:
    """Runs the program, and says what was asked and answered."""

    program: Path
    address: str
    key: str
    is_sound: bool = True

    def ask(
        self, *arguments: str, wants: str = "", code: str | None = None, key: bool = False
    ) -> str:
        """Run it once; its answer must contain ``wants``, or it must be refused with ``code``."""
        headers = ["-H", f"x-api-key: {self.key}"] if key else []
        command = [str(self.program), "-plaintext", *headers, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CALL_S, check=False)
        shown = " ".join(["grpcurl -plaintext", *(["-H …"] * key), *arguments])
        told = done.stdout + done.stderr
        is_right = (f"Code: {code}" in told) if code else done.returncode == 0 and wants in told
        self.is_sound &= is_right
        print(f"{'ok   ' if is_right else 'WRONG'} $ {shown}\n{told.rstrip()}\n", flush=True)
        return done.stdout

    def call(self, method: str, body: Any, **more: Any) -> str:
        """Call a method with a key."""
        sent = json.dumps(body)
        return self.ask("-d", sent, self.address, f"{_SERVICE}/{method}", key=True, **more)


def _all_of_it(tell: Transcript) -> None:
    address = tell.address
    tell.ask(address, "list", wants=_SERVICE)
    tell.ask(address, "describe", _SERVICE, wants="rpc Infer (")
    tell.ask(address, "grpc.health.v1.Health/Check", wants="SERVING")
    request = {"request_id": str(uuid.uuid4()), "model": _MODEL, "payload": "hello"}
    tell.call("Infer", request, wants="total_tokens")
    tell.call("Infer", request, wants="total_tokens")
    stream = {**request, "request_id": str(uuid.uuid4()), "parameters": {"max_tokens": 8}}
    tell.call("InferStream", stream, wants="summary")
    job = json.loads(tell.call("SubmitJob", {"model": _MODEL, "payload": "later"}, wants="QUEUED"))
    tell.call("GetJob", {"job_id": job["job"]["id"]}, wants=job["job"]["id"])
    tell.call("CancelJob", {"job_id": job["job"]["id"]}, wants=job["job"]["id"])
    tell.call("GetJob", {"job_id": str(uuid.uuid4())}, code="NotFound")
    tell.call("Infer", {**request, "request_id": "none"}, code="InvalidArgument")
    tell.call("Infer", {**request, "request_id": str(uuid.uuid4()), "model": "no"}, code="NotFound")
    sent: Sequence[str] = ("-d", json.dumps(request), address, f"{_SERVICE}/Infer")
    tell.ask(*sent, code="Unauthenticated")


def main() -> int:
    """1 when anything was not as it should be."""
    program = grpcurl()
    if program is None:
        return 0
    with tempfile.TemporaryDirectory() as scratch, running_stack(Path(scratch) / "state") as stack:
        tell = Transcript(program, stack.grpc, stack.first_key)
        _all_of_it(tell)
    print("all as it should be" if tell.is_sound else "something is WRONG")
    return 0 if tell.is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
