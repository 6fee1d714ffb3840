"""Files in a bucket of other people's S3 server: written in parts, listed, read, deleted, and what a server that is away costs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from deploy.embedded.ports import HOST
from ingress.auth.caller import Caller
from ingress.batches.batch import state_path
from ingress.files.names import StoredFile
from ingress.files.shelf import Quota, Shelf
from ingress.files.store import open_files
from ingress.http.refusals import Refusal
from schemas.runtime.process.clock import Clock
from tests.foreign.packages import S3_SERVER, python_with

_PORT = 5917
_PIECES = 400
_PIECE = b"x" * 65_536
_READY_S = 30.0


@contextmanager
def running_server(python: Path) -> Iterator[str]:
    """The server with an empty bucket, and its URL; it is ended by its pid."""
    program = python.with_name("moto_server")
    url = f"http://{HOST}:{_PORT}"
    server = subprocess.Popen(
        [str(program), "-H", HOST, "-p", str(_PORT)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until_s = time.monotonic() + _READY_S
        signed = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
        while True:
            try:
                made = httpx.put(
                    f"{url}/bucket", headers={"authorization": signed}, trust_env=False
                )
                made.raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < until_s, "the S3 server does not answer"
                time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait(10)


async def _pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield _PIECE


async def used() -> None:
    """All that is done with files, by organizations with odd names."""
    shelf = Shelf(open_files("s3://bucket/below"), Quota(3, 10**9), Clock())
    mine, other = (Caller("k", org, None, None, None) for org in ("a/b..c@", "a"))

    def describe(name: str, size: int) -> StoredFile:
        return StoredFile(name, size, 'ä "quoted" name', "batch")

    large = await shelf.put(mine.org, _pieces(_PIECES), 0, describe)
    empty = await shelf.put(mine.org, _pieces(0), 0, describe)
    assert isinstance(large, StoredFile)
    assert isinstance(empty, StoredFile)
    assert large.bytes == _PIECES * len(_PIECE)
    assert await shelf.files(mine) == [empty, large]
    assert await shelf.files(other) == []
    assert isinstance(await shelf.find(other, large.id), Refusal)
    opened = await shelf.open(mine, large.id)
    assert not isinstance(opened, Refusal)
    assert sum([len(piece) async for piece in opened[1]]) == large.bytes
    assert await shelf.store.read_at(f"{_contents(mine)}/{large.id}", 5, 7) == b"x" * 7
    claims = await asyncio.gather(
        *(shelf.store.claim(state_path("a", "batch_x", 1), b"%d" % at) for at in range(8))
    )
    assert sum(claims) == 1, "of many at once one makes an object"
    assert await shelf.delete(mine, large.id) == large
    assert await shelf.files(mine) == [empty]


def _contents(caller: Caller) -> str:
    assert caller.org == "a/b..c@"
    return "a%2Fb%2E%2Ec%40/contents"


async def refused() -> float:
    """A bucket that is not there, and a server that is not: 503 each; the seconds that this took."""
    began_s = time.monotonic()
    caller = Caller("k", "a", None, None, None)
    for url in ("s3://nobody/x", "s3://bucket/x"):
        if url == "s3://bucket/x":
            os.environ["AWS_ENDPOINT_URL"] = f"http://{HOST}:1"
        told = await Shelf(open_files(url), Quota(3, 10**9), Clock()).files(caller)
        assert isinstance(told, Refusal)
        assert told.status == httpx.codes.SERVICE_UNAVAILABLE
    return time.monotonic() - began_s


def main() -> int:
    """Run it; 0 when all is as it should be, or the server cannot be had here."""
    python = python_with(S3_SERVER)
    if python is None:
        return 0
    with running_server(python) as url:
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": url,
        }
        asyncio.run(used())
        took_s = asyncio.run(refused())
    print(f"files in a bucket: all as they should be; what was away was told within {took_s:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
