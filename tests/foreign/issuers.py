"""Access tokens (RFC 9068) of an identity provider that nobody here wrote: `python -m tests.foreign.issuers`.

oidc-provider of npm signs them in four ways, with named keys; ingress finds the keys by discovery and judges the tokens
as it does in the gateway. What cannot be installed is said and left out.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from deploy.bench.running_backend import end_process
from ingress.auth.caller import Caller, Verdict
from ingress.auth.callers_file import CallersFile, Issuer
from ingress.auth.outside import open_outside
from ingress.http.request import Credentials
from schemas.config_state import Snapshot
from schemas.entities import Organization
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from tests.foreign.packages import OIDC_PROVIDER, node_with
from tests.support.harness.identity_provider import free_port

_PROGRAM = Path(__file__).parent / "programs" / "issuer.mjs"
_WAYS = ("RS256", "PS256", "ES256", "EdDSA")
_SNAPSHOT = Snapshot(organizations={"acme": Organization()})
_STOP_S = 5.0


@contextmanager
def _issuer(folder: Path) -> Iterator[str]:
    """The provider, once it answers. Node looks for packages beside the program, so that it is copied there."""
    port = free_port()
    program = shutil.copy(_PROGRAM, folder / _PROGRAM.name)
    node = folder / "node_modules/.bin/node"
    process = subprocess.Popen(
        [str(node), str(program), str(port)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.strip() == "ready":
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdout.close()
        end_process(process, _STOP_S)


def _token(url: str, way: str) -> str:
    asked = {
        "grant_type": "client_credentials",
        "scope": "inference",
        "resource": f"https://gateway.example.com/?alg={way}",
    }
    who = ("agent", "agent-secret")
    answer = httpx.post(f"{url}/token", data=asked, auth=who, trust_env=False)
    token: str = answer.raise_for_status().json()["access_token"]
    return token


async def _told(issuer: Issuer, tokens: list[str], folder: Path) -> list[Verdict]:
    clock = Clock()
    outside = open_outside(CallersFile((issuer,)), None, folder, clock, Metrics())
    (tell,) = outside.authenticators
    shown = [Credentials(token, is_bearer=True, head={}, headers={}) for token in tokens]
    try:
        return [await tell.tell(each, _SNAPSHOT, clock.now_ms()) for each in shown]
    finally:
        await outside.stop()


def main() -> int:
    """0 when every token is believed where its way of signing is allowed, and nowhere else."""
    folder = node_with(OIDC_PROVIDER)
    if folder is None:
        return 0
    with _issuer(folder) as url, tempfile.TemporaryDirectory() as kept:
        tokens = [_token(url, way) for way in _WAYS]
        fields = {"issuer": url, "audience": "tallygate", "org_claim": "org", "orgs": ("acme",)}
        every = Issuer(name="every", algorithms=_WAYS, scope="inference", **fields)  # type: ignore[arg-type]
        one = Issuer(name="one", algorithms=("ES256",), **fields)  # type: ignore[arg-type]
        believed = asyncio.run(_told(every, tokens, Path(kept)))
        only = asyncio.run(_told(one, tokens, Path(kept)))
    for way, told, told_by_one in zip(_WAYS, believed, only, strict=True):
        print(f"{way}: {told}; where only ES256 is allowed: {told_by_one}")
    wrong = [way for way, told in zip(_WAYS, believed, strict=True) if not isinstance(told, Caller)]
    wrong += [
        f"{way}, where only ES256 is allowed"
        for way, told in zip(_WAYS, only, strict=True)
        if isinstance(told, Caller) is not (way == "ES256")
    ]
    print("\n".join(wrong) if wrong else "as promised")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
