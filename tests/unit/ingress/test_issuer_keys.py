"""The keys of an identity provider: found, kept, read again, and never asked for by a flood."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ingress.auth.bounded_get import bounded_client
from ingress.auth.callers_file import Issuer
from ingress.auth.oidc.issuer_keys import IssuerKeys
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from tests.support.harness.certificates import Authority
from tests.support.scripted_service import ScriptedService, answered, scripted_service
from tests.support.tokens import RsaSigner, key_set
from tests.support.waiting import until

_SIGNER = RsaSigner()
_NEW = RsaSigner(kid="rsa-2")
_DISCOVERY = "/.well-known/openid-configuration"


class _Clock(Clock):
    """Time that a test moves on."""

    ahead_s = 0.0

    def now_ms(self) -> int:
        return int((1_700_000_000 + self.ahead_s) * 1_000)

    def monotonic_s(self) -> float:
        return 1_000.0 + self.ahead_s


class _Provider:
    """What a provider publishes."""

    def __init__(self) -> None:
        self.keys = [_SIGNER.jwk()]
        self.service: ScriptedService | None = None
        self.odd: dict[str, bytes | None] = {}

    def answer(self, path: str, _: dict[str, str]) -> bytes | None:
        assert self.service is not None
        if path in self.odd:
            return self.odd[path]
        url = self.service.url
        if path == _DISCOVERY:
            return answered({"issuer": url, "jwks_uri": f"{url}/keys"})
        return answered(key_set(*self.keys))


@asynccontextmanager
async def _keys(
    provider: _Provider, folder: Path, clock: _Clock | None = None
) -> AsyncIterator[IssuerKeys]:
    async with scripted_service(provider.answer) as service:
        provider.service = service
        async with _asking(service.url, folder, clock) as keys:
            yield keys


@asynccontextmanager
async def _asking(
    url: str, folder: Path, clock: _Clock | None = None, ca_file: Path | None = None
) -> AsyncIterator[IssuerKeys]:
    issuer = Issuer(name="corp", issuer=url, audience="tallygate", org="acme")
    client = bounded_client(ca_file, 4)
    try:
        yield IssuerKeys(issuer, client, folder, clock or _Clock(), Metrics())
    finally:
        await client.aclose()


async def test_keys_are_found_by_discovery(tmp_path: Path) -> None:
    """At the address that the issuer's own document names."""
    provider = _Provider()
    async with _keys(provider, tmp_path) as keys:
        found = await keys.candidates("rsa-1", "RS256")

    assert found is not None
    assert [key.kid for key in found] == ["rsa-1"]
    assert provider.service is not None
    assert provider.service.paths() == [_DISCOVERY, "/keys"]


async def test_an_unknown_key_has_the_set_read_once_in_thirty_seconds(tmp_path: Path) -> None:
    """Two hundred tokens under invented keys at once are two questions; a new key is known at once after that time."""
    provider, clock = _Provider(), _Clock()
    async with _keys(provider, tmp_path, clock) as keys:
        await keys.candidates("rsa-1", "RS256")
        service = provider.service
        assert service is not None
        provider.keys.append(_NEW.jwk())
        assert await keys.candidates("rsa-2", "RS256") == []
        assert len(service.asked) == 2

        clock.ahead_s = 30.0
        asking = [keys.candidates(f"invented-{n}", "RS256") for n in range(200)]
        assert {tuple(found or ()) for found in await asyncio.gather(*asking)} == {()}
        assert len(service.asked) == 4
        assert await keys.candidates("rsa-2", "RS256") != []
        await keys.candidates("invented", "RS256")
        assert len(service.asked) == 4


async def test_a_provider_that_names_no_keys_may_have_a_new_one(tmp_path: Path) -> None:
    """A token under it has the set read again as well, as often and no more often."""
    provider, clock = _Provider(), _Clock()
    provider.keys = [RsaSigner(kid=None).jwk()]
    async with _keys(provider, tmp_path, clock) as keys:
        await keys.candidates(None, "RS256")
        provider.keys = [_NEW.jwk(kid=None)]
        assert await keys.newer_candidates("RS256") == ()
        clock.ahead_s = 30.0
        assert len(await keys.newer_candidates("RS256")) == 1
        assert await keys.newer_candidates("RS256") == ()
        assert provider.service is not None
        assert len(provider.service.asked) == 4


async def test_the_last_good_set_holds_a_day_without_the_provider(tmp_path: Path) -> None:
    """Also in a process that was started since, from its file; then nobody can tell any more."""
    clock = _Clock()
    async with _keys(_Provider(), tmp_path, clock) as keys:
        await keys.candidates("rsa-1", "RS256")
        url = keys._issuer.issuer
    clock.ahead_s = 23 * 3_600.0
    async with _asking(url, tmp_path, clock) as keys:
        background = asyncio.create_task(keys.run())
        await until(lambda: keys.trouble is not None)
        background.cancel()

        assert await keys.candidates("rsa-1", "RS256")
        clock.ahead_s = 25 * 3_600.0
        assert await keys.candidates("rsa-1", "RS256") is None


async def test_another_issuers_file_is_not_taken(tmp_path: Path) -> None:
    """A name may be given to another provider; its old keys must not sign for the new one."""
    async with _keys(_Provider(), tmp_path) as keys:
        await keys.candidates("rsa-1", "RS256")
    async with _asking("http://127.0.0.1:1", tmp_path) as keys:
        background = asyncio.create_task(keys.run())
        await until(lambda: keys.trouble is not None)
        background.cancel()

        assert keys.current is None


_ODD: dict[str, Callable[[str], dict[str, bytes | None]]] = {
    "another issuer": lambda url: {
        _DISCOVERY: answered({"issuer": "https://x.example.com", "jwks_uri": f"{url}/keys"})
    },
    "keys over plain HTTP elsewhere": lambda url: {
        _DISCOVERY: answered({"issuer": url, "jwks_uri": "http://192.0.2.1/keys"})
    },
    "keys in a file": lambda url: {
        _DISCOVERY: answered({"issuer": url, "jwks_uri": "file:///etc/passwd"})
    },
    "a redirect": lambda url: {_DISCOVERY: answered(status=302, location=f"{url}/elsewhere")},
    "an error": lambda _: {"/keys": answered(status=500)},
    "no JSON": lambda _: {"/keys": answered(b"<html>")},
    "no list": lambda _: {"/keys": answered({"keys": {}})},
    "no key": lambda _: {"/keys": answered(key_set())},
    "odd keys": lambda _: {"/keys": answered({"keys": [7, None, {}, {"kty": []}, {"kty": "RSA"}]})},
    "a secret key": lambda _: {
        "/keys": answered(key_set({"kty": "oct", "k": "AAAA", "alg": "HS256"}))
    },
    "a short key": lambda _: {"/keys": answered(key_set(RsaSigner(bits=1_024).jwk()))},
    "too much": lambda _: {"/keys": answered(b"[" + b" " * 300_000 + b"]")},
    "compressed": lambda _: {"/keys": answered(b"x", content_encoding="gzip")},
    "no HTTP": lambda _: {"/keys": b"SSH-2.0-OpenSSH\r\n"},
    "a length that lies": lambda _: {"/keys": answered(b"{}", content_length="-7")},
}


_SAID = {
    "another issuer": "it says that it is 'https://x.example.com'",
    "keys over plain HTTP elsewhere": "jwks_uri must be https://",
    "keys in a file": "jwks_uri must be an https:// address",
    "a redirect": "the status 302",
    "too much": "more than 262144 bytes",
    "compressed": "compressed",
}


@pytest.mark.parametrize("how", _ODD)
async def test_an_odd_answer_changes_nothing(how: str, tmp_path: Path) -> None:
    """What was good stays in force, and the trouble is told; nothing else is asked."""
    provider, clock = _Provider(), _Clock()
    async with _keys(provider, tmp_path, clock) as keys:
        await keys.candidates("rsa-1", "RS256")
        assert provider.service is not None
        provider.odd = _ODD[how](provider.service.url)
        clock.ahead_s = 60.0
        await keys.candidates("rsa-9", "RS256")

        assert keys.trouble is not None
        assert _SAID.get(how, "") in keys.trouble
        assert await keys.candidates("rsa-1", "RS256")
    assert set(provider.service.paths()) <= {_DISCOVERY, "/keys"}


async def test_a_certificate_is_judged_by_the_file_that_is_named(tmp_path: Path) -> None:
    """Keys are read from the provider itself and from nobody who stands in its place."""
    ours, others = Authority(tmp_path / "ours", "ours"), Authority(tmp_path / "others", "others")
    pair, elsewhere = ours.vouch("provider"), ours.vouch("elsewhere", "DNS:elsewhere.example.com")
    for shown, judge, is_read in (
        (pair, ours.pair.certificate, True),
        (pair, others.pair.certificate, False),
        (pair, None, False),
        (elsewhere, ours.pair.certificate, False),
    ):
        provider = _Provider()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(shown.certificate, shown.key)
        async with (
            scripted_service(provider.answer, tls) as provider.service,
            _asking(provider.service.url, tmp_path / "kept", ca_file=judge) as keys,
        ):
            assert (await keys.candidates("rsa-1", "RS256") is not None) is is_read
            assert len(provider.service.asked) == (2 if is_read else 0)


async def test_a_provider_that_hangs_is_waited_for_three_seconds(tmp_path: Path) -> None:
    """Then nobody can tell; who comes meanwhile shares the wait."""
    provider = _Provider()
    provider.odd = {_DISCOVERY: None}
    async with _keys(provider, tmp_path) as keys:
        began_s = asyncio.get_running_loop().time()
        asking: list[Any] = [keys.candidates("rsa-1", "RS256") for _ in range(20)]
        assert await asyncio.gather(*asking) == [None] * 20

        assert 2.5 < asyncio.get_running_loop().time() - began_s < 5
        assert provider.service is not None
        assert len(provider.service.asked) == 1
        assert keys.trouble == "discovery: no answer within 3 s"
