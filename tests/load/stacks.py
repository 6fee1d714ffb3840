"""Stack samples of a process, as py-spy records them, summed up by function, package and thread."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

OWN: Final = ("ingress", "limiter_worker", "dispatcher", "accounting", "schemas")
_FRAME: Final = re.compile(r"^(?P<function>.+) \((?P<file>[^()]+?)(?::\d+)?\)$")
_THREAD: Final = re.compile(r"^thread \([^)]*\)(?:: (?P<name>.*))?$")


@dataclass(frozen=True, slots=True)
class Profile:
    """Samples of one process while it used a core: in all, where it was, and what was under way."""

    samples: int
    by_function: Counter[str]
    """The function that ran, with its file; native code counts for the Python function that called it."""
    by_package: Counter[str]
    own_total: Counter[str]
    """Functions of this repository, with everything that they called."""
    by_thread: Counter[str]


def read_stacks(lines: Iterable[str]) -> Profile:
    """Sum up the raw format: frames from the outside in, separated by semicolons, and a count."""
    by_function, by_package = Counter[str](), Counter[str]()
    own_total, by_thread = Counter[str](), Counter[str]()
    for line in lines:
        stack, _, count = line.strip().rpartition(" ")
        if not stack:
            continue
        first, *rest = stack.split(";")
        thread = _THREAD.match(first)
        frames = list(_frames(rest if thread else [first, *rest]))
        if not frames:
            continue
        samples = int(count)
        by_thread[(thread and thread["name"]) or "?"] += samples
        function, file = frames[-1]
        by_function[f"{function} ({file})"] += samples
        by_package[package_of(file)] += samples
        for function, file in {frame for frame in frames if _is_telling(frame[1])}:
            own_total[f"{function} ({file})"] += samples
    return Profile(by_function.total(), by_function, by_package, own_total, by_thread)


def package_of(file: str) -> str:
    """The folder of a module of this repository; of others the package."""
    if is_own(file):
        return file.rpartition("/")[0]
    first, slash, _ = file.partition("/")
    return first if slash else "the interpreter and single modules"


def is_own(file: str) -> bool:
    """Whether the file is one of this repository's packages."""
    return file.partition("/")[0] in OWN


def _is_telling(file: str) -> bool:
    """Not what starts a process: everything is below it."""
    return is_own(file) and not file.endswith(("/__main__.py", "/process/run.py"))


def render_profile(name: str, profile: Profile, most: int = 12) -> str:
    """The shares of one process as Markdown."""
    threads = ", ".join(
        f"{thread} {_share(count, profile)}" for thread, count in profile.by_thread.most_common(4)
    )
    columns = (
        profile.by_function.most_common(most),
        profile.by_package.most_common(most),
        profile.own_total.most_common(most),
    )
    lines = [
        f"## {name}",
        f"{profile.samples} samples; threads: {threads}.",
        "",
        "| self, by function | self, by package | with all that it calls, own functions |",
        "|---|---|---|",
    ]
    for rank in range(most):
        cells = [
            f"{_share(column[rank][1], profile)} `{column[rank][0]}`" if rank < len(column) else ""
            for column in columns
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _share(count: int, profile: Profile) -> str:
    return f"{count / profile.samples:.1%}"


def _frames(stack: Iterable[str]) -> Iterator[tuple[str, str]]:
    for frame in stack:
        if (parts := _FRAME.match(frame)) is not None:
            yield parts["function"], parts["file"]
