"""Callers without an API key, on a stack of their own: a real identity provider, and a user-org service as a process.

What the backend saw is told by its own log.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.fakes.user_org_service import TOKEN
from tests.support.harness.identity_provider import RunningProvider, free_port, running_provider
from tests.support.harness.kafka_log import KafkaLog, LogRecord
from tests.support.harness.running_stack import RunningStack, running_stack
from tests.support.harness.user_org import RunningService, running_user_org
from tests.support.tokens import RsaSigner, by_shared_secret, pem_of, without_signature

pytestmark = pytest.mark.timeout(300)

MODEL = "echo"
CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 5,
}
USERS: list[dict[str, Any]] = [
    {"sub": "ada", "org": "acme", "models": [MODEL]},
    {"sub": "bob", "org": "acme", "models": [MODEL]},
    {"sub": "mallory", "org": "globex", "models": [MODEL]},
    {"sub": "nowhere", "org": "hooli", "models": [MODEL]},
    {"sub": "poor", "org": "acme", "models": []},
    {"sub": "early", "org": "acme", "models": [MODEL], "nbf": 99_999_999_999},
    {"sub": "auth0|spent", "org": "acme", "models": [MODEL]},
]
CALLERS_FILE = """
[[oidc]]
name = "corp"
issuer = "{issuer}"
audience = "tallygate"
algorithms = ["RS256"]
leeway_s = 0
org_claim = "org"
orgs = ["acme", "hooli"]
models_claim = "models"
id_tokens = true

[[oidc]]
name = "brief"
issuer = "{brief}"
audience = "tallygate"
leeway_s = 0
id_tokens = true
user_org = true

[user_org]
url = "{user_org}"
credential_prefixes = ["corp_"]
timeout_s = 0.5
fresh_s = 2
unknown_s = 1
stale_s = 4
"""


@dataclass
class Scene:
    """Everything that runs."""

    stack: RunningStack
    backend: RunningBackend
    corp: RunningProvider
    brief: RunningProvider
    user_org: RunningService
    client: httpx.Client

    def chat(self, credential: str, **headers: str) -> httpx.Response:
        """A request of whoever has the credential."""
        shown = {"authorization": f"Bearer {credential}"} | headers
        return self.client.post("/chat/completions", json=CHAT, headers=shown)

    def calls(self) -> int:
        """How many the backend has seen."""
        return len(self.backend.calls())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A stack that believes two providers and asks a user-org service."""
    folder = tmp_path_factory.mktemp("callers")
    brief_port = free_port()
    subjects = {f"http://127.0.0.1:{brief_port}": {"carol": {"org": "acme", "user": "carol"}}}
    credentials = {
        "corp_program": {"org": "acme", "project": "search", "key": "batch-7"},
        "corp_lost": {"org": "hooli"},
    }
    with (
        running_backend("fake-c", folder / "backend.jsonl") as backend,
        running_provider(folder / "corp.log", USERS) as corp,
        running_provider(
            folder / "brief.log", [{"sub": "carol"}, {"sub": "dave"}], brief_port, age_s=3
        ) as brief,
        running_user_org(folder, credentials=credentials, subjects=subjects) as user_org,
    ):
        callers = folder / "callers.toml"
        callers.write_text(
            CALLERS_FILE.format(issuer=corp.issuer, brief=brief.issuer, user_org=user_org.url)
        )
        environment = {
            "TALLYGATE_CALLERS_FILE": str(callers),
            "TALLYGATE_USER_ORG_TOKEN": TOKEN,
        }
        with running_stack(folder / "state", [backend], environment=environment) as stack:
            _configure(stack, backend)
            with httpx.Client(base_url=stack.api_url, trust_env=False, timeout=30) as client:
                yield Scene(stack, backend, corp, brief, user_org, client)


def _configure(stack: RunningStack, backend: RunningBackend) -> None:
    with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
        model = {
            "backends": [{"backend": backend.name, "weight": 1}],
            "input_usd_per_mtok": "0.50",
            "output_usd_per_mtok": "1.50",
        }
        admin.put(f"/models/{MODEL}", json=model).raise_for_status()
        for org in ("acme", "globex"):
            admin.put(f"/orgs/{org}", json={}).raise_for_status()
        admin.put("/projects/search", json={"org": "acme"}).raise_for_status()
        spent = {"org": "acme", "limits": {"budgets": [{"usd": "0", "period": "day"}]}}
        admin.put("/users/bob", json=spent).raise_for_status()
    time.sleep(1.0)


def _usage_of(scene: Scene, request_id: str) -> dict[str, Any]:
    """The usage line of a request, read with foreign tools."""

    def found(records: list[LogRecord]) -> list[dict[str, Any]]:
        return [r.value for r in records if r.value.get("request_id") == request_id]

    records = KafkaLog(scene.stack.kafka).read(
        "usage.records.v1", lambda read: bool(found(read)), 20
    )
    (line,) = found(records)
    return line


def test_who_logs_in_at_the_provider_may_call(scene: Scene) -> None:
    """With the token that the provider signed; the usage line says whose it was."""
    answer = scene.chat(scene.corp.token("ada"))
    assert answer.status_code == 200, answer.text
    request_id = answer.headers["x-request-id"]

    line = _usage_of(scene, request_id)
    assert (line["key_id"], line["org"], line["user"]) == ("oidc:corp", "acme", "ada")


def test_limits_of_a_user_hold_for_one_who_logs_in(scene: Scene) -> None:
    """Bob may spend nothing; Ada, of the same organization and provider, may."""
    before = scene.calls()
    bob = scene.chat(scene.corp.token("bob"))
    assert (bob.status_code, bob.json()["error"]["code"]) == (402, "BUDGET_EXCEEDED")
    assert scene.calls() == before
    assert scene.chat(scene.corp.token("ada")).status_code == 200


def _wrong(scene: Scene) -> dict[str, str]:
    """Tokens that prove nothing, each with what is wrong with it."""
    mine = RsaSigner(kid="invented")
    good: dict[str, Any] = {
        "iss": scene.corp.issuer,
        "aud": "tallygate",
        "sub": "ada",
        "org": "acme",
    }
    good |= {"exp": 9_999_999_999, "iat": 1}
    jwk = scene.corp.key_set()["keys"][0]
    public = pem_of(jwk)
    true = scene.corp.token("ada")
    head, body, signature = true.split(".")
    expired = scene.brief.token("carol")
    time.sleep(3.5)
    return {
        "alg none": without_signature(good),
        "the public key as a shared secret": by_shared_secret(public, good),
        "a key of another issuer": mine.token(good, kid=None),
        "an unknown key id": mine.token(good),
        "a key of its own in the header": mine.token(good, jwk=mine.jwk(), kid=jwk["kid"]),
        "for another client": scene.corp.token("ada", client_id="somebody-else"),
        "expired": expired,
        "valid in the future": scene.corp.token("early"),
        "an issuer that nobody configured": mine.token(good | {"iss": "http://127.0.0.1:1"}),
        "claims of another token": f"{head}.{scene.corp.token('bob').split('.')[1]}.{signature}",
        "one changed byte": f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
    }


def test_a_token_that_proves_nothing_gets_401_and_the_backend_sees_nothing(scene: Scene) -> None:
    """Whatever is wrong with it; the challenge says it to clients that know OAuth."""
    wrong, before = _wrong(scene), scene.calls()
    for how, token in wrong.items():
        answer = scene.chat(token)
        assert answer.status_code == 401, (how, answer.text)
        assert answer.json()["error"]["code"] == "invalid_token", how
        assert 'error="invalid_token"' in answer.headers["www-authenticate"], how
        assert answer.headers["x-should-retry"] == "false"

    assert scene.calls() == before


def test_a_token_that_names_somebody_without_a_place_gets_403(scene: Scene) -> None:
    """An organization that its issuer may not speak for, and one that is not configured; a model that is not open."""
    before = scene.calls()
    for subject in ("mallory", "nowhere"):
        answer = scene.chat(scene.corp.token(subject))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "caller_not_allowed")
    assert scene.chat(scene.corp.token("poor")).status_code == 404
    assert scene.calls() == before


def test_users_are_strangers_to_each_other(scene: Scene) -> None:
    """A job of one is found by no other, nor is it joined under the same idempotency key."""
    ada = {"authorization": f"Bearer {scene.corp.token('ada')}", "idempotency-key": "same"}
    other = {
        "authorization": f"Bearer {scene.corp.token('auth0|spent')}",
        "idempotency-key": "same",
    }
    job = scene.client.post("/jobs", json=CHAT, headers=ada)
    assert job.status_code == 202, job.text
    path = f"/jobs/{job.json()['id']}"

    assert scene.client.get(path, headers=other).status_code == 404
    assert scene.client.delete(path, headers=other).status_code == 404
    assert scene.client.get("/jobs", headers=other).json()["data"] == []
    theirs = scene.client.post("/jobs", json=CHAT, headers=other)
    assert theirs.json()["id"] != job.json()["id"]
    assert scene.client.get(path, headers=ada).status_code == 200
    assert [each["id"] for each in scene.client.get("/jobs", headers=ada).json()["data"]] == [
        job.json()["id"]
    ]


def test_the_user_org_service_says_whose_a_credential_is(scene: Scene) -> None:
    """Usage has the key that the service names; nobody is asked about what is not its kind, and it is asked once."""
    answer = scene.chat("corp_program")
    assert answer.status_code == 200, answer.text
    line = _usage_of(scene, answer.headers["x-request-id"])
    assert (line["key_id"], line["org"], line["project"]) == (
        "user-org:batch-7",
        "acme",
        "search",
    )
    assert (line["user"],) == (None,)
    before = scene.calls()
    for credential, status in (("corp_unknown", 401), ("corp_lost", 403), ("other_kind", 401)):
        assert scene.chat(credential).status_code == status, credential
    assert "other_kind" not in scene.user_org.asked()
    assert scene.calls() == before


def test_the_user_org_service_says_whose_a_user_of_a_provider_is(scene: Scene) -> None:
    """Carol's token says nothing of an organization; Dave is somebody, and nobody's."""
    carol = scene.chat(scene.brief.token("carol"))
    assert carol.status_code == 200, carol.text
    dave = scene.chat(scene.brief.token("dave"))
    assert (dave.status_code, dave.json()["error"]["code"]) == (403, "caller_not_allowed")


def test_what_the_user_org_service_said_holds_while_it_hangs_for_the_stated_time(
    scene: Scene,
) -> None:
    """Then 503, never a guess; an API key does not notice, and it goes on by itself when the service does."""
    assert scene.chat("corp_program").status_code == 200
    scene.user_org.pause()
    try:
        time.sleep(2.5)
        assert scene.chat("corp_program").status_code == 200
        began_s = time.monotonic()
        assert scene.chat(scene.stack.first_key).status_code == 200
        assert time.monotonic() - began_s < 1.0
        stranger = scene.chat("corp_stranger")
        assert (stranger.status_code, stranger.json()["error"]["code"]) == (
            503,
            "service_unavailable",
        )
        time.sleep(4.5)
        assert scene.chat("corp_program").status_code == 503
    finally:
        scene.user_org.resume()
    deadline_s = time.monotonic() + 10
    while scene.chat("corp_program").status_code != 200:
        assert time.monotonic() < deadline_s
        time.sleep(0.5)


def test_the_last_keys_hold_while_the_provider_is_away(scene: Scene) -> None:
    """Tokens that were signed before are good until they end; the provider is asked nothing for them."""
    token = scene.corp.token("ada")
    scene.corp.pause()
    try:
        began_s = time.monotonic()
        assert scene.chat(token).status_code == 200
        assert time.monotonic() - began_s < 1.0
        unknown = RsaSigner(kid="new").token(
            {"iss": scene.corp.issuer, "aud": "tallygate", "sub": "ada", "exp": 9_999_999_999}
        )
        assert scene.chat(unknown).status_code == 401
        assert scene.chat(scene.stack.first_key).status_code == 200
    finally:
        scene.corp.resume()
