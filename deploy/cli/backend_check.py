"""``tallygate backends check``: asks a backend the questions of the conformance kit, tells, and writes what it learned."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from typing import Any

import yaml

from deploy.cli.backend_check_options import CheckOptions
from deploy.cli.command import Call
from deploy.cli.output import CommandFailed, Exit, shown
from deploy.cli.table import table
from deploy.conformance.asking import Bounds, Report, check
from deploy.conformance.entry import Entry, entry_of
from deploy.conformance.names import backend_id, is_id
from deploy.conformance.questions import about_limits, about_models, about_rest, spend
from deploy.desired_state.views import written_fields
from schemas.backend_url import url_problem
from schemas.runtime.process.secret_files import FILE, read_value

_COLUMNS = ("about", "says", "detail")


def run_check(call: Call, address: str, options: CheckOptions) -> int:
    """Ask, tell, write. Raises ``CommandFailed`` where the address, the id or the key cannot be used."""
    url = address.rstrip("/")
    backend = options.name or backend_id(url)
    key = _key(options.key_env)
    _judge(url, backend)
    call.output.tell(_announced(url, options))
    report = _asked(call, url, key, options)
    entry = entry_of(
        url, backend, options.key_env, report.model, report.findings, options.context_tokens
    )
    written = _write(call, backend, entry) if options.write else []
    call.output.result(
        _document(url, backend, report, entry, written),
        table(_COLUMNS, map(asdict, report.findings)),
        f"\n{_yaml(backend, entry)}",
    )
    used = f"it counted {report.used_input_tokens} tokens in and {report.used_output_tokens} out"
    for line in (used, *entry.notes, *(f"{each} is written" for each in written)):
        call.output.tell(str(shown(line)))
    return _exit(report)


def _key(variable: str | None) -> str | None:
    """The key, which never stands on a command line: others see those."""
    if variable is None:
        return None
    try:
        key = (read_value(os.environ, variable) or "").strip()
    except ValueError as error:
        what = f"the key in {variable}{FILE} cannot be used"
        raise CommandFailed(what, str(error), "name a file that holds it", Exit.USAGE) from error
    if not key:
        what = f"the variable {variable} is not set"
        fix = f"export {variable}=..., in the shell of this command"
        raise CommandFailed(what, "it was named with --key-env", fix, Exit.USAGE)
    return key


def _judge(url: str, backend: str) -> None:
    if not url.startswith(("http://", "https://")):
        problem: str | None = "it has no http:// or https://"
    else:
        problem = url_problem(url)
    if problem:
        fix = "write it like OPENAI_BASE_URL: http://host:8000/v1"
        raise CommandFailed(f"{shown(url)} is no address of a backend", problem, fix, Exit.USAGE)
    if not is_id(backend):
        why = "letters, digits and . _ : / @ - only, a letter or digit first"
        raise CommandFailed(
            f"{shown(backend)} can be no id", why, "name another with --name", Exit.USAGE
        )


def _announced(url: str, options: CheckOptions) -> str:
    model = options.model or "the first model that it lists"
    cost = spend(
        [
            about_models(),
            *about_limits(model),
            *about_rest(model, "max_tokens", options.context_tokens),
        ]
    )
    return (
        f"asking {shown(url)} {cost.questions} questions: at most {cost.output_tokens} tokens of output and"
        f" {cost.input_tokens} of input of {shown(model)}, if it keeps to the bounds that are stated"
    )


def _asked(call: Call, url: str, key: str | None, options: CheckOptions) -> Report:
    bounds = Bounds(question_s=options.within_s, idle_s=options.idle_s)
    with call.output.progress("asking the backend"):
        return asyncio.run(
            check(
                url,
                key=key,
                model=options.model,
                context_tokens=options.context_tokens,
                bounds=bounds,
            )
        )


def _write(call: Call, backend: str, entry: Entry) -> list[str]:
    """What was written, in order: a model names its backend. Fields that nobody learned stay as they are."""
    admin = call.admin()
    current = admin.entity("backends", backend)
    admin.put_over(
        "backends", backend, current, written_fields(current or {}) | dict(entry.backend)
    )
    if entry.model is None or entry.model_name is None:
        return [f"backends/{backend}"]
    current = admin.entity("models", entry.model_name)
    known = written_fields(current or {})
    others = [each for each in known.get("backends", ()) if each["backend"] != backend]
    route = {"backends": [*others, *entry.model["backends"]]}
    admin.put_over("models", entry.model_name, current, known | dict(entry.model) | route)
    return [f"backends/{backend}", f"models/{entry.model_name}"]


def _entries(backend: str, entry: Entry) -> dict[str, Any]:
    entries: dict[str, Any] = {"backends": {backend: dict(entry.backend)}}
    if entry.model is not None and entry.model_name is not None:
        entries["models"] = {entry.model_name: dict(entry.model)}
    return entries


def _yaml(backend: str, entry: Entry) -> str:
    """The entries as a part of tallygate.yaml."""
    return yaml.safe_dump(_entries(backend, entry), sort_keys=False).rstrip()


def _document(
    url: str, backend: str, report: Report, entry: Entry, written: list[str]
) -> dict[str, Any]:
    return {
        "url": url,
        "model": report.model,
        "listed": list(report.listed),
        "findings": [asdict(finding) for finding in report.findings],
        "used": {
            "input_tokens": report.used_input_tokens,
            "output_tokens": report.used_output_tokens,
        },
        "entries": _entries(backend, entry),
        "notes": list(entry.notes),
        "written": written,
    }


def _exit(report: Report) -> Exit:
    says = {finding.about: finding.says for finding in report.findings}
    if says.get("chat") != "yes":
        return Exit.FAILURE
    return Exit.OK if says.get("usage") == "yes" else Exit.PARTIAL
