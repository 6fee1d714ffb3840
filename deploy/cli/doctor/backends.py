"""Judges backends, routes and prices. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deploy.cli.doctor.facts import Backend, Entry, Gateway, Model
from deploy.cli.doctor.finding import Finding, found, quoted, shown

__all__ = ["of_backends", "other_addresses"]

_UNAUTHORIZED: Final = "status 401"
NO_LIST: Final = "status 404"
_NOT_THERE: Final = frozenset({"no such host", "no TLS there", "connection refused"})
_DOWN: Final = frozenset({"unhealthy", "open"})
_SHOWN_MAX: Final = 5


def of_backends(gateway: Gateway) -> list[Finding]:
    """Whether each backend can be called as it is configured, and each model sold."""
    backends = [each for each in gateway.backends if not each.is_drained]
    checks = {
        "backend key": (f for each in backends for f in _keys(each)),
        "backend 401": (f for each in backends for f in _unauthorized(each)),
        "backend url": (f for each in backends for f in _addresses(each, gateway)),
        "backend": (f for each in backends for f in _unhealthy(each)),
    }
    findings = [
        finding
        for check, problems in checks.items()
        for finding in found(check, problems, f"nothing speaks against {len(backends)} backends")
    ]
    findings += found("model", _without_backend(gateway), f"{len(gateway.models)} have a backend")
    return findings + found("price", _unpriced(gateway), "wherever a budget applies")


def other_addresses(url: str) -> list[str]:
    """Where a list of models may be, if it is not at the address: with, without and with another version."""
    bare = url.rstrip("/")
    parent = bare.rpartition("/")[0]
    has_path = parent.count("/") > 1
    tried = [f"{bare}/v1", *([f"{parent}/v1", parent] if has_path else [])]
    return [each for each in dict.fromkeys(tried) if each != bare]


def _keys(backend: Backend) -> Iterator[Finding]:
    lacking = [seen.instance for seen in backend.health if seen.lacks_key]
    if lacking and backend.api_key_env:
        text = f"{backend.api_key_env} is not set in {shown(lacking)}: it is called without a key"
        run = f"{backend.api_key_env}_FILE=key tallygate dispatcher  # a file with the key"
        yield Finding("backend key", backend.id, text, run)


def _unauthorized(backend: Backend) -> Iterator[Finding]:
    seen = [
        each.instance
        for each in backend.health
        if each.probe == _UNAUTHORIZED and not each.lacks_key
    ]
    if seen:
        what = f"the key in {backend.api_key_env}" if backend.api_key_env else "a call without key"
        yield Finding(
            "backend 401", backend.id, f"it refuses {what} ({shown(seen)})", _ask(backend)
        )


def _addresses(backend: Backend, gateway: Gateway) -> Iterator[Finding]:
    probes = {seen.probe for seen in backend.health}
    if reason := sorted(probes & _NOT_THERE):
        text = f"{backend.url}: {shown(reason)}; is it written as it should be?"
        yield Finding("backend url", backend.id, text, _ask(backend))
    elif NO_LIST in probes and (other := gateway.listed_at.get(backend.id)):
        text = f"{backend.url} has no models, and {other} has"
        run = quoted("tallygate", "backends", "check", other, "--name", backend.id, "--write")
        yield Finding("backend url", backend.id, text, run)


def _unhealthy(backend: Backend) -> Iterator[Finding]:
    """What the others have not said yet."""
    bad = [seen for seen in backend.health if seen.state in _DOWN and seen.probe not in _NOT_THERE]
    if bad:
        said = shown(sorted({each.probe or each.state for each in bad}))
        yield Finding("backend", backend.id, f"unhealthy: {said}", _ask(backend), may_pass=True)


def _ask(backend: Backend) -> str:
    words = ["tallygate", "backends", "check", backend.url, "--name", backend.id]
    if backend.api_key_env:
        words += ["--key-env", backend.api_key_env]
    return quoted(*words)


def _without_backend(gateway: Gateway) -> Iterator[Finding]:
    known = {each.id: each for each in gateway.backends}
    for model in gateway.models:
        used = [known[t.backend] for t in model.backends if t.backend in known and t.weight]
        reasons = [_why_not(each) for each in used]
        if all(reasons):
            told = [f"{b.id} {why}" for b, why in zip(used, reasons, strict=True)][:_SHOWN_MAX]
            text = f"no backend: {shown(told) or 'none is on its route'}; requests end with 503"
            run = quoted("tallygate", "routes", "explain", model.id)
            yield Finding("model", model.id, text, run, may_pass=True)


def _why_not(backend: Backend) -> str:
    """Why the backend is called for nothing; empty where it is, or nobody reports."""
    if backend.is_drained:
        return "is drained"
    states = {seen.state for seen in backend.health}
    return "is down" if states and states <= _DOWN else ""


def _unpriced(gateway: Gateway) -> Iterator[Finding]:
    for model in gateway.models:
        orgs = [] if model.has_price else _orgs_with_budget(gateway, model)
        if orgs:
            text = f"no price, and budgets of {shown(orgs[:_SHOWN_MAX])} apply: 403 model_unpriced"
            own = ("--input-usd-per-mtok", "0.50", "--output-usd-per-mtok", "1.50")
            run = quoted("tallygate", "models", "set", model.id, *own) + "  # with its own prices"
            yield Finding("price", model.id, text, run)


def _orgs_with_budget(gateway: Gateway, model: Model) -> list[str]:
    """Organizations that somebody may use the model of, with a budget over it."""
    of = {kind: {each.id: each for each in found_} for kind, found_ in gateway.principals.items()}
    keys = [key for key in of.get("keys", {}).values() if key.revoked_at_ms is None]

    def counts(key: Entry) -> bool:
        over = (("orgs", key.org), ("projects", key.project), ("users", key.user))
        entries = [of.get(kind, {}).get(name) for kind, name in over if name is not None]
        return key.has_budget or any(entry.has_budget for entry in entries if entry is not None)

    found_ = {key.org for key in keys if counts(key) and model.id in (key.models or (model.id,))}
    # Whom an identity provider vouches for needs no key, and may use any model.
    with_keys = {key.org for key in keys}
    found_ |= {
        org.id for org in of.get("orgs", {}).values() if org.has_budget and org.id not in with_keys
    }
    return sorted(org for org in found_ if org is not None)
