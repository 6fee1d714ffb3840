"""``tallygate routes``: override a model's route for a while, restore it, say what a request would do now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeAlias

import typer

from deploy.cli.command import Call, command, given, noun
from deploy.cli.commands.models import target
from deploy.cli.options import decimal, rate, whole
from deploy.cli.output import CommandFailed, Exit, shown
from deploy.cli.overriding import (
    OverrideOptions,
    override_path,
    overrides_table,
    put_in_force,
    tell_applied,
)
from deploy.cli.paths import entity_path

_Model: TypeAlias = Annotated[str, typer.Argument(metavar="MODEL", help="whose route it is")]
_Backend: TypeAlias = Annotated[
    str, typer.Argument(metavar="BACKEND", help="as in `tallygate backends list`")
]

APP = noun("routes", "Overrides of routes: pin, weights, canary, timeout, retries, drain.")


def share(text: str | tuple[str, float]) -> tuple[str, float]:
    """``BACKEND=PERCENT``. Raises ``ValueError``."""
    if not isinstance(text, str):
        return text
    backend, _, percent = text.rpartition("=")
    if not backend:
        raise ValueError(f"{text} is no BACKEND=PERCENT")
    return backend, decimal(percent)


@command(APP, "list", "tallygate routes list", "tallygate routes list --json")
def show(call: Call) -> int:
    """List overrides: until when, by whom, why, in force or not."""
    found = call.admin().get("/overrides")
    none = "nothing is overridden"
    call.output.result(found, overrides_table(found["items"]) if found["items"] else none)
    return Exit.OK


@command(
    APP,
    "pin",
    "tallygate routes pin echo gpu-1 --for 2h --reason 'gpu-2 answers nonsense'",
    "tallygate routes pin echo gpu-1 --until 2026-11-27T06:00:00Z",
)
def pin(call: Call, model: _Model, backend: _Backend, *, options: OverrideOptions) -> int:
    """Send all requests of a model to one backend of its route.

    There is no fallback: while that backend is down, requests end with 503.
    """
    return put_in_force(call, "pin", model, options, backend=backend)


@command(APP, "weights", "tallygate routes weights echo gpu-1=9 gpu-2=1 --for 30m")
def weights(
    call: Call,
    model: _Model,
    wanted: Annotated[
        list[Any],
        typer.Argument(
            parser=target,
            metavar="BACKEND=WEIGHT...",
            help="others keep theirs; 0: only as fallback",
        ),
    ],
    *,
    options: OverrideOptions,
) -> int:
    """Weigh the backends of a model's route anew."""
    by_backend = {each["backend"]: each["weight"] for each in wanted}
    return put_in_force(call, "weights", model, options, weights=by_backend)


@command(APP, "canary", "tallygate routes canary echo gpu-new=5 --for 1h")
def canary(
    call: Call,
    model: _Model,
    wanted: Annotated[
        Any, typer.Argument(parser=share, metavar="BACKEND=PERCENT", help="such as gpu-new=5")
    ],
    *,
    options: OverrideOptions,
) -> int:
    """Give one backend of a route a fixed share of the requests.

    The others share the rest by weight. It never gets more while another can be called.
    """
    backend, percent = wanted
    return put_in_force(call, "canary", model, options, backend=backend, percent=percent)


@command(APP, "timeout", "tallygate routes timeout echo 20 --for 1d")
def timeout(
    call: Call,
    model: _Model,
    seconds: Annotated[float, typer.Argument(parser=rate, metavar="SECONDS", help="600 at most")],
    *,
    options: OverrideOptions,
) -> int:
    """Bound how long an answer may take and a stream be silent.

    It holds instead of what the backends state.
    """
    return put_in_force(call, "timeout", model, options, timeout_s=seconds)


@command(APP, "retries", "tallygate routes retries echo 0 --for 15m")
def retries(
    call: Call,
    model: _Model,
    number: Annotated[int, typer.Argument(parser=whole, metavar="N", help="0 or 1")],
    *,
    options: OverrideOptions,
) -> int:
    """Say how many more backends are called after one that failed."""
    return put_in_force(call, "retries", model, options, retries=number)


@command(APP, "drain", "tallygate routes drain gpu-1 --for 2h --reason 'new driver'")
def drain(call: Call, backend: _Backend, *, options: OverrideOptions) -> int:
    """Send a backend nothing new; what runs there ends in order."""
    return put_in_force(call, "drain", backend, options)


@command(
    APP,
    "restore",
    "tallygate routes restore echo",
    "tallygate routes restore echo --only canary",
    "tallygate routes restore gpu-1",
)
def restore(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="a model, or a drained backend")],
    *,
    only: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="pin, weights, canary, timeout, retries or drain"),
    ] = None,
) -> int:
    """End overrides: what was declared is in force again.

    All of a model, the drain of a backend, or both where they have the same name.
    """
    admin = call.admin()
    items = [
        item
        for item in admin.get("/overrides")["items"]
        if item["id"] == name and only in (None, item["kind"])
    ]
    if not items:
        raise CommandFailed(
            f"nothing of {name} is overridden" if only is None else f"{name} has no {only}",
            "neither a model's route nor a backend of that name",
            "`tallygate routes list` shows what is; `tallygate backends restore` ends a declared drain",
            Exit.REFUSED,
        )
    answers = [admin.delete(override_path(item["kind"], name)) for item in items]
    waits_ms = [answer["applied_after_ms"] for answer in answers]
    answer = {
        "restored": answers,
        "applied": all(answer["applied"] for answer in answers),
        "applied_after_ms": None if None in waits_ms else sum(waits_ms),
        "warnings": answers[-1]["warnings"],
    }
    kinds = ", ".join(item["kind"] for item in items)
    return tell_applied(call, answer, f"{kinds} of {shown(name)} ended")


@command(
    APP,
    "explain",
    "tallygate routes explain echo",
    "tallygate routes explain echo --org acme --key key_0190a7c2",
)
def explain(
    call: Call,
    model: _Model,
    *,
    org: Annotated[str | None, typer.Option(metavar="ORG", help="whose request it is")] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY_ID", help="with which key")] = None,
) -> int:
    """Say what a request would do now, and why.

    Each dispatcher tells how it sees the backends. Exit code 3 when a dispatcher would call nobody.
    """
    found = call.admin().get(entity_path("routes", model), params=given(org=org, key=key))
    call.output.result(found, *_lines(shown(found)))
    ends = [found["refused"], *(each["refused"] for each in found["dispatchers"])]
    return Exit.PARTIAL if any(ends) or not found["dispatchers"] else Exit.OK


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield from found["steps"]
    for each in found["dispatchers"]:
        age = "" if each["age_ms"] is None else f", as of {each['age_ms'] / 1_000:.1f} s ago"
        yield f"{each['instance']}{age}:"
        yield from (f"  {step}" for step in each["steps"])
