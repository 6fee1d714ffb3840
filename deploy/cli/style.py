"""Colour for help texts on a terminal; elsewhere they are as they were written."""

from __future__ import annotations

import sys

from deploy.terminal import console_of

_STYLES = {
    r"(?m)^ *(Usage|Arguments|Options|Commands|Examples):": "bold",
    r"(?m)(?<=[\s,])--?[a-z][\w-]*": "cyan",
}


def colored_help(text: str) -> str:
    """The text for stdout, which may be a terminal."""
    console = console_of(sys.stdout)
    if console is None:
        return text
    from rich.text import Text  # noqa: PLC0415

    styled = Text(text)
    for pattern, style in _STYLES.items():
        styled.highlight_regex(pattern, style)
    with console.capture() as captured:
        console.print(styled, soft_wrap=True, end="")
    return captured.get()
