"""The one place where the command line prints, so that nothing foreign reaches a terminal as it is.

Invariant: what a file gets that is no terminal is plain text, never cut and never coloured. A terminal
gets the same words; colour is added by what a line begins with, and only where it is wanted
(https://no-color.org, ``TERM=dumb``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TextIO

from schemas.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_LINE_END = "\r\n"
_STYLES: Final[Mapping[str, str]] = {
    r"(?m)^error:.*$": "bold red",
    r"(?m)^warning:": "bold yellow",
    r"(?m)^(problem|refused |alarm |✗)": "red",
    r"(?m)^(ok |✓)": "green",
    r"(?m)^ +(why|fix):": "bold",
    r"(?m)^\+ .*$": "green",
    r"(?m)^- .*$": "red",
    r"(?m)^~ .*$": "yellow",
    r"(?m)^difference 0$": "bold green",
    r"(?m)^difference -?[1-9]\d*$": "bold red",
}
"""What a line begins with, and its style on a terminal."""


class ReaderLeft(Exception):
    """Whoever read the output is gone, as ``head`` does when it has enough. Nobody is to blame."""


def say(text: str, file: TextIO) -> None:
    """Print the text with control characters shown as their escapes; lines and tabs stay.

    A file that cannot write a character, such as one of ASCII, gets its escape.
    Raises ``ReaderLeft`` when nobody reads the file any more.
    """
    shown = _LINE_END.join(map(printable, text.split(_LINE_END)))
    encoding = getattr(file, "encoding", None) or "utf-8"
    shown = shown.encode(encoding, "backslashreplace").decode(encoding)
    console = console_of(file)
    if console is None:
        _print(shown, file)
    else:
        show(_styled(shown), console, is_wrapped=False)


def say_json(value: Any, file: TextIO) -> None:
    """Print the value as one line of JSON in ASCII, in which no character moves a cursor."""
    _print(json.dumps(value), file)


def show(what: RenderableType, console: Console, *, is_wrapped: bool = True) -> None:
    """Print on a terminal what was cleaned before; raises ``ReaderLeft``."""
    try:
        console.print(what, soft_wrap=not is_wrapped)
    except BrokenPipeError as error:
        raise ReaderLeft from error


def console_of(file: TextIO) -> Console | None:
    """The terminal behind the file; ``None`` when there is none that can place text.

    Markup, emoji codes and links are off: what is printed is what was said.
    """
    if not file.isatty():
        return None
    # Imported here, because a pipe should not wait for what only a terminal needs.
    from rich.console import Console  # noqa: PLC0415

    off: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
    console = Console(file=file, force_terminal=True, **off)
    if console.is_dumb_terminal:
        return None
    if console.no_color:
        # Rich would still print bold and dim; who wants no colour gets no sequences at all.
        return Console(file=file, force_terminal=True, color_system=None, **off)
    return console


def _styled(text: str) -> Text:
    from rich.text import Text  # noqa: PLC0415

    styled = Text(text)
    for pattern, style in _STYLES.items():
        styled.highlight_regex(pattern, style)
    return styled


def _print(text: str, file: TextIO) -> None:
    try:
        print(text, file=file, flush=True)
    except BrokenPipeError as error:
        raise ReaderLeft from error
