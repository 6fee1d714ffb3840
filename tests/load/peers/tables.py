"""The comparison as two tables: medians of each gateway, and how many times better or worse Tallygate is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from tests.load.peers.gateways import BACKEND, TALLYGATE, Gateway
from tests.load.peers.rounds import Figures

COLUMNS: Final[Mapping[str, str]] = {
    "c1.rate": "1 connection, requests/s",
    "c8.rate": "8 connections, requests/s",
    "c64.rate": "64 connections, requests/s",
    "c64.p50_ms": "64 connections, p50 ms",
    "open50.p50_ms": "50/s open, p50 ms",
    "open50.p99_ms": "50/s open, p99 ms",
    "stream.first_p50_ms": "first token at 50/s, p50 ms",
    "stream.whole_p50_ms": "whole stream at 50/s, p50 ms",
    "1k.rate": "prompts of 1k tokens, requests/s",
    "10k.rate": "prompts of 10k tokens, requests/s",
    "100k.rate": "prompts of 100k tokens, requests/s",
    "hol.alone_p99_ms": "small at 20/s, p99 ms",
    "hol.large_p99_ms": "small beside 100k-token prompts, p99 ms",
    "flood.p99_ms": "small beside 200/s of wrong keys, p99 ms",
    "c64.own_cpu_ms": "CPU ms a request at 64, without broker and stores",
    "c64.cpu_ms": "CPU ms a request at 64, with them",
    "rss_mib": "memory MiB, all processes",
}
"""What is shown, in order. Of rates more is better, of everything else less."""


def cost_usd(cpu_ms: float, usd_a_core_hour: float) -> float:
    """What the CPU of a million requests costs."""
    return cpu_ms / 1_000 * 1_000_000 / 3_600 * usd_a_core_hour


def medians(rounds: Sequence[Figures]) -> Figures:
    """Of each figure over the rounds that have it."""
    return {
        name: median(each[name] for each in rounds if name in each)
        for name in dict.fromkeys(name for each in rounds for name in each)
    }


def ratio(column: str, ours: float, theirs: float) -> float:
    """How many times better ours is; below 1 it is worse."""
    better, worse = (ours, theirs) if column.endswith(".rate") else (theirs, ours)
    return better / worse if worse else float("inf")


def render(
    found: Mapping[Gateway, Sequence[Figures]],
    missing: Mapping[Gateway, str],
    usd_a_core_hour: float,
) -> str:
    """Both tables as Markdown; a gateway that could not be had has its reason."""
    known = {gateway: medians(rounds) for gateway, rounds in found.items() if any(rounds)}
    names = [gateway.name for gateway in known]
    rows = [["", *names], ["---"] * (len(names) + 1)]
    rows.append(["keys checked", *("yes" if each.checks_keys else "no" for each in known)])
    rows.append(["books kept", *("yes" if each.keeps_books else "no" for each in known)])
    for column, about in COLUMNS.items():
        rows.append([about, *(_cell(figures.get(column)) for figures in known.values())])
    about = f"CPU of a million requests, USD at {usd_a_core_hour:g} a core hour"
    costs = [figures.get("c64.cpu_ms") for figures in known.values()]
    told = [None if cost is None else cost_usd(cost, usd_a_core_hour) for cost in costs]
    rows.append([about, *map(_cell, told)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines += [f"\n{gateway.name}: not measured: {why}" for gateway, why in missing.items()]
    return "\n".join([*lines, "", *_ratios(known)])


def _ratios(known: Mapping[Gateway, Figures]) -> list[str]:
    ours = known.get(TALLYGATE)
    peers = {each: figures for each, figures in known.items() if each not in (TALLYGATE, BACKEND)}
    if ours is None or not peers:
        return []
    rows = [["Tallygate is so many times better (below 1: worse)", *(each.name for each in peers)]]
    rows.append(["---"] * (len(peers) + 1))
    for column, about in COLUMNS.items():
        if column in ours:
            cells = [
                _cell(ratio(column, ours[column], figures[column])) if column in figures else "-"
                for figures in peers.values()
            ]
            rows.append([about, *cells])
    return ["| " + " | ".join(row) + " |" for row in rows]


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
