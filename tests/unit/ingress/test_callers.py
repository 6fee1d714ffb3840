"""How kinds of credentials are composed: the order in which they are asked, and what is asked at all."""

from __future__ import annotations

from ingress.auth.api_key import ApiKeys
from ingress.auth.caller import Caller, Verdict
from ingress.auth.callers import Callers
from ingress.http.refusals import Refusal
from ingress.http.request import Credentials
from schemas.config_state import Snapshot
from schemas.errors import ErrorCode
from schemas.peppers import Peppers
from tests.support.configuration import PEPPER, UNKNOWN_SECRET
from tests.support.gateway import Gateway

_AWAY = Refusal(ErrorCode.SERVICE_UNAVAILABLE, "It cannot be told now who calls.")


class _Tickets:
    """Knows bearer tokens that begin with a letter of its own."""

    def __init__(self, letter: str, verdict: Verdict) -> None:
        self.asked: list[str] = []
        self._letter = letter
        self._verdict = verdict

    async def tell(self, credentials: Credentials, snapshot: Snapshot, now_ms: int) -> Verdict:
        self.asked.append(credentials.secret)
        is_mine = credentials.is_bearer and credentials.secret.startswith(self._letter)
        return self._verdict if is_mine else None


def _gateway(*others: _Tickets) -> Gateway:
    gateway = Gateway()
    gateway.gatekeeper.callers = Callers(ApiKeys(Peppers((PEPPER,)), Peppers(())), others)
    return gateway


async def _status(gateway: Gateway, secret: str) -> int:
    gateway.client.headers = {"authorization": f"Bearer {secret}"}
    return (await gateway.chat()).status_code


async def test_what_is_no_api_key_is_asked_for_in_order() -> None:
    """The first that calls the credentials its kind decides; nobody behind it is asked."""
    let_in = _Tickets("a", Caller("key_a", "acme", None, None, None))
    refused = _Tickets("b", _AWAY)
    gateway = _gateway(let_in, refused)

    assert await _status(gateway, "a-ticket") == 200
    assert await _status(gateway, "b-ticket") == 503
    assert await _status(gateway, "c-ticket") == 401
    assert (let_in.asked, refused.asked) == (
        ["a-ticket", "b-ticket", "c-ticket"],
        ["b-ticket", "c-ticket"],
    )
    assert len(gateway.log.accepted) == 1


async def test_nobody_is_asked_about_an_api_key() -> None:
    """Not even about one that nobody knows: who uses a key pays nothing for other kinds, and a service that is asked
    sees no secret of another."""
    tickets = _Tickets("t", Caller("key_a", "acme", None, None, None))
    gateway = _gateway(tickets)

    assert (await gateway.chat()).status_code == 200
    assert await _status(gateway, UNKNOWN_SECRET) == 401
    assert await _status(gateway, UNKNOWN_SECRET[:-1] + "!") == 401
    assert tickets.asked == []


async def test_other_callers_use_every_route() -> None:
    """A request without a body waits for its caller just so."""
    tickets = _Tickets("t", Caller("key_a", "acme", None, None, ("echo",)))
    gateway = _gateway(tickets)
    gateway.client.headers = {"authorization": "Bearer t"}

    listed = await gateway.client.get("/v1/models")
    jobs = await gateway.client.get("/v1/jobs")

    assert ([model["id"] for model in listed.json()["data"]], jobs.status_code) == (["echo"], 200)


async def test_a_defect_of_one_costs_its_own_request() -> None:
    """It is answered with 500, and the next request is served."""

    class _Broken:
        async def tell(self, credentials: Credentials, snapshot: Snapshot, now_ms: int) -> Verdict:
            raise LookupError("a defect")

    gateway = Gateway()
    gateway.gatekeeper.callers = Callers(ApiKeys(Peppers((PEPPER,)), Peppers(())), (_Broken(),))

    assert (await gateway.chat()).status_code == 200
    assert await _status(gateway, "any") == 500
