"""`make counted-errors`: each row of the table of errors is caused from outside, and what the processes count is what the client has counted.

The client's count is the oracle: operation by the path that it asked, status and code as it read them. All rows are caused for
real, a minute and a half: a store and a broker hang, records are cut from the log, a sum of the ledger is spoilt, an identity
provider signs. Exit code 1 when a row was not caused, or a count differs.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from deploy.embedded.admin_tls import (
    admin_certificates,
    ensure_admin_certificates,
)
from deploy.embedded.seed import EXAMPLE_PRICES
from schemas.admin_roles import Role
from schemas.errors import ERRORS, ErrorCode
from tests.chaos.counting_client import Answers, Client
from tests.chaos.error_causes import CAUSES, NARROW_MODEL
from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.harness.gateway_client import MODEL
from tests.support.harness.identity_provider import running_provider
from tests.support.harness.running_stack import running_stack
from tests.support.samples import samples

_SETTLED_S: Final = 1.0
_SLOW: Final = (ErrorCode.BODY_TOO_SLOW, ErrorCode.HEADERS_TOO_SLOW)
"""Caused beside the others, because nothing happens while they are waited for."""
_BREAKS: Final = (
    ErrorCode.RESULT_LOST,
    ErrorCode.BODY_LOST,
    ErrorCode.INTERNAL_ERROR,
    ErrorCode.SERVICE_UNAVAILABLE,
)
"""Caused last and alone: what they break is everybody's."""
_UNCOUNTED: Final = frozenset({"status", "metrics", "admin"})
"""Operations whose successes are nobody's here: readiness that is asked for, configuration that is written."""
_CALLERS: Final = """
[[oidc]]
name = "corp"
issuer = "{issuer}"
audience = "tallygate"
algorithms = ["RS256"]
org_claim = "org"
orgs = ["acme"]
models_claim = "models"
id_tokens = true
"""
_USERS: Final = [
    {"sub": "ada", "org": "acme", "models": [MODEL]},
    {"sub": "mallory", "org": "globex", "models": [MODEL]},
]


@contextmanager
def _client(folder: Path) -> Iterator[Client]:
    """On a stack with an identity provider and an admin port with certificates, one of whose holders has no role."""
    state = folder / "state"
    state.mkdir()
    ensure_admin_certificates(state)
    certificates = admin_certificates(state)
    roles = certificates.roles.read_text().splitlines(keepends=True)
    certificates.roles.write_text("".join(x for x in roles if not x.startswith(Role.FINANCE)))
    with (
        running_backend("fake", folder / "calls.jsonl") as backend,
        running_provider(folder / "provider.log", _USERS) as provider,
    ):
        callers = folder / "callers.toml"
        callers.write_text(_CALLERS.format(issuer=provider.issuer))
        environment = {"TALLYGATE_CALLERS_FILE": str(callers)}
        with (
            running_stack(state, [backend], environment=environment, options=["--mtls"]) as stack,
            httpx.Client(
                base_url=stack.admin_url,
                timeout=30,
                trust_env=False,
                verify=certificates.client_context(),
            ) as admin,
        ):
            _configure(admin, backend)
            yield Client(stack, admin, provider, certificates)


def _configure(admin: httpx.Client, backend: RunningBackend) -> None:
    narrow = {"url": backend.url, "max_concurrency": 1}
    admin.put("/backends/counted-narrow", json=narrow).raise_for_status()
    for model, name in ((MODEL, backend.name), (NARROW_MODEL, "counted-narrow")):
        body = {"backends": [{"backend": name, "weight": 1}], **EXAMPLE_PRICES}
        admin.put(f"/models/{model}", json=body).raise_for_status()
    admin.put("/orgs/acme", json={}).raise_for_status()
    time.sleep(_SETTLED_S)


def _counted(client: Client) -> Answers:
    """All answers that the processes have counted."""
    found: Answers = Counter()
    admin = client.stack.admin_url.removesuffix("/admin/v1")
    context = client.certificates.client_context()
    for url in (client.root, admin):
        page = httpx.get(f"{url}/metrics", timeout=10, trust_env=False, verify=context)
        for (name, labels), count in samples(page.raise_for_status().text).items():
            by = dict(labels)
            if name == "tallygate_requests_total" and (
                by["code"] or by["operation"] not in _UNCOUNTED
            ):
                found[by["operation"], by["status"], by["code"]] += int(count)
    return found


def _cause(client: Client, code: ErrorCode) -> None:
    try:
        CAUSES[code](client)
    except (OSError, httpx.HTTPError, ValueError, KeyError, TimeoutError) as error:
        print(f"{code}: {error!r}", flush=True)


def run(folder: Path) -> int:
    """Cause all, compare, print a row for each kind of answer."""
    with _client(folder) as client:
        before, began_s = _counted(client), time.monotonic()
        slow = [threading.Thread(target=_cause, args=(client, code)) for code in _SLOW]
        for thread in slow:
            thread.start()
        for code in CAUSES:
            if code not in (*_SLOW, *_BREAKS):
                _cause(client, code)
        for thread in slow:
            thread.join()
        for code in _BREAKS:
            _cause(client, code)
        time.sleep(_SETTLED_S)
        counted = _counted(client)
        counted.subtract(before)
        seconds = time.monotonic() - began_s
    print(
        "| operation | status | code | client was told | processes counted |\n|---|---|---|---|---|"
    )
    for row in sorted({*client.told, *(row for row, n in counted.items() if n)}):
        is_equal = counted[row] == client.told[row]
        mark = "" if is_equal else " **DIFFERENT**"
        print(f"| {' | '.join(row)} | {client.told[row]} | {counted[row]}{mark} |")
    caused = {code for _, _, code in client.told}
    missing = [code for code in ERRORS if code not in caused]
    is_equal = {row: n for row, n in counted.items() if n} == dict(client.told)
    print(
        f"{len(ERRORS) - len(missing)} of {len(ERRORS)} rows caused by {client.told.total()} requests in {seconds:.0f} s;"
        f" not caused: {', '.join(missing) or 'none'}; counts are {'equal' if is_equal else 'DIFFERENT'}"
    )
    return 0 if is_equal and not missing else 1


def main() -> int:
    """In a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="tallygate-counted-") as folder:
        return run(Path(folder))


if __name__ == "__main__":
    sys.exit(main())
