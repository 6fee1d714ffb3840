"""The admin API as the commands use it: JSON in, JSON out, refusals as ``CommandFailed``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

from deploy.cli.address import Address, client_tls
from deploy.cli.output import CommandFailed, Exit
from deploy.cli.paths import entity_path
from schemas.printable import one_line
from schemas.readiness import READYZ

_SERVER_ERROR = 500
_NOT_FOUND = 404
_TIMEOUT_S = 30.0
_JSON = {"content-type": "application/json"}


class AdminClient:
    """One gateway's admin API. Not reached: exit code 1; refused: 4; broken: 5."""

    def __init__(self, address: Address, transport: httpx.BaseTransport | None = None) -> None:
        self.url = address.url or ""
        # No proxy from the environment: it would read what administrators say.
        self._http = httpx.Client(
            base_url=self.url,
            timeout=_TIMEOUT_S,
            transport=transport,
            trust_env=False,
            verify=client_tls(address) or False,
        )

    def get(
        self, path: str, params: Mapping[str, str] | None = None, timeout_s: float = _TIMEOUT_S
    ) -> Any:
        """The answer to a GET."""
        return _json(self._send("GET", path, params=params, timeout=timeout_s))

    def components(self) -> dict[str, str]:
        """What the control plane needs, each with its state; it tells that whatever is missing."""
        document = self._send("GET", str(httpx.URL(self.url).join(READYZ))).json()
        return {str(name): str(state) for name, state in document.get("components", {}).items()}

    def entity(self, kind: str, entity_id: str) -> dict[str, Any] | None:
        """One entity with its version; ``None`` when it does not exist."""
        answer = self._send("GET", entity_path(kind, entity_id))
        if answer.status_code == _NOT_FOUND:
            return None
        entity: dict[str, Any] = _json(answer)
        return entity

    def put_over(
        self, kind: str, entity_id: str, current: Mapping[str, Any] | None, body: Mapping[str, Any]
    ) -> Any:
        """Replaces the entity that was read as ``current``; refused when it changed meanwhile."""
        version = 0 if current is None else current["version"]
        headers = _JSON | {"if-match": str(version)}
        path = entity_path(kind, entity_id)
        return _json(self._send("PUT", path, content=json.dumps(dict(body)), headers=headers))

    def delete_over(self, kind: str, entity_id: str, current: Mapping[str, Any] | None) -> Any:
        """Deletes the entity that was read as ``current``; refused when it changed meanwhile."""
        version = 0 if current is None else current["version"]
        headers = {"if-match": str(version)}
        return _json(self._send("DELETE", entity_path(kind, entity_id), headers=headers))

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to a PUT, whatever stood there before."""
        return _json(self._send("PUT", path, content=json.dumps(dict(body)), headers=_JSON))

    def delete(self, path: str) -> Any:
        """The answer to a DELETE."""
        return _json(self._send("DELETE", path))

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = _TIMEOUT_S
    ) -> Any:
        """The answer to a POST."""
        content = json.dumps(dict(body or {}))
        return _json(self._send("POST", path, content=content, headers=_JSON, timeout=timeout_s))

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise _away(self.url, error) from error


def _away(url: str, error: httpx.HTTPError) -> CommandFailed:
    """The failure that is no answer: nobody is there, or somebody who speaks TLS and breaks off."""
    why = f"{type(error).__name__}: {error}"
    has_broken_off = isinstance(
        error, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError
    )
    if url.startswith("https:") and (has_broken_off or "SSL" in why):
        fix = (
            "name a certificate that it trusts (--cert, --cert-key), and who vouches for it (--ca)"
        )
        return CommandFailed(f"no TLS with the control plane at {url}", why, fix)
    hint = ", with https:// if its port speaks TLS" if has_broken_off else ""
    return CommandFailed(
        f"the control plane at {url} is away",
        f"{why}; requests are served without it",
        "start it with `tallygate admin`, everything with `tallygate up`, or name another with --url"
        + hint,
    )


def _json(answer: httpx.Response) -> Any:
    if answer.is_success:
        return answer.json()
    raise refused(answer)


def refused(answer: httpx.Response) -> CommandFailed:
    """The failure that a 4xx or 5xx answer stands for."""
    try:
        problem = answer.json()
        what, why, code = problem["title"], problem["detail"], problem["code"]
    except (ValueError, KeyError, TypeError):
        what, why, code = f"HTTP {answer.status_code}", answer.text[:300], ""
    exit_code = Exit.BROKEN if answer.status_code >= _SERVER_ERROR else Exit.REFUSED
    return CommandFailed(one_line(str(what)), one_line(str(why)), _fix(code, why), exit_code)


def _fix(code: str, why: str) -> str:
    if code == "reference_conflict" and "organization '" in why:
        org = why.partition("organization '")[2].partition("'")[0]
        return f"create it first: tallygate orgs set {org}"
    fixes = {
        "reference_conflict": "change or remove first what is named above",
        "version_conflict": "run the command again; it starts from the newest version",
        "certificate_unknown": "have the certificate's identity put into the file of roles, or use another",
        "role_not_allowed": "ask who has the role, or have yours changed in the file of roles",
        "not_found": "check the name with the list command",
        "service_unavailable": "run `tallygate doctor`, then try again",
    }
    return fixes.get(code, "correct what is named above and try again")
