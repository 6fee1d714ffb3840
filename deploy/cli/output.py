"""How commands speak: data on stdout, everything else on stderr, one exit code per kind of end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TextIO

from deploy.cli.table import Table
from deploy.terminal import console_of, say, say_json, show
from schemas.printable import one_line


class Exit(IntEnum):
    """Exit codes; they are part of the interface."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    PARTIAL = 3
    REFUSED = 4
    """The gateway answered with a 4xx status."""
    BROKEN = 5
    """The gateway answered with a 5xx status."""
    INTERRUPTED = 130


class CommandFailed(Exception):
    """The command cannot go on: what happened, why, and what to do about it."""

    def __init__(self, what: str, why: str, fix: str, code: Exit = Exit.FAILURE) -> None:
        super().__init__(what, why, fix)
        self.code = code
        self.text = f"error: {what}\n  why: {why}\n  fix: {fix}"

    def with_code(self, code: Exit) -> CommandFailed:
        """The same failure under another exit code."""
        what, why, fix = self.args
        return CommandFailed(what, why, fix, code)


@dataclass(frozen=True)
class Output:
    """Where a command writes, and whether it writes for programs."""

    data: TextIO
    story: TextIO
    as_json: bool

    def result(self, value: Mapping[str, Any], *parts: str | Table) -> None:
        """The result: the value as one JSON object, or the texts and tables one below the other."""
        if self.as_json:
            say_json(value, self.data)
            return
        for part in parts:
            console = console_of(self.data)
            if isinstance(part, str):
                say(part, self.data)
            elif console is None:
                say(part.plain(), self.data)
            else:
                show(part.rich(), console)

    def line(self, value: Mapping[str, Any]) -> None:
        """One of many JSON objects, each on a line of its own."""
        say_json(value, self.data)

    def tell(self, text: str) -> None:
        """Something for people only."""
        say(text, self.story)

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """A bar for what takes long, and the call that moves it on; only where a person watches."""
        console = console_of(self.story)
        if console is None:
            yield lambda: None
            return
        from deploy.cli.progress import bar  # noqa: PLC0415

        with bar(what, total, console) as advance:
            yield advance

    @contextmanager
    def progress_of(
        self, what: str, measure: Callable[[], tuple[int, int] | None]
    ) -> Iterator[None]:
        """A bar that asks how far it is, now and then, beside what it waits for; only where a person watches."""
        console = console_of(self.story)
        if console is None:
            yield
            return
        from deploy.cli.progress import measured_bar  # noqa: PLC0415

        with measured_bar(what, measure, console):
            yield


def shown(value: Any) -> Any:
    """A foreign value for a line of text: every text in it is one line, and can move no cursor."""
    match value:
        case str():
            return one_line(value)
        case list():
            return [shown(item) for item in value]
        case dict():
            return {one_line(str(name)): shown(item) for name, item in value.items()}
        case _:
            return value
